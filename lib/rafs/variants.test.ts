import t from 'tap'
import { newAttr } from '../vfs/filesystem.js'
import { Bootstrap } from './bootstrap.js'
import { RAFS_FLAG } from './layout/flags.js'
import { ChunkV5, InodeV5, SuperblockV5, V5_CHUNK_FLAG } from './layout/v5.js'
import {
  BlobEntryV6,
  ChunkIndexV6,
  DirentV6,
  ExtSuperblockV6,
  InodeCompactV6,
  InodeExtendedV6,
  SuperblockV6,
  V6_EXT_SUPERBLOCK_OFFSET,
  V6_NID_SIZE,
  V6_SUPERBLOCK_OFFSET,
  XattrEntryV6,
  XattrHeaderV6,
} from './layout/v6.js'
import { BLOB_FEATURE } from '../cache/cache.js'
import { chunksOf, middle2020, october2020, records } from './testing/early-v5.js'
import { bytesOf, memoryOf, openBytes, PLAIN_OPTIONS } from './testing/fixtures.js'
import { expectedRecords, fixtureNamed } from '../../vm-tests/fixtures.js'
import { Bytes, Entries, Extents, latin1 } from './testing/sinks.js'
import { resolve, walk } from './walk.js'
import { resolveWant } from './want.js'

const FIXTURE = fixtureNamed('v5-lz4-blake3')
const SLASH = Buffer.from('/')

for (const [what, bytes, owners] of [
  ['October 2020', october2020(bytesOf(FIXTURE.bootstrap)), true],
  ['middle of 2020', middle2020(bytesOf(FIXTURE.bootstrap)), false],
] as const)
  for (const validate of [false, true])
    t.test(`v5 of ${what}, digest_validate ${validate}`, async t => {
      const { sb, reader } = openBytes(bytes, { validate })
      t.equal(sb.digester, 'blake3')
      t.match(sb.blobs[0], { chunkCount: 0, uncompressedSize: 0, compressedSize: 0 })
      const attr = newAttr()
      const list = expectedRecords(FIXTURE)
      const found = [...walk(reader, 1, SLASH)]
      t.equal(found.length, list.length)
      for (const want of list) {
        const ino = resolve(reader, latin1(want.path))
        t.equal(reader.getattr(ino, attr), 0, want.path)
        const owner = owners
          ? { uid: want.uid, gid: want.gid }
          : { uid: PLAIN_OPTIONS.uid, gid: PLAIN_OPTIONS.gid }
        t.match(attr, { mtime: 0, mtimeNs: 0, rdev: 0, ...owner })
        t.equal(attr.mode & 0o7777, want.mode)
        if (want.type === 'file') t.match(attr, { size: want.size, nlink: want.nlink })
        if (want.type === 'dir') t.equal(attr.nlink, 1)
        if (want.target !== undefined) {
          const out = new Extents()
          t.equal(reader.readlink(ino, out), want.target.length)
          t.equal(text(bytes, out), want.target)
        }
        const names = new Bytes()
        reader.listxattr(ino, names)
        t.strictSame(names.text.split('\0').slice(0, -1).sort(), Object.keys(want.xattrs ?? {}).sort())
      }
      const file = resolve(reader, latin1('/dedup/shifted'))
      const out = new Extents()
      t.equal(reader.read(file, 0, 100_000, out), 70_001)
      const boot = new Bootstrap(memoryOf(bytes), bytes.length, 'image')
      const want = resolveWant(boot, sb, 0, out.wants[0]?.ref ?? 0, undefined)
      t.match(want, { index: -1, uncompressedSize: 70_001, record: { index: -1 } })
      t.equal(want.record?.crc32, undefined)
    })

function text(bytes: Uint8Array, out: Extents): string {
  return out.extents
    .map(({ offset, length }) => Buffer.from(bytes.subarray(offset, offset + length)).toString('latin1'))
    .join('')
}

t.test('v5 --repeatable: the owner is whoever runs the daemon', async t => {
  const bytes = bytesOf(FIXTURE.bootstrap)
  const sb = SuperblockV5.read(bytes)
  SuperblockV5.write(bytes, { ...sb, flags: sb.flags & ~BigInt(RAFS_FLAG.EXPLICIT_UIDGID) })
  const attr = newAttr()
  openBytes(bytes).reader.getattr(1, attr)
  t.match(attr, { uid: 1234, gid: 4321 })
})

/** A file of at least `least` different chunks, and its record. */
function bigFile(bytes: Uint8Array, least: number): { record: number; at: number; count: number } {
  for (const record of records(bytes)) {
    const chunks = chunksOf(bytes, record)
    if (chunks !== undefined && chunks.count >= least) return { record, ...chunks }
  }
  throw new Error('no such file in the fixture')
}

t.test(
  'v5 holes: chunks that are left out, and chunks that say so, read as zeros and are found by lseek',
  async t => {
    const bytes = bytesOf(FIXTURE.bootstrap)
    const { record, at, count } = bigFile(bytes, 4)
    const inode = InodeV5.read(bytes, record)
    const ino = Number(inode.ino)
    const size = Number(inode.size)
    const MiB = 1 << 20
    // Chunk 1 is left out, chunk 2 is marked.
    bytes.copyWithin(at + ChunkV5.size, at + 2 * ChunkV5.size, at + count * ChunkV5.size)
    InodeV5.write(bytes, { ...inode, childCount: count - 1, flags: inode.flags | 8n }, record)
    const marked = at + ChunkV5.size
    const chunk = ChunkV5.read(bytes, marked)
    ChunkV5.write(bytes, { ...chunk, flags: V5_CHUNK_FLAG.HOLE, blobIndex: 0xffff_ffff }, marked)
    const { reader } = openBytes(bytes)
    const out = new Extents()
    t.equal(reader.read(ino, 1000, 3 * MiB, out), Math.min(3 * MiB, size - 1000))
    t.strictSame(
      out.extents.map(({ file, length }) => [file, length]),
      [
        [0, MiB - 1000],
        [0, MiB],
        [0, MiB],
        [0, Math.min(1000, size - 3 * MiB)],
      ],
    )
    t.strictSame(
      out.wants.map(({ chunkOffset, length }) => [chunkOffset, length]),
      [
        [1000, MiB - 1000],
        [0, Math.min(1000, size - 3 * MiB)],
      ],
    )
    const seeks: readonly (readonly [number, number, number])[] = [
      [0, 3, 0],
      [5, 3, 5],
      [0, 4, MiB],
      [MiB, 4, MiB],
      [MiB + 7, 4, MiB + 7],
      [MiB + 7, 3, 3 * MiB],
      [2 * MiB + 7, 4, 2 * MiB + 7],
      [3 * MiB, 4, size],
      [size - 1, 3, size - 1],
      [size, 3, -6],
      [size, 4, -6],
      [0, 2, -22],
    ]
    for (const [offset, whence, answer] of seeks)
      t.equal(reader.lseek(ino, offset, whence), answer, `lseek ${offset} ${whence}`)
    // The last chunk is left out as well: the file ends in a hole.
    InodeV5.write(bytes, { ...inode, childCount: 1, flags: inode.flags | 8n }, record)
    const tail = openBytes(bytes).reader
    t.equal(tail.lseek(ino, MiB + 1, 3), -6)
    t.equal(tail.lseek(ino, 10, 4), MiB)
    const zeros = new Extents()
    t.equal(tail.read(ino, 2 * MiB, MiB, zeros), Math.min(MiB, size - 2 * MiB))
    t.strictSame(zeros.extents, [{ file: 0, offset: 0, length: Math.min(MiB, size - 2 * MiB) }])
    // Without the flag, missing chunks are damage.
    InodeV5.write(bytes, { ...inode, childCount: 1 }, record)
    t.equal(openBytes(bytes).reader.getattr(ino, newAttr()), -5)
  },
)

t.test('a sink without room makes a read EIO, never short', async t => {
  const { reader } = openBytes(bytesOf(FIXTURE.bootstrap))
  const { record } = bigFile(bytesOf(FIXTURE.bootstrap), 3)
  const ino = Number(InodeV5.read(bytesOf(FIXTURE.bootstrap), record).ino)
  t.equal(reader.read(ino, 0, 3 << 20, new Extents(1)), -5)
})

t.test('v6 compact inodes', async t => {
  const bytes = bytesOf(fixtureNamed('v6-lz4-64k').bootstrap)
  const { sb, reader } = openBytes(bytes)
  if (sb.version !== 6) throw new Error('v6 expected')
  const before = newAttr()
  const after = newAttr()
  const compacted: number[] = []
  const content = (from: typeof reader, ino: number) => {
    const out = new Extents()
    from.read(ino, 0, 1 << 20, out)
    return out.extents
  }
  const wanted: ReturnType<typeof content>[] = []
  for (const { ino, type } of walk(reader, 128, SLASH)) {
    const at = sb.metaOffset + ino * V6_NID_SIZE
    const inode = InodeExtendedV6.read(bytes, at)
    if (inode.xattrIcount !== 0 || inode.uid > 65535 || inode.gid > 65535 || inode.size >= 2n ** 32n) continue
    if (type !== 0o100000 && (inode.format & 6) !== 4) continue
    compacted.push(ino)
    wanted.push(content(reader, ino))
    const tail =
      type === 0o100000
        ? Math.ceil(Number(inode.size) / sb.chunkSize) * ChunkIndexV6.size
        : Number(inode.size) % 4096
    const moved = bytes.slice(at + InodeExtendedV6.size, at + InodeExtendedV6.size + tail)
    const { format, mode, nlink, size, u, uid, gid } = inode
    InodeCompactV6.write(bytes, { format: format & ~1, mode, nlink, size: Number(size), u, uid, gid }, at)
    bytes.set(moved, at + InodeCompactV6.size)
  }
  t.ok(compacted.length > 300)
  const { reader: changed } = openBytes(bytes)
  for (const [i, ino] of compacted.entries()) {
    reader.getattr(ino, before)
    t.equal(changed.getattr(ino, after), 0)
    t.strictSame(after, { ...before, mtime: 0, mtimeNs: 0 })
    t.strictSame(content(changed, ino), wanted[i])
  }
  t.equal([...walk(changed, 128, SLASH)].length, expectedRecords(fixtureNamed('v6-lz4-64k')).length)
})

/** A tarfs image by hand: a file of three chunks and a symlink longer than a block, blocks of 512 bytes. */
function tarfs(): Uint8Array {
  const bytes = new Uint8Array(16384)
  const target = 'x'.repeat(700)
  SuperblockV6.write(
    bytes,
    {
      magic: 0xe0f5e1e2,
      featureCompat: 0x40000000,
      blkszbits: 9,
      rootNid: 16,
      inos: 3n,
      metaBlkaddr: 16,
      featureIncompat: 0xc,
      extraDevices: 1,
      devtSlotoff: 11,
    },
    V6_SUPERBLOCK_OFFSET,
  )
  const flags =
    RAFS_FLAG.COMPRESSION_NONE | RAFS_FLAG.DIGEST_SHA256 | RAFS_FLAG.EXPLICIT_UIDGID | RAFS_FLAG.TARFS_MODE
  const tables = { blobTableOffset: 4096n, blobTableSize: 256, chunkTableOffset: 12288n, chunkTableSize: 80n }
  ExtSuperblockV6.write(bytes, { flags: BigInt(flags), chunkSize: 4096, ...tables }, V6_EXT_SUPERBLOCK_OFFSET)
  const blob = {
    blobId: latin1('ab'.repeat(32)),
    chunkSize: 4096,
    chunkCount: 1,
    digester: 1,
    features: BLOB_FEATURE.TARFS,
  }
  BlobEntryV6.write(bytes, { ...blob, compressedSize: 20480n, uncompressedSize: 20480n }, 4096)
  const meta = 16 * 512
  const inode = (nid: number, value: Parameters<typeof InodeExtendedV6.write>[1]) =>
    InodeExtendedV6.write(bytes, { nlink: 1, ...value }, meta + nid * V6_NID_SIZE)
  const names = ['.', '..', 'file', 'link']
  const dirent = (i: number, nid: number, fileType: number, nameoff: number) =>
    DirentV6.write(bytes, { nid: BigInt(nid), nameoff, fileType }, meta + 16 * 32 + 64 + i * 12)
  inode(16, { format: 5, mode: 0o40755, size: BigInt(48 + names.join('').length), nlink: 2 })
  dirent(0, 16, 2, 48)
  dirent(1, 16, 2, 49)
  dirent(2, 32, 1, 51)
  dirent(3, 48, 7, 55)
  bytes.set(latin1(names.join('')), meta + 16 * 32 + 64 + 48)
  inode(32, { format: 9, mode: 0o100644, size: 9000n, u: 0x20 | 3 })
  for (let k = 0; k < 3; k++)
    ChunkIndexV6.write(bytes, { ciIndexLow: k, blob: 1, blkaddr: 1 + 8 * k }, meta + 32 * 32 + 64 + 8 * k)
  inode(48, { format: 5, mode: 0o120777, size: BigInt(target.length), u: 28 })
  bytes.set(latin1(target.slice(0, 512)), 28 * 512)
  bytes.set(latin1(target.slice(512)), meta + 48 * 32 + 64)
  return bytes
}

t.test('v6 tarfs: blocks of 512 bytes, chunks are ranges of the tar', async t => {
  const bytes = tarfs()
  const { sb, reader } = openBytes(bytes)
  t.equal(sb.version === 6 && sb.tarfs, true)
  const all = new Entries()
  reader.readdir(16, 0, all)
  t.strictSame(
    all.entries.map(entry => [entry.name, entry.ino]),
    [
      ['.', 16],
      ['..', 16],
      ['file', 32],
      ['link', 48],
    ],
  )
  const link = new Extents()
  t.equal(reader.readlink(48, link), 700)
  t.equal(link.extents.length, 2)
  t.equal(text(bytes, link), 'x'.repeat(700))
  const out = new Extents()
  t.equal(reader.read(32, 4000, 8192, out), 5000)
  t.strictSame(
    out.extents.map(({ offset, length }) => [offset, length]),
    [
      [512 + 4000, 96],
      [512 + 4096, 4096],
      [512 + 8192, 808],
    ],
  )
  const boot = new Bootstrap(memoryOf(bytes), bytes.length, 'image')
  const range = { index: -1, uncompressedOffset: 512 + 8192, uncompressedSize: 808 }
  const record = {
    ...range,
    compressedOffset: 512 + 8192,
    compressedSize: 808,
    compressed: false,
    encrypted: false,
  }
  t.strictSame(resolveWant(boot, sb, 0, out.wants[2]?.ref ?? 0, undefined), { ...range, record })
})

t.test('v6 xattrs of every namespace, and areas that lie', async t => {
  const build = (
    entries: readonly (readonly [index: number, name: string, value: string])[],
    patch?: (view: DataView) => void,
  ) => {
    const bytes = tarfs()
    const at = 16 * 512 + 64 * 32
    let end = at + InodeExtendedV6.size + XattrHeaderV6.size
    for (const [nameIndex, name, value] of entries) {
      XattrEntryV6.write(bytes, { nameLength: name.length, nameIndex, valueSize: value.length }, end)
      bytes.set(latin1(name + value), end + XattrEntryV6.size)
      end += Math.ceil((XattrEntryV6.size + name.length + value.length) / 4) * 4
    }
    const xattrIcount = (end - at - InodeExtendedV6.size - XattrHeaderV6.size) / 4 + 1
    InodeExtendedV6.write(bytes, { format: 9, mode: 0o100644, xattrIcount }, at)
    const view = new DataView(bytes.buffer)
    patch?.(view)
    const flags = V6_EXT_SUPERBLOCK_OFFSET + ExtSuperblockV6.at.flags
    view.setUint32(flags, view.getUint32(flags, true) | RAFS_FLAG.HAS_XATTR, true)
    return { bytes, ...openBytes(bytes), first: at + InodeExtendedV6.size + XattrHeaderV6.size }
  }
  const { bytes, reader } = build([
    [1, 'a', 'x\0y'],
    [2, '', 'acl'],
    [3, '', ''],
    [4, 'overlay.opaque', 'y'],
    [6, 'capability', 'c'],
  ])
  const wanted = {
    'user.a': 'x\0y',
    'system.posix_acl_access': 'acl',
    'system.posix_acl_default': '',
    'trusted.overlay.opaque': 'y',
    'security.capability': 'c',
  }
  const names = new Bytes()
  const total = reader.listxattr(64, names)
  t.equal(
    names.text,
    Object.keys(wanted)
      .map(name => `${name}\0`)
      .join(''),
  )
  t.equal(total, names.text.length)
  for (const [name, value] of Object.entries(wanted)) {
    const out = new Extents()
    t.equal(reader.getxattr(64, latin1(`__${name}`), 2, name.length, out), value.length)
    t.equal(text(bytes, out), value)
  }
  for (const name of ['user.', 'user.b', 'system.posix_acl_access2', 'overlay.opaque', ''])
    t.equal(reader.getxattr(64, latin1(name), 0, name.length, new Extents()), -61, name)
  t.equal(openBytes(bytes, { xattrs: false }).reader.hasXattrs, false)
  t.equal(openBytes(bytes, { xattrs: false }).reader.getxattr(64, latin1('user.a'), 0, 6, new Extents()), -61)

  const at = 16 * 512 + 64 * 32 + InodeExtendedV6.size
  const lies: readonly (readonly [string, (view: DataView) => void])[] = [
    ['shared xattrs', view => view.setUint8(at + 4, 1)],
    ['a namespace that does not exist', view => view.setUint8(at + 13, 5)],
    ['a name behind the area', view => view.setUint8(at + 12, 255)],
    ['a value behind the area', view => view.setUint16(at + 14, 65535, true)],
  ]
  for (const [what, patch] of lies) {
    const { reader: damaged } = build([[1, 'a', 'x']], patch)
    t.equal(damaged.listxattr(64, new Bytes()), -5, what)
    t.equal(damaged.getxattr(64, latin1('user.b'), 0, 6, new Extents()), -5, what)
  }
})
