import t from 'tap'
import { ERRNO } from '../base/errors.js'
import {
  AttrOut,
  EntryOut,
  FOPEN,
  GetxattrOut,
  INIT_FLAG,
  InitIn,
  LseekOut,
  OP,
  OPCODES,
  OPEN_FLAG,
  StatfsOut,
  Statx,
  StatxOut,
  SxTime,
} from './abi.js'
import { totalsOf } from './counters.js'
import { coldReads } from './deferrals.js'
import { FLEETING, Guest, LASTING, parseAttr, parseEntry } from './testing/guest.js'
import { MEMORY_ROOT_INO, type MemoryEntry } from '../vfs/testing/memory-fs.js'

const long = 'x'.repeat(10_000)
const root: Record<string, MemoryEntry> = {
  hello: { text: 'hello, world', mode: 0o640, uid: 1000, gid: 70_000, mtime: -1.5e9, mtimeNs: 7, nlink: 3 },
  empty: { text: '' },
  sparse: { text: 'data', hole: 8192 },
  cold: { text: long, cold: true },
  long: { text: long },
  link: { link: 'usr/bin/../lib' },
  dev: { device: 'char', rdev: 0x1234_5678 },
  tagged: { text: 't', xattrs: { 'user.a': 'value of a', 'user.empty': '' } },
  dir: { dir: { inner: { text: 'inner' } }, mode: 0o750 },
  bad: { text: 'bad', broken: true },
}

async function mounted(path = '/img'): Promise<{ guest: Guest; slot: number; base: number }> {
  const guest = new Guest()
  const slot = await guest.mount(path, root)
  return { guest, slot, base: slot * 2 ** 37 }
}

t.test('LOOKUP', async t => {
  const { guest, slot, base } = await mounted()
  const image = guest.lookup(1, 'img')
  t.match(image, { nodeid: base + MEMORY_ROOT_INO, entryValid: FLEETING, attrValid: LASTING, mode: 0o040755 })
  const reply = guest.request({ opcode: OP.LOOKUP, nodeid: base + MEMORY_ROOT_INO, name: 'hello' })
  t.match(reply, { status: 0, kind: 'inline', lookups: 1, lookupSlot: slot })
  t.equal(reply.body.length, EntryOut.size)
  const hello = parseEntry(reply.body)
  t.match(hello, { nodeid: base + MEMORY_ROOT_INO + 1, ino: base + MEMORY_ROOT_INO + 1, entryValid: LASTING })
  t.match(hello, { attrValid: LASTING, mode: 0o100640, size: 12, nlink: 3, generation: 1 })

  const missing = guest.request({ opcode: OP.LOOKUP, nodeid: base + MEMORY_ROOT_INO, name: 'nothing' })
  t.match(missing, { status: 0, lookups: 0 })
  t.equal(missing.body.length, EntryOut.size)
  t.match(
    parseEntry(missing.body),
    { nodeid: 0, entryValid: LASTING },
    'a missing name in an image is cached',
  )
  const absent = guest.request({ opcode: OP.LOOKUP, nodeid: 1, name: 'nothing' })
  t.match(absent, { status: -ERRNO.ENOENT, lookups: 0 }, 'in a pseudo folder it is not')
  t.equal(absent.body.length, 0)

  t.match(guest.lookup(base + MEMORY_ROOT_INO, '.'), { nodeid: base + MEMORY_ROOT_INO })
  t.match(guest.lookup(guest.walk('img/dir').nodeid, '..'), { nodeid: base + MEMORY_ROOT_INO })
  t.match(guest.lookup(base + MEMORY_ROOT_INO, '..'), { nodeid: 1 })
  t.match(guest.lookup(1, '..'), { nodeid: 1 })
  t.equal(guest.lookup(guest.walk('img/hello').nodeid, 'x'), -ERRNO.ENOTDIR)
  t.equal(guest.lookup(base + MEMORY_ROOT_INO, 'n'.repeat(256)), -ERRNO.ENAMETOOLONG)
  t.match(guest.lookup(base + MEMORY_ROOT_INO, 'n'.repeat(255)), { nodeid: 0 })
  t.equal(guest.lookup(base + MEMORY_ROOT_INO, ''), -ERRNO.EINVAL)
})

t.test('node ids that nobody handed out', async t => {
  const { guest, base } = await mounted()
  const ids = [
    0,
    3,
    2 ** 37 - 1,
    2 ** 31,
    2 ** 32 + 1,
    base + 10 ** 6,
    2 ** 38 + 5,
    2 ** 53 - 1,
    -1,
    Number.NaN,
  ]
  for (const nodeid of ids)
    for (const opcode of [OP.LOOKUP, OP.GETATTR, OP.OPEN, OP.OPENDIR, OP.READ, OP.READDIR, OP.STATX])
      t.equal(
        guest.request({ opcode, nodeid, name: 'x', size: 4096 }).status,
        -ERRNO.ESTALE,
        `${opcode} of ${nodeid}`,
      )
  t.same(guest.exceptions, [])
})

t.test('GETATTR', async t => {
  const { guest } = await mounted()
  const { nodeid } = guest.walk('img/hello')
  const reply = guest.request({ opcode: OP.GETATTR, nodeid })
  t.match(reply, { status: 0, kind: 'inline', lookups: 0 })
  t.equal(reply.body.length, AttrOut.size)
  const hex = [
    '00ca9a3b00000000', // valid for 10^9 s
    '0000000000000000',
    Buffer.from(reply.body.subarray(16, 24)).toString('hex'),
    '0c00000000000000', // size
    '0100000000000000', // blocks
    '00d197a6ffffffff'.repeat(3), // -1.5e9 s
    '07000000'.repeat(3),
    'a081000003000000e803000070110100000000000010000000000000',
  ].join('')
  t.equal(Buffer.from(reply.body).toString('hex'), hex)

  const folder = guest.request({ opcode: OP.GETATTR, nodeid: 1 })
  t.match(parseAttr(folder.body), { ino: 1, mode: 0o040755, nlink: 3, attrValid: FLEETING })
  t.match(guest.walk('img/dev'), { mode: 0o020644 })
})

t.test('STATX', async t => {
  const { guest } = await mounted()
  const reply = guest.request({ opcode: OP.STATX, nodeid: guest.walk('img/hello').nodeid })
  t.equal(reply.body.length, StatxOut.size)
  const out = StatxOut.read(reply.body)
  t.equal(out.attrValid, 1_000_000_000n)
  const stat = Statx.read(out.stat)
  t.match(stat, {
    mask: 0x7ff,
    blksize: 4096,
    nlink: 3,
    uid: 1000,
    gid: 70_000,
    mode: 0o100640,
    size: 12n,
    blocks: 1n,
  })
  for (const time of [stat.atime, stat.ctime, stat.mtime])
    t.match(SxTime.read(time), { tvSec: -1_500_000_000n, tvNsec: 7, reserved: 0 })
  t.match(SxTime.read(stat.btime), { tvSec: 0n }, 'no time of birth')
  const device = guest.request({ opcode: OP.STATX, nodeid: guest.walk('img/dev').nodeid })
  t.match(Statx.read(StatxOut.read(device.body).stat), { rdevMajor: 0x456, rdevMinor: 0x12378 })
})

t.test('OPEN: reading only', async t => {
  const { guest } = await mounted()
  const { nodeid } = guest.walk('img/hello')
  t.same(guest.open(nodeid), { fh: 0, openFlags: FOPEN.KEEP_CACHE | FOPEN.NOFLUSH })
  for (const flags of [OPEN_FLAG.WRONLY, OPEN_FLAG.RDWR, OPEN_FLAG.TRUNC, 3])
    t.equal(guest.open(nodeid, flags), -ERRNO.EROFS, `flags ${flags}`)
  t.equal(guest.open(guest.walk('img/dir').nodeid), -ERRNO.EISDIR)
})

t.test('OPENDIR: listings of images are cached, those in which mounts come and go are not', async t => {
  const { guest } = await mounted('/a/img')
  t.same(guest.open(guest.walk('a/img/dir').nodeid, 0, OP.OPENDIR), {
    fh: 0,
    openFlags: FOPEN.KEEP_CACHE | FOPEN.CACHE_DIR,
  })
  t.match(guest.open(1, 0, OP.OPENDIR), { openFlags: 0 })
  t.match(guest.open(guest.walk('a').nodeid, 0, OP.OPENDIR), { openFlags: 0 })
  t.equal(guest.open(guest.walk('a/img/hello').nodeid, 0, OP.OPENDIR), -ERRNO.ENOTDIR)
})

t.test('READ', async t => {
  const { guest, slot } = await mounted()
  const { nodeid } = guest.walk('img/long')
  t.equal(Buffer.from(guest.read(nodeid).body).toString(), long)
  t.equal(guest.read(nodeid).extents.length, 1, 'adjacent pieces are joined')
  t.equal(guest.read(nodeid, 4000, 200).body.length, 200)
  t.equal(guest.read(nodeid, 9_990, 4096).body.length, 10)
  for (const offset of [10_000, 2 ** 40, -1])
    t.match(guest.read(nodeid, offset), { status: 0, kind: 'inline', extents: [] })
  t.match(guest.read(guest.walk('img/empty').nodeid), { status: 0, kind: 'inline' })
  t.equal(guest.read(nodeid, 0, 0).body.length, 0)
  t.equal(guest.request({ opcode: OP.READ, nodeid, size: 4096, writable: 100 }).body.length, 100)
  t.equal(guest.read(nodeid, 0, 0xffff_ffff).body.length, 10_000)
  t.equal(guest.read(guest.walk('img/dir').nodeid).status, -ERRNO.EISDIR)
  t.equal(guest.read(1).status, -ERRNO.EISDIR)

  const sparse = guest.read(guest.walk('img/sparse').nodeid)
  t.same(sparse.extents, [
    { file: 1, offset: sparse.extents[0]?.offset, length: 4 },
    { file: 0, offset: 0, length: 8192 },
  ])
  t.equal(Buffer.from(sparse.body).toString('latin1'), 'data' + '\0'.repeat(8192))
  const { hits, bytesRead, readSizes } = totalsOf(guest.table.list()[0]?.counters as SharedArrayBuffer)
  t.equal(hits[4], 13)
  t.equal(bytesRead, 3 * 10_000 + 200 + 10 + 100 + 4 + 8192)
  t.same(readSizes.slice(0, 3), [7, 0, 4])
  t.equal(guest.table.list()[0]?.slot, slot)
})

t.test('a cold READ is deferred, with its extents and what has to be fetched', async t => {
  const { guest, slot, base } = await mounted()
  const { nodeid } = guest.walk('img/cold')
  const reply = guest.request({ opcode: OP.READ, nodeid, offset: 100, size: 8000, ticket: 77 })
  t.match(reply, { status: 0, kind: 'deferred' })
  t.equal(Buffer.from(reply.body).toString(), long.slice(100, 8100))
  t.equal(guest.deferrals.empty, false)
  const [read, ...others] = coldReads(guest.deferrals.take())
  t.same(others, [])
  t.match(read, { ticket: 77, slot, ino: nodeid - base, offset: 100 })
  t.same(
    [...(read?.extents ?? [])],
    reply.extents.flatMap(({ file, offset, length }) => [file, offset, length]),
  )
  t.match(read?.wants, [
    { extent: 0, blob: 0, chunkOffset: 100, length: 3996 },
    { extent: 1, blob: 0, chunkOffset: 0, length: 4004 },
  ])
  t.ok(guest.deferrals.empty)
  t.equal(
    guest.request({ opcode: OP.READ, nodeid, offset: 20_000, size: 10 }).kind,
    'inline',
    'nothing to wait for',
  )
})

t.test('READLINK', async t => {
  const { guest } = await mounted()
  const reply = guest.request({ opcode: OP.READLINK, nodeid: guest.walk('img/link').nodeid })
  t.equal(Buffer.from(reply.body).toString(), 'usr/bin/../lib')
  t.equal(
    guest.request({ opcode: OP.READLINK, nodeid: guest.walk('img/hello').nodeid }).status,
    -ERRNO.EINVAL,
  )
})

t.test('xattrs', async t => {
  const { guest } = await mounted()
  const { nodeid } = guest.walk('img/tagged')
  const get = (name: string, size: number) => guest.request({ opcode: OP.GETXATTR, nodeid, name, size })
  t.equal(Buffer.from(get('user.a', 100).body).toString(), 'value of a')
  t.same(GetxattrOut.read(get('user.a', 0).body), { size: 10, padding: 0 })
  t.equal(get('user.a', 0).body.length, GetxattrOut.size)
  t.equal(get('user.a', 9).status, -ERRNO.ERANGE)
  t.equal(get('user.a', 10).status, 0)
  t.match(get('user.empty', 10), { status: 0, kind: 'inline', extents: [] })
  t.equal(get('user.b', 10).status, -ERRNO.ENODATA)
  t.equal(get('', 10).status, -ERRNO.EINVAL)

  const list = (size: number) => guest.request({ opcode: OP.LISTXATTR, nodeid, size })
  t.equal(Buffer.from(list(100).body).toString(), 'user.a\0user.empty\0')
  t.same(GetxattrOut.read(list(0).body), { size: 18, padding: 0 })
  t.equal(list(17).status, -ERRNO.ERANGE)
  const { nodeid: plain } = guest.walk('img/hello')
  t.equal(
    guest.request({ opcode: OP.GETXATTR, nodeid: plain, name: 'user.a', size: 9 }).status,
    -ERRNO.ENODATA,
  )
  t.match(guest.request({ opcode: OP.LISTXATTR, nodeid: plain, size: 9 }), { status: 0, kind: 'inline' })
  t.equal(guest.request({ opcode: OP.GETXATTR, nodeid: 1, name: 'user.a', size: 9 }).status, -ERRNO.ENODATA)
  t.equal(guest.request({ opcode: OP.LISTXATTR, nodeid: 1, size: 9 }).status, 0)
})

t.test(
  'mounts that never change: everything is lasting, what the image does not have is said once',
  async t => {
    const fixed = async (files: Record<string, MemoryEntry>) => {
      const guest = new Guest({ fixed: true })
      await guest.mount('/a/img', files)
      return guest
    }
    const guest = await fixed({ file: { text: '' }, dir: { dir: {} } })
    t.match(parseAttr(guest.request({ opcode: OP.GETATTR, nodeid: 1 }).body), { attrValid: LASTING })
    t.match(guest.lookup(1, 'a'), { entryValid: LASTING, attrValid: LASTING })
    t.match(guest.walk('a/img'), { entryValid: LASTING, attrValid: LASTING })
    const missing = parseEntry(guest.request({ opcode: OP.LOOKUP, nodeid: 1, name: 'nothing' }).body)
    t.match(missing, { nodeid: 0, entryValid: LASTING })
    t.match(guest.open(1, 0, OP.OPENDIR), { openFlags: FOPEN.KEEP_CACHE | FOPEN.CACHE_DIR })
    const { nodeid } = guest.walk('a/img/file')
    for (const opcode of [OP.GETXATTR, OP.LISTXATTR])
      for (const node of [1, nodeid])
        t.equal(guest.request({ opcode, nodeid: node, name: 'a', size: 9 }).status, -ERRNO.ENOSYS)

    const tagged = await fixed(root)
    const ask = (path: string) =>
      tagged.request({ opcode: OP.GETXATTR, nodeid: tagged.walk(path).nodeid, name: 'user.a', size: 90 })
    t.equal(ask('a').status, -ERRNO.ENODATA, 'a pseudo folder has none, but the image has')
    t.equal(ask('a/img/tagged').status, 0)
  },
)

t.test('a kernel that can do without is told not to send OPEN, FLUSH and OPENDIR', async t => {
  const init = (guest: Guest, flags: number) => {
    const args = new Uint8Array(InitIn.size)
    InitIn.write(args, { major: 7, minor: 41, flags })
    t.equal(guest.request({ opcode: OP.INIT, nodeid: 0, args }).status, 0)
  }
  const able = INIT_FLAG.NO_OPEN_SUPPORT | INIT_FLAG.NO_OPENDIR_SUPPORT
  for (const fixed of [false, true]) {
    const guest = new Guest({ fixed })
    await guest.mount('/img', root)
    const [file, folder] = [guest.walk('img/hello').nodeid, guest.walk('img/dir').nodeid]
    t.match(guest.open(file), { fh: 0 }, 'before INIT')
    t.equal(guest.request({ opcode: OP.FLUSH, nodeid: file }).status, 0)
    init(guest, able)
    t.equal(guest.open(file), -ERRNO.ENOSYS)
    t.equal(guest.request({ opcode: OP.FLUSH, nodeid: file }).status, -ERRNO.ENOSYS)
    for (const flags of [OPEN_FLAG.WRONLY, OPEN_FLAG.RDWR, OPEN_FLAG.TRUNC])
      t.equal(guest.open(file, flags), -ERRNO.EROFS, 'an answer for all files is given to readers only')
    t.equal(guest.open(folder), -ERRNO.EISDIR)
    t.equal(guest.open(2 ** 40), -ERRNO.ESTALE)
    // The kernel would keep the listings of folders in which mounts come and go.
    if (fixed) t.equal(guest.open(folder, 0, OP.OPENDIR), -ERRNO.ENOSYS)
    else t.match(guest.open(folder, 0, OP.OPENDIR), { openFlags: FOPEN.KEEP_CACHE | FOPEN.CACHE_DIR })
    t.equal(guest.open(file, 0, OP.OPENDIR), -ERRNO.ENOTDIR)

    init(guest, 0)
    t.match(guest.open(file), { fh: 0 }, 'another kernel has booted')
    t.match(guest.open(folder, 0, OP.OPENDIR), { fh: 0 })
  }
})

t.test('STATFS: of the image, or of all', async t => {
  const { guest } = await mounted()
  const image = guest.request({ opcode: OP.STATFS, nodeid: guest.walk('img').nodeid })
  t.equal(image.body.length, StatfsOut.size)
  const { blocks, files } = StatfsOut.read(image.body)
  t.match(StatfsOut.read(image.body), {
    bfree: 0n,
    bavail: 0n,
    ffree: 0n,
    bsize: 4096,
    namelen: 255,
    frsize: 4096,
  })
  t.ok(blocks > 0n)
  await guest.mount('/other', root)
  const all = StatfsOut.read(guest.request({ opcode: OP.STATFS, nodeid: 1 }).body)
  t.match(all, { blocks: blocks * 2n, files: files * 2n })
  await guest.table.unmount('/other')
  t.match(StatfsOut.read(guest.request({ opcode: OP.STATFS, nodeid: 1 }).body), { blocks, files })
})

t.test('ACCESS, LSEEK, IOCTL', async t => {
  const { guest } = await mounted()
  const { nodeid } = guest.walk('img/sparse')
  t.equal(guest.request({ opcode: OP.ACCESS, nodeid, flags: 5 }).status, 0)
  t.equal(guest.request({ opcode: OP.ACCESS, nodeid, flags: 2 }).status, -ERRNO.EROFS)
  t.equal(guest.request({ opcode: OP.ACCESS, nodeid: 2 ** 38, flags: 4 }).status, -ERRNO.ESTALE)
  const seek = (offset: number, flags: number) => guest.request({ opcode: OP.LSEEK, nodeid, offset, flags })
  t.equal(LseekOut.read(seek(1, 4).body).offset, 4n)
  t.equal(LseekOut.read(seek(1, 3).body).offset, 1n)
  t.equal(seek(0, 4).body.length, LseekOut.size)
  t.equal(seek(5, 3).status, -ERRNO.ENXIO)
  for (const offset of [8196, -1]) t.equal(seek(offset, 4).status, -ERRNO.ENXIO)
  for (const whence of [0, 1, 2, 5]) t.equal(seek(0, whence).status, -ERRNO.EINVAL)
  t.equal(guest.request({ opcode: OP.IOCTL, nodeid }).status, -ERRNO.ENOTTY)
})

t.test('opcodes with one answer', async t => {
  const { guest } = await mounted()
  const expected = { done: 0, readOnly: -ERRNO.EROFS, unsupported: -ERRNO.ENOSYS } as const
  for (const { name, code, handler } of OPCODES) {
    if (!(handler in expected)) continue
    const reply = guest.request({ opcode: code, nodeid: 1 })
    t.match(reply, { status: expected[handler as keyof typeof expected], kind: 'inline', lookups: 0 }, name)
    t.equal(reply.body.length, 0, name)
  }
  for (const opcode of [0, 7, 41, 63, 64, 4096, 0xffff_ffff])
    t.equal(guest.request({ opcode }).status, -ERRNO.ENOSYS, `opcode ${opcode}`)
  t.equal(guest.request({ opcode: OP.RELEASE, nodeid: 2 ** 38 }).status, 0, 'a release never fails')
})

t.test('an exception is EIO for that request, and is counted', async t => {
  const { guest, base } = await mounted()
  const { nodeid } = guest.walk('img')
  t.equal(guest.lookup(nodeid, 'bad'), -ERRNO.EIO)
  t.equal(guest.read(base + MEMORY_ROOT_INO + Object.keys(root).length + 1).status, -ERRNO.EIO)
  t.equal(guest.exceptions.length, 2)
  t.equal(guest.text('img/hello'), 'hello, world')
  const { exceptions, errors, hits } = totalsOf(guest.table.list()[0]?.counters as SharedArrayBuffer)
  t.equal(exceptions, 2)
  t.equal(errors[9], 1, 'LOOKUP')
  t.equal(errors[4], 1, 'READ')
  t.equal(hits[4], 2)
})

t.test('every word of every reply is written', async t => {
  // Two rings with different leftovers: a word that a handler forgets differs.
  const { guest } = await mounted()
  const nodes = ['img', 'img/hello', 'img/tagged', 'img/link', 'img/dir'].map(path => guest.walk(path).nodeid)
  const replies: string[] = []
  for (const round of [0, 1])
    for (const { code } of OPCODES) {
      for (const nodeid of [1, ...nodes]) {
        const inline = { opcode: code, nodeid, name: 'user.a', size: 4096, flags: 0 }
        guest.ring.memory.u8.fill(round === 0 ? 0x11 : 0xee, 0, 1024)
        guest.ring.fill(0, inline)
        guest.server.handle(0)
        const { status, kind, body, lookups, lookupSlot } = guest.ring.reply(0)
        replies.push(
          JSON.stringify([
            code,
            nodeid,
            status,
            kind,
            Buffer.from(body).toString('hex'),
            lookups,
            lookupSlot,
          ]),
        )
      }
    }
  t.same(replies.slice(0, replies.length / 2), replies.slice(replies.length / 2))
})
