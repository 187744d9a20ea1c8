import t from 'tap'
import { newAttr } from '../vfs/filesystem.js'
import { Blobs } from './blobs.js'
import { Bootstrap } from './bootstrap.js'
import { InodeExtendedV6 } from './layout/v6.js'
import { InodeV5 } from './layout/v5.js'
import { readSuper } from './super.js'
import { memoryOf, openBytes } from './testing/fixtures.js'
import { Bytes, Entries, Extents, latin1 } from './testing/sinks.js'
import { resolveWant } from './want.js'

/** A file of `size` zeros with pieces of hex at offsets. */
function image(size: number, pieces: readonly (readonly [offset: number, hex: string])[]): Uint8Array {
  const bytes = new Uint8Array(size)
  for (const [offset, hex] of pieces) bytes.set(Buffer.from(hex.replaceAll(' ', ''), 'hex'), offset)
  return bytes
}

const ID = '1a74'.repeat(15) + '3500'
const ID_HEX = Buffer.from(ID).toString('hex')
const DIGEST = '4aeffca9'.padEnd(56, '0') + '95404f30'

/** The worked example of rafs-v5.md §11; records that it does not show in hex are written by the layout table. */
function exampleV5(): Uint8Array {
  const bytes = image(0x2588, [
    [0x00, '53464152 00050000 00200000 00001000'],
    [0x10, '3a000000 00000000 06000000 00000000'],
    [0x20, '00200000 00000000 20200000 00000000 20200000 00000000'],
    [0x38, '07000000 00000000 48000000 01000000 68200000 00000000'],
    [0x2000, '15040000 26040000 44040000 55040000 9f040000 66040000 81040000 00000000'],
    [0x2020, `00000000 00000000 ${ID_HEX}`],
    [0x2068, '02000000 00000040 94130000 00000000 2a000000 00000000'],
    [0x2150, '01000000 00000000 02000000 00000000'],
    [0x2160, '00000000 00000000 00000000 a4810000'],
    [0x2170, '0c000000 00000000 01000000 00000000'],
    [0x2180, '04000000 00000000 02000000 00000000'],
    [0x2190, '01000000 0500 0000 00000000 0065cd1d'],
    [0x21a0, 'a55d0d5e 00000000'],
    [0x21b0, '68656c6c 6f000000 0e000000 00000000 0a000000 757365722e6b 00 76616c 0000'],
    [0x21d0, `${DIGEST} 00000000 10000000 0c000000 0c000000`],
    [0x2218, '00000000 2b7bbb25'],
    [0x23b8, 'ff'.repeat(32)],
    [0x23d8, '00000000 11000000 1e000000 88130000 0c000000 00000000 0c000000 00000000'],
    [0x2400, '01000000 a0282e9c'],
  ])
  const record = (at: number, name: string, value: Parameters<typeof InodeV5.write>[1]) => {
    InodeV5.write(bytes, { nlink: 1, nameSize: name.length, ...value }, at)
    bytes.set(latin1(name), at + InodeV5.size)
  }
  record(0x20a8, '/', { ino: 1n, mode: 0o40755, nlink: 3, childIndex: 2, childCount: 4, size: 4096n })
  record(0x2220, 'null', { ino: 3n, parent: 1n, mode: 0o20666, rdev: 0x103 })
  record(0x22a8, 'sub', { ino: 4n, parent: 1n, mode: 0o40755, childIndex: 6, childCount: 2 })
  record(0x2330, 'as', { ino: 6n, parent: 4n, mode: 0o100644, size: 5000n, childCount: 1 })
  record(0x2408, 'link', { ino: 2n, parent: 4n, mode: 0o100644, nlink: 2 })
  record(0x24f8, 'sym', { ino: 5n, parent: 1n, mode: 0o120777, size: 5n, flags: 1n, symlinkSize: 5 })
  bytes.set(latin1('hello'), 0x24f8 + InodeV5.size + 8)
  return bytes
}

/** The attributes of `hello` in both examples, but for its number. */
const HELLO = {
  ...{ size: 12, blocks: 1, mode: 0o100644, nlink: 2, uid: 0, gid: 0, rdev: 0 },
  ...{ mtime: 1577934245, mtimeNs: 500_000_000 },
}

t.test('RAFS v5: the worked example', async t => {
  const bytes = exampleV5()
  const { sb, reader } = openBytes(bytes)
  t.match(sb, {
    version: 5,
    chunkSize: 1 << 20,
    compressor: 'lz4_block',
    digester: 'sha256',
    ownersKnown: true,
    hasXattrs: true,
    inodes: 6,
    inodeTableEntries: 7,
    early: false,
    blobs: [{ id: ID, features: 0x4000_0000, chunkCount: 2, uncompressedSize: 5012, compressedSize: 42 }],
  })
  const hello = reader.lookup(reader.rootIno, latin1('hello'), 0, 5)
  t.equal(hello, 2)
  t.equal(
    reader.lookup(reader.lookup(1, latin1('sub'), 0, 3), latin1('link'), 0, 4),
    2,
    'a hard link is the same inode',
  )
  const attr = newAttr()
  reader.getattr(hello, attr)
  t.strictSame(attr, { ino: 2, ...HELLO })
  const value = new Extents()
  t.equal(reader.getxattr(hello, latin1('user.k'), 0, 6, value), 3)
  t.strictSame(value.extents, [{ file: 7, offset: 0x21cb, length: 3 }])
  t.equal(Buffer.from(bytes.subarray(0x21cb, 0x21ce)).toString(), 'val')
  const names = new Bytes()
  t.equal(reader.listxattr(hello, names), 7)
  t.equal(names.text, 'user.k\0')
  t.equal(reader.getxattr(hello, latin1('user.'), 0, 5, new Extents()), -61)

  const content = new Extents()
  t.equal(reader.read(6, 4000, 9999, content), 1000)
  t.strictSame(content.extents, [{ file: 0, offset: 12 + 4000, length: 1000 }])
  t.strictSame(content.wants, [{ blob: 0, ref: 0x23b8, chunkOffset: 4000, length: 1000 }])
  const boot = new Bootstrap(memoryOf(bytes), bytes.length, 'image')
  t.match(resolveWant(boot, sb, 0, 0x23b8, undefined), {
    index: 1,
    uncompressedOffset: 12,
    uncompressedSize: 5000,
    record: {
      compressed: true,
      encrypted: false,
      compressedOffset: 12,
      compressedSize: 30,
      crc32: 0x9c2e28a0,
    },
  })
  t.match(resolveWant(boot, sb, 0, 0x21d0, undefined).record, {
    compressed: false,
    crc32: 0x25bb7b2b,
    index: 0,
  })
})

/** The worked example of rafs-v6.md §11, as above. */
function exampleV6(): Uint8Array {
  const bytes = image(20480, [
    [0x400, 'e2e1f5e0 00000000 00000040 0c 00 8000'],
    [0x410, '07000000'],
    [0x424, '03000000 02000000 00000000'],
    [0x450, '0c000000 0000 0100 0b00'],
    [0x480, '3a000001 00000000 00100000 00000000 00010000 00001000'],
    [0x498, '00400000 00000000 a0000000'],
    [0x580, `${ID_HEX} 03000000 80000000`],
    [0x1000, `${ID_HEX} 00000000 00001000 02000000 01000000`],
    [0x1050, '01000000 01000040 46100000 00000000 00300000 00000000 00000000 01000000'],
    [0x1070, '2a000000 00000000 1c000000 00000000 20000000'],
    [0x3000, '0500 0000 ed41 0000 5a000000 00000000 03000000 01000000'],
    [0x302c, '03000000'],
    [0x3040, '80000000 00000000 4800 02 00  80000000 00000000 4900 02 00'],
    [0x3058, '85000000 00000000 4b00 01 00  88000000 00000000 5000 03 00'],
    [0x3070, '8d000000 00000000 5400 02 00  8a000000 00000000 5700 07 00'],
    [0x3088, Buffer.from('...hellonullsubsym').toString('hex')],
    [0x30a0, '0900 0300 a481 0000 0c000000 00000000 28000000 02000000'],
    [0x30c0, 'a55d0d5e 00000000 0065cd1d 02000000'],
    [0x30ec, '01 01 0300 6b 76616c'],
    [0x30f8, '0000 01 00 00000000'],
    [0x3100, '0100 0000 b621'],
    [0x3110, '03010000'],
    [0x3140, '0500 0000 ffa1 0000 05000000'],
    [0x3180, Buffer.from('hello').toString('hex')],
    [0x3260, '0100 01 00 01000000'],
    [0x4050, `${DIGEST} 00000000 10000000 0c000000 0c000000`],
  ])
  InodeExtendedV6.write(bytes, { format: 9, mode: 0o100644, size: 5000n, u: 0x28, nlink: 1 }, 0x3220)
  return bytes
}

t.test('RAFS v6: the worked example', async t => {
  const bytes = exampleV6()
  const { sb, reader } = openBytes(bytes)
  t.match(sb, {
    version: 6,
    rootIno: 128,
    chunkSize: 1 << 20,
    compressor: 'lz4_block',
    digester: 'sha256',
    inodes: 7,
    metaOffset: 0x2000,
    chunkTableOffset: 0x4000,
    chunkTableSize: 160,
  })
  t.match(sb.blobs[0], {
    id: ID,
    chunkCount: 2,
    compressedSize: 4166,
    uncompressedSize: 12288,
    ci: { compressor: 'lz4_block', offset: 42, compressedSize: 28, uncompressedSize: 32 },
  })
  const all = new Entries()
  reader.readdir(128, 0, all)
  t.strictSame(
    all.entries.map(({ name, ino, mode }) => [name, ino, mode]),
    [
      ['.', 128, 0o40000],
      ['..', 128, 0o40000],
      ['hello', 133, 0o100000],
      ['null', 136, 0o20000],
      ['sub', 141, 0o40000],
      ['sym', 138, 0o120000],
    ],
  )
  const attr = newAttr()
  reader.getattr(reader.lookup(128, latin1('hello'), 0, 5), attr)
  t.strictSame(attr, { ino: 133, ...HELLO })
  reader.getattr(136, attr)
  t.equal(attr.rdev, 0x103)
  const value = new Extents()
  t.equal(reader.getxattr(133, latin1('user.k'), 0, 6, value), 3)
  t.strictSame(value.extents, [{ file: 7, offset: 0x30f1, length: 3 }])
  const link = new Extents()
  t.equal(reader.readlink(138, link), 5)
  t.strictSame(link.extents, [{ file: 7, offset: 0x3180, length: 5 }])

  const content = new Extents()
  t.equal(reader.read(145, 4000, 9999, content), 1000)
  t.strictSame(content.extents, [{ file: 0, offset: 4096 + 4000, length: 1000 }])
  const boot = new Bootstrap(memoryOf(bytes), bytes.length, 'image')
  const [want] = content.wants
  t.strictSame(resolveWant(boot, sb, 0, want?.ref ?? 0, undefined), {
    index: 1,
    uncompressedOffset: 4096,
    uncompressedSize: 5000,
  })
})

t.test('the id 64 × x is the name of the file, up to its first dot', async t => {
  const bytes = exampleV6()
  bytes.fill(0x78, 0x1000, 0x1040)
  const boot = new Bootstrap(memoryOf(bytes), bytes.length, 'image')
  t.equal(readSuper(boot, 'c0ffee').blobs[0]?.id, 'c0ffee')
  t.equal(new Blobs(readSuper(boot, 'x').blobs, [], []).sizes[0], 12288)
})
