/**
 * The chunk information that a v6 blob carries of itself (rafs-v6.md §7): one record a chunk, in the order of the
 * blob, then batch or zran windows; and the 4096-byte header that follows it.
 */
import { BLOB_FEATURE, type Compressor } from '../cache/cache.js'
import {
  CI_MAGIC,
  CI_V2_FLAG,
  CiHeaderV6,
  CiRecordV1,
  CiRecordV2,
  V6_BLOCK_SIZE,
  V6_COMPRESSOR,
} from '../rafs/layout/v6.js'
import { CHUNK, type Chunks } from './chunks.js'

const WORD = 2 ** 32

/** Numbers in the bits of rafs-v6.md §7.1, as the low and high half of each word: sizes have 24 bits, places 40. */
function writeV1(view: DataView, at: number, chunks: Chunks, row: number): void {
  const plain = chunks.uncompressedSize(row) - 1
  const stored = chunks.compressedSize(row) - 1
  const place = chunks.uncompressedOffset(row)
  const offset = chunks.compressedOffset(row)
  view.setUint32(at + CiRecordV1.at.uncompressed, (place % WORD) + (plain >>> 20) * 2 ** 8, true)
  view.setUint32(at + CiRecordV1.at.uncompressed + 4, Math.floor(place / WORD) | (plain << 12), true)
  view.setUint32(at + CiRecordV1.at.compressed, offset % WORD, true)
  view.setUint32(at + CiRecordV1.at.compressed + 4, Math.floor(offset / WORD) | ((stored >>> 20) << 8) | (stored << 12), true)
}

function writeV2(view: DataView, at: number, chunks: Chunks, row: number): void {
  const own = chunks.flags(row)
  const batch = (own & CHUNK.BATCH) !== 0
  const zran = (own & CHUNK.ZRAN) !== 0
  const crc = (own & CHUNK.CRC) !== 0 && !batch && !zran
  const flags =
    ((own & CHUNK.COMPRESSED) !== 0 ? CI_V2_FLAG.COMPRESSED : 0) |
    (batch ? CI_V2_FLAG.BATCH : 0) |
    (zran ? CI_V2_FLAG.ZRAN : 0) |
    ((own & CHUNK.ENCRYPTED) !== 0 ? CI_V2_FLAG.ENCRYPTED : 0) |
    (crc ? CI_V2_FLAG.CRC : 0)
  const offset = chunks.compressedOffset(row)
  view.setUint32(at + CiRecordV2.at.uncompressed, chunks.uncompressedOffset(row) / V6_BLOCK_SIZE, true)
  view.setUint32(at + CiRecordV2.at.uncompressed + 4, (chunks.uncompressedSize(row) - 1) | (flags << 24), true)
  view.setUint32(at + CiRecordV2.at.compressed, offset % WORD, true)
  view.setUint32(at + CiRecordV2.at.compressed + 4, Math.floor(offset / WORD) | (chunks.compressedSize(row) << 8), true)
  if (batch || zran) {
    view.setUint32(at + CiRecordV2.at.data, chunks.windowOffset(row), true)
    view.setUint32(at + CiRecordV2.at.data + 4, chunks.window(row), true)
  } else if (crc) view.setUint32(at + CiRecordV2.at.data, chunks.crc32(row), true)
}

/** The plain table, `windows` at its end. `features` decides between the two record formats. */
export function ciTable(chunks: Chunks, rows: readonly number[], windows: Uint8Array, features: number): Uint8Array {
  const v2 = (features & BLOB_FEATURE.CHUNK_INFO_V2) !== 0
  const recordSize = v2 ? CiRecordV2.size : CiRecordV1.size
  const out = new Uint8Array(rows.length * recordSize + windows.length)
  const view = new DataView(out.buffer)
  const write = v2 ? writeV2 : writeV1
  for (let i = 0; i < rows.length; i++) write(view, i * recordSize, chunks, rows[i] ?? 0)
  out.set(windows, rows.length * recordSize)
  return out
}

export function ciHeader(ci: {
  readonly features: number
  readonly compressor: Compressor
  readonly entries: number
  readonly offset: number
  readonly compressedSize: number
  readonly uncompressedSize: number
  /** Batch windows, or zran windows with their dictionaries: their number and bytes. */
  readonly windows: number
  readonly windowBytes: number
}): Uint8Array {
  const out = new Uint8Array(CiHeaderV6.size)
  CiHeaderV6.write(out, {
    magic: CI_MAGIC,
    features: ci.features,
    ciCompressor: V6_COMPRESSOR.indexOf(ci.compressor),
    entries: ci.entries,
    ciOffset: BigInt(ci.offset),
    ciCompressedSize: BigInt(ci.compressedSize),
    ciUncompressedSize: BigInt(ci.uncompressedSize),
    windowOffset: BigInt(ci.windows > 0 ? ci.entries * CiRecordV2.size : 0),
    windowBytes: BigInt(ci.windowBytes),
    windowCount: ci.windows,
    magic2: CI_MAGIC,
  })
  return out
}
