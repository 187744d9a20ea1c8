/**
 * The chunk information that a v6 blob carries of itself (rafs-v6.md §7): one record a chunk, in the order of the
 * blob, then batch or zran windows; and the 4096-byte header that follows it.
 */
import { putBits } from '../base/u64.js'
import { BLOB_FEATURE, type Compressor } from '../cache/cache.js'
import {
  CI_MAGIC,
  CI_V1,
  CI_V2,
  CI_V2_FLAG,
  CiHeaderV6,
  CiRecordV1,
  CiRecordV2,
  V6_BLOCK_SIZE,
  V6_COMPRESSOR,
} from '../rafs/layout/v6.js'
import { CHUNK, type Chunks } from './chunks.js'

const SIZE_REST = 2 ** CI_V1.sizeBits - 1

/** Writes the record of a row to `at`, where zeros are. */
function writeV1(view: DataView, at: number, chunks: Chunks, row: number): void {
  const plain = chunks.uncompressedSize(row) - 1
  const stored = chunks.compressedSize(row) - 1
  const { uncompressed, compressed, sizeBits } = CI_V1
  const u = at + CiRecordV1.at.uncompressed
  putBits(view, u, uncompressed.block, chunks.uncompressedOffset(row) / V6_BLOCK_SIZE)
  putBits(view, u, uncompressed.size, plain & SIZE_REST)
  putBits(view, u, uncompressed.sizeTop, plain >>> sizeBits)
  const c = at + CiRecordV1.at.compressed
  putBits(view, c, compressed.offset, chunks.compressedOffset(row))
  putBits(view, c, compressed.size, stored & SIZE_REST)
  putBits(view, c, compressed.sizeTop, stored >>> sizeBits)
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
  const u = at + CiRecordV2.at.uncompressed
  putBits(view, u, CI_V2.uncompressed.block, chunks.uncompressedOffset(row) / V6_BLOCK_SIZE)
  putBits(view, u, CI_V2.uncompressed.size, chunks.uncompressedSize(row) - 1)
  putBits(view, u, CI_V2.uncompressed.flags, flags)
  const c = at + CiRecordV2.at.compressed
  putBits(view, c, CI_V2.compressed.offset, chunks.compressedOffset(row))
  putBits(view, c, CI_V2.compressed.size, chunks.compressedSize(row))
  if (batch || zran) {
    view.setUint32(at + CiRecordV2.at.value, chunks.windowOffset(row), true)
    view.setUint32(at + CiRecordV2.at.window, chunks.window(row), true)
  } else if (crc) view.setUint32(at + CiRecordV2.at.value, chunks.crc32(row), true)
}

/** The plain table, `windows` at its end. `features` decides between the two record formats. */
export function ciTable(
  chunks: Chunks,
  rows: readonly number[],
  windows: Uint8Array,
  features: number,
): Uint8Array {
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
