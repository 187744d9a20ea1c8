import t from 'tap'
import { ERRNO } from '../base/errors.js'
import { INIT_FLAG, InitIn, InitOut, OP } from './abi.js'
import { Guest } from './testing/guest.js'

/** What kernels offer: a 6.12 guest on virtio-fs, a 6.18 host. */
const OFFERED_6_12 = 0x1ff_7bff_fffbn
const OFFERED_6_18 = 0x5fd_73ff_fffbn

function init(minor: number, flags: bigint, major = 7, length: number = InitIn.size) {
  const args = new Uint8Array(InitIn.size)
  const low = Number(flags & 0xffff_ffffn)
  const flags2 = Number(flags >> 32n)
  InitIn.write(args, { major, minor, maxReadahead: 131_072, flags: low, flags2 })
  return new Guest().request({ opcode: OP.INIT, nodeid: 0, args: args.subarray(0, length) })
}

t.test('what is agreed on', async t => {
  for (const [minor, flags] of [
    [41, OFFERED_6_12],
    [45, OFFERED_6_18],
  ] as const) {
    const reply = init(minor, flags)
    t.equal(reply.body.length, InitOut.size)
    const out = InitOut.read(reply.body)
    t.match(out, { major: 7, minor, maxReadahead: 131_072, maxWrite: 1 << 20, maxPages: 256, timeGran: 1 })
    t.match(out, { maxBackground: 128, congestionThreshold: 96, mapAlignment: 0, maxStackDepth: 0 })
    t.match(out, { requestTimeout: 0, flags2: 0 })
    t.equal(BigInt(out.flags) & ~flags, 0n, 'nothing that was not offered')
    for (const flag of ['ASYNC_READ', 'DO_READDIRPLUS', 'READDIRPLUS_AUTO', 'PARALLEL_DIROPS'] as const)
      t.ok(out.flags & INIT_FLAG[flag], flag)
    for (const flag of [
      'CACHE_SYMLINKS',
      'EXPLICIT_INVAL_DATA',
      'EXPORT_SUPPORT',
      'MAX_PAGES',
      'INIT_EXT',
    ] as const)
      t.ok(out.flags & INIT_FLAG[flag], flag)
    for (const flag of [
      'ATOMIC_O_TRUNC',
      'POSIX_LOCKS',
      'AUTO_INVAL_DATA',
      'WRITEBACK_CACHE',
      'SUBMOUNTS',
    ] as const)
      t.notOk(out.flags & INIT_FLAG[flag], flag)
  }
})

t.test('an old kernel offers less and gets less', async t => {
  const reply = init(27, BigInt(INIT_FLAG.ASYNC_READ | INIT_FLAG.DO_READDIRPLUS), 7, 16)
  t.match(InitOut.read(reply.body), {
    minor: 27,
    maxPages: 0,
    flags: INIT_FLAG.ASYNC_READ | INIT_FLAG.DO_READDIRPLUS,
  })
})

t.test('versions', async t => {
  t.match(InitOut.read(init(99, 0n).body), { major: 7, minor: 45 }, 'a newer minor gets ours')
  const newer = InitOut.read(init(3, OFFERED_6_18, 8).body)
  t.match(newer, { major: 7, minor: 45, flags: 0, maxWrite: 0 }, 'a newer major is asked to come again')
  t.equal(init(26, 0n).status, -ERRNO.EPROTO)
  t.equal(init(45, 0n, 6).status, -ERRNO.EPROTO)
  t.equal(init(45, 0n, 7, 12).status, -ERRNO.EINVAL)
})
