/**
 * Units of blobs without a chunk table: v5 images bring the record of each chunk, for tarfs it is a range of the
 * tar. Images are not believed: every number is checked against the blob before it is used.
 */
import { NydusError } from '../base/errors.js'
import { BLOB_FEATURE, type BlobInfo, type ChunkRef } from './cache.js'
import { stargzBound } from './chunk-table.js'
import { MAX_OUTPUT, MAX_STORED, type Unit } from './unit.js'

/** Sizes of 2020 blobs are unknown (0): nothing can be behind their end. */
function within(offset: number, size: number, end: number): boolean {
  return Number.isSafeInteger(offset) && offset >= 0 && (end === 0 || offset + size <= end)
}

/** Chunks of this blob have numbers that tell them apart. */
export function isIndexed(info: BlobInfo): boolean {
  const meaningless = BLOB_FEATURE.TARFS | BLOB_FEATURE.CHUNK_DICT_GENERATED
  return info.chunkCount > 0 && (info.features & meaningless) === 0
}

/** The unit of a chunk record. Throws CACHE_BAD_RECORD. */
export function recordUnit(info: BlobInfo, record: ChunkRef): Unit {
  const indexed = isIndexed(info)
  const stargz = info.compressor === 'gzip' && (info.features & BLOB_FEATURE.TARFS) === 0
  const { compressedOffset, compressedSize, uncompressedOffset, uncompressedSize } = record
  const sizesFit =
    uncompressedSize > 0 &&
    uncompressedSize <= Math.min(info.chunkSize, MAX_OUTPUT) &&
    (stargz || (compressedSize > 0 && compressedSize <= MAX_STORED)) &&
    (record.compressed || stargz || record.encrypted || compressedSize === uncompressedSize)
  const numbered = !indexed || (record.index >= 0 && record.index < info.chunkCount)
  if (
    !sizesFit ||
    !numbered ||
    !within(compressedOffset, stargz ? 0 : compressedSize, info.compressedSize) ||
    !within(uncompressedOffset, uncompressedSize, info.uncompressedSize)
  )
    throw new NydusError(
      'CACHE_BAD_RECORD',
      'EIO',
      `blob ${info.id}: the image's record of chunk ${record.index} cannot be right: ${compressedSize} bytes at ` +
        `${compressedOffset} for ${uncompressedSize} at ${uncompressedOffset}, in a blob of ${info.chunkCount} chunks ` +
        `of at most ${info.chunkSize} with ${info.compressedSize} bytes for ${info.uncompressedSize}`,
    )
  return {
    key: indexed ? record.index : uncompressedOffset,
    offset: compressedOffset,
    size: stargz ? stargzBound(uncompressedSize) : compressedSize,
    ...(stargz && { open: true as const }),
    compressed: stargz || record.compressed,
    encrypted: record.encrypted,
    outputSize: uncompressedSize,
    members: [
      {
        index: record.index,
        at: 0,
        size: uncompressedSize,
        uncompressedOffset,
        ...(record.crc32 !== undefined && { crc32: record.crc32 }),
      },
    ],
  }
}
