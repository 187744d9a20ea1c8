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
import { CHUNK, type Chunk, type Chunks } from './chunks.js'

function recordV1(chunk: Chunk): { uncompressed: bigint; compressed: bigint } {
  const plain = BigInt(chunk.uncompressedSize - 1)
  const stored = BigInt(chunk.compressedSize - 1)
  return {
    uncompressed: BigInt(chunk.uncompressedOffset) | ((plain & 0xfffffn) << 44n) | ((plain >> 20n) << 8n),
    compressed: BigInt(chunk.compressedOffset) | ((stored >> 20n) << 40n) | ((stored & 0xfffffn) << 44n),
  }
}

function recordV2(chunk: Chunk): { uncompressed: bigint; compressed: bigint; data: bigint } {
  const batch = (chunk.flags & CHUNK.BATCH) !== 0
  const zran = (chunk.flags & CHUNK.ZRAN) !== 0
  const crc = (chunk.flags & CHUNK.CRC) !== 0 && !batch && !zran
  const flags =
    ((chunk.flags & CHUNK.COMPRESSED) !== 0 ? CI_V2_FLAG.COMPRESSED : 0) |
    (batch ? CI_V2_FLAG.BATCH : 0) |
    (zran ? CI_V2_FLAG.ZRAN : 0) |
    ((chunk.flags & CHUNK.ENCRYPTED) !== 0 ? CI_V2_FLAG.ENCRYPTED : 0) |
    (crc ? CI_V2_FLAG.CRC : 0)
  return {
    uncompressed:
      BigInt(chunk.uncompressedOffset / V6_BLOCK_SIZE) |
      (BigInt(chunk.uncompressedSize - 1) << 32n) |
      (BigInt(flags) << 56n),
    compressed: BigInt(chunk.compressedOffset) | (BigInt(chunk.compressedSize) << 40n),
    data: batch || zran
      ? (BigInt(chunk.window) << 32n) | BigInt(chunk.windowOffset)
      : crc
        ? BigInt(chunk.crc32)
        : 0n,
  }
}

/** The plain table, `windows` at its end. `features` decides between the two record formats. */
export function ciTable(chunks: Chunks, rows: readonly number[], windows: Uint8Array, features: number): Uint8Array {
  const v2 = (features & BLOB_FEATURE.CHUNK_INFO_V2) !== 0
  const recordSize = v2 ? CiRecordV2.size : CiRecordV1.size
  const out = new Uint8Array(rows.length * recordSize + windows.length)
  rows.forEach((row, i) => {
    const chunk = chunks.get(row)
    if (v2) CiRecordV2.write(out, recordV2(chunk), i * recordSize)
    else CiRecordV1.write(out, recordV1(chunk), i * recordSize)
  })
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
