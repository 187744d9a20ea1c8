import t from 'tap'
import { BLOB_FEATURE, type BlobInfo } from './cache.js'
import { ChunkTable, metaFileSize } from './chunk-table.js'
import { CI_MAGIC, CiHeaderV6, ZranWindowV6 } from './layout.js'

function info(
  features: number,
  chunkCount: number,
  tableSize: number,
  more: Partial<BlobInfo> = {},
): BlobInfo {
  return {
    id: 'blob',
    blobIndex: 0,
    rafsVersion: 6,
    features,
    compressor: 'zstd',
    digester: 'sha256',
    chunkSize: 1 << 20,
    chunkCount,
    compressedSize: 1 << 30,
    uncompressedSize: 2 ** 40,
    ci: { compressor: 'none', offset: 9000, compressedSize: tableSize, uncompressedSize: tableSize },
    ...more,
  }
}

function metaFile(of: BlobInfo, table: Uint8Array, header: object = {}): Uint8Array {
  const bytes = new Uint8Array(metaFileSize(of))
  bytes.set(table)
  const full = {
    magic: CI_MAGIC,
    magic2: CI_MAGIC,
    entries: of.chunkCount,
    ciOffset: BigInt(of.ci.offset),
    ciCompressedSize: BigInt(of.ci.compressedSize),
    ciUncompressedSize: BigInt(of.ci.uncompressedSize),
    ...header,
  }
  CiHeaderV6.write(bytes, full, bytes.byteLength - CiHeaderV6.size)
  return bytes
}

function words(...values: bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values).buffer)
}

t.test('v1 records: all bits of offsets and sizes', async t => {
  // rafs-v6.md §7: sizes are stored less one, low 20 bits on top and high 4 below.
  const size = 0x12_3456n
  const u = ((size & 0xf_ffffn) << 44n) | ((size >> 20n) << 8n) | 0xab_cdef_1000n
  const stored = 0x10_0001n
  const c = ((stored & 0xf_ffffn) << 44n) | ((stored >> 20n) << 40n) | 0x12_3456_789an
  const of = info(BLOB_FEATURE.ALIGNED, 1, 16, { compressedSize: 2 ** 40, chunkSize: 1 << 24 })
  const table = new ChunkTable(of, metaFile(of, words(u, c)))
  t.match(table.chunk(0), {
    uncompressedOffset: 0xab_cdef_1000,
    uncompressedSize: 0x12_3457,
    compressedOffset: 0x12_3456_789a,
    compressedSize: 0x10_0002,
    compressed: true,
    encrypted: false,
    crc32: undefined,
  })
})

t.test('v2 records: the batch example of blobs-and-cache.md §9', async t => {
  const v2 = BLOB_FEATURE.CHUNK_INFO_V2
  const of = info(v2, 2, 48)
  const batched = words((0x05n << 56n) | (0x270fn << 32n), 0n, 0n)
  const plain = words((0x11n << 56n) | (0xf_ffffn << 32n) | 3n, (0x10_0000n << 40n) | 248n, 0xdead_beefn)
  const table = new ChunkTable(of, metaFile(of, Buffer.concat([batched, plain])))
  t.match(table.chunk(0), { uncompressedSize: 10_000, window: { index: 0, at: 0, kind: 'batch' } })
  t.match(table.chunk(1), {
    compressedOffset: 248,
    compressedSize: 1 << 20,
    uncompressedOffset: 3 * 4096,
    uncompressedSize: 1 << 20,
    crc32: 0xdead_beef,
  })
})

t.test("a table that is not this image's is refused", async t => {
  const of = info(BLOB_FEATURE.ALIGNED, 1, 16)
  const good = words(0n, 0n)
  t.doesNotThrow(() => new ChunkTable(of, metaFile(of, good)))
  const bad: [string, () => Uint8Array][] = [
    ['size', () => metaFile(of, good).subarray(1)],
    ['magic', () => metaFile(of, good, { magic: 1 })],
    ['magic2', () => metaFile(of, good, { magic2: 1 })],
    ['entries', () => metaFile(of, good, { entries: 2 })],
    ['ciOffset', () => metaFile(of, good, { ciOffset: 1n })],
    ['ciCompressor', () => metaFile(of, good, { ciCompressor: 3 })],
    ['ciUncompressedSize', () => metaFile(of, good, { ciUncompressedSize: 32n })],
  ]
  for (const [what, make] of bad)
    t.throws(() => new ChunkTable(of, make()), { code: 'CACHE_BAD_META', errno: 'EIO' }, what)
})

t.test('records that leave the blob, windows that leave the table', async t => {
  const of = info(BLOB_FEATURE.ALIGNED, 1, 16, {
    compressedSize: 5000,
    uncompressedSize: 8192,
    chunkSize: 4096,
  })
  const first = (u: bigint, c: bigint) => new ChunkTable(of, metaFile(of, words(u, c))).unit(0)
  t.doesNotThrow(() => first(4095n << 44n, 99n << 44n))
  t.throws(() => first(4096n << 44n, 0n), { code: 'CACHE_BAD_META' }, 'bigger than a chunk')
  t.throws(() => first((4095n << 44n) | 0x2000n, 0n), { code: 'CACHE_BAD_META' }, 'behind the plain end')
  t.throws(() => first(0n, (99n << 44n) | 4901n), { code: 'CACHE_BAD_META' }, 'behind the stored end')

  const batch = info(BLOB_FEATURE.CHUNK_INFO_V2 | BLOB_FEATURE.BATCH, 1, 24 + 40)
  const record = (window: bigint, at: bigint) => words((5n << 56n) | (99n << 32n), 0n, (window << 32n) | at)
  const window = words((200n << 32n) | 50n, 0n, 0n, 0n, 0n)
  const unit = (window_: bigint, at: bigint, header: object = {}) => {
    const bytes = metaFile(batch, Buffer.concat([record(window_, at), window]), {
      windowOffset: 24n,
      windowBytes: 40n,
      windowCount: 1,
      ...header,
    })
    return new ChunkTable(batch, bytes).unit(0)
  }
  t.match(unit(0n, 100n), { size: 50, outputSize: 200, compressed: true, members: [{ at: 100, size: 100 }] })
  t.throws(() => unit(1n, 0n), { code: 'CACHE_BAD_META' }, 'no such window')
  t.throws(() => unit(0n, 101n), { code: 'CACHE_BAD_META' }, 'behind the window')
  t.throws(() => unit(0n, 0n, { windowCount: 2 }), { code: 'CACHE_BAD_META' }, 'too many windows')
  t.throws(() => unit(0n, 0n, { windowOffset: 23n }), { code: 'CACHE_BAD_META' }, 'windows inside records')
  t.throws(() => unit(0n, 0n, { windowOffset: 2n ** 60n }), { code: 'CACHE_BAD_META' }, 'far away')
})

t.test('entry points into a gzip stream that cannot be', async t => {
  const of = info(BLOB_FEATURE.CHUNK_INFO_V2 | BLOB_FEATURE.ZRAN, 1, 24 + 40 + 40_000)
  const unit = (bits: number, dictionaryLength: number) => {
    const window = new Uint8Array(ZranWindowV6.size)
    ZranWindowV6.write(window, { inLength: 50, outLength: 200, dictionaryLength, bits })
    const table = Buffer.concat([words((3n << 56n) | (99n << 32n), 0n, 0n), window, Buffer.alloc(40_000)])
    const header = { windowOffset: 24n, windowBytes: 40_040n, windowCount: 1 }
    return new ChunkTable(of, metaFile(of, table, header)).unit(0)
  }
  t.match(unit(7, 32_768), { zran: { bits: 7 } })
  t.throws(() => unit(8, 0), { code: 'CACHE_BAD_META', message: /8 bits/ })
  t.throws(() => unit(0, 32_769), { code: 'CACHE_BAD_META', message: /32769 bytes/ })
})
