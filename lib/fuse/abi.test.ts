import t from 'tap'
import * as abi from './abi.js'
import { METRIC_OF_OPCODE } from './counters.js'
import { checkRingLayout, ringLayout } from './ring.js'

t.test('structs have the sizes of the kernel', async t => {
  const sizes: [{ readonly size: number }, number][] = [
    [abi.InHeader, 40],
    [abi.OutHeader, 16],
    [abi.InitIn, 64],
    [abi.InitOut, 64],
    [abi.Attr, 88],
    [abi.EntryOut, 128],
    [abi.AttrOut, 104],
    [abi.OpenOut, 16],
    [abi.StatfsOut, 80],
    [abi.StatxOut, 288],
    [abi.Statx, 256],
    [abi.Dirent, 24],
    [abi.Direntplus, 152],
  ]
  for (const [struct, size] of sizes) t.equal(struct.size, size)
})

t.test('fields lie where the kernel looks for them', async t => {
  t.match(abi.Attr.at, { mode: 60, nlink: 64, rdev: 76, blksize: 80, flags: 84 })
  t.match(abi.EntryOut.at, { entryValidNsec: 32, attr: 40 })
  t.match(abi.InitOut.at, {
    flags: 12,
    maxWrite: 20,
    maxPages: 28,
    flags2: 32,
    maxStackDepth: 36,
    requestTimeout: 40,
  })
  t.match(abi.Statx.at, {
    ino: 32,
    atime: 64,
    btime: 80,
    ctime: 96,
    mtime: 112,
    rdevMajor: 128,
    devMajor: 136,
  })
  t.match(abi.ReadIn.at, { offset: 8, size: 16, readFlags: 20, lockOwner: 24, flags: 32 })
  t.match(abi.IoctlIn.at, { cmd: 12, arg: 16, inSize: 24, outSize: 28 })
})

t.test('a request header from a real kernel', async t => {
  // LOOKUP "a" in the root.
  const hex = '2a00000001000000020000000000000001000000000000000000000000000000a2000000000000006100'
  const header = abi.InHeader.read(Buffer.from(hex, 'hex'))
  t.match(header, { len: 42, opcode: abi.OP.LOOKUP, unique: 2n, nodeid: 1n, pid: 162 })
})

t.test('the opcode table', async t => {
  const codes = abi.OPCODES.map(({ code }) => code)
  t.same(
    codes,
    [...new Set(codes)].sort((a, b) => a - b),
    'ascending, each code once',
  )
  const by = new Map(abi.OPCODES.map(op => [op.name, op]))
  for (const name of ['SETATTR', 'MKDIR', 'WRITE', 'CREATE', 'FALLOCATE', 'TMPFILE', 'RENAME2'])
    t.equal(by.get(name)?.handler, 'readOnly', name)
  t.equal(by.get('FORGET')?.replies, false)
  t.equal(by.get('DESTROY')?.replies, true, 'a missing reply to DESTROY hangs the guest')
  t.equal(METRIC_OF_OPCODE[abi.OP.READDIRPLUS], 11)
  t.equal(METRIC_OF_OPCODE[abi.OP.STATX], 0)
  t.equal(METRIC_OF_OPCODE[abi.OP.WRITE], -1)
})

t.test('an addon of another build is refused', async t => {
  t.doesNotThrow(() => checkRingLayout(ringLayout()))
  t.throws(() => checkRingLayout({ ...ringLayout(), 'slot.fh': 1 }), {
    code: 'NATIVE_MISMATCH',
    message: /slot\.fh/,
  })
  t.throws(() => checkRingLayout({}), { code: 'NATIVE_MISMATCH' })
  t.throws(() => checkRingLayout({ ...ringLayout(), other: 1 }), { message: /other/ })
})
