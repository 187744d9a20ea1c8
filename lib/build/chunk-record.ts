/** The 80-byte record of a chunk, which v5 keeps behind each file and v6 in one table. */
import { ChunkV5, V5_CHUNK_FLAG } from '../rafs/layout/v5.js'
import { CHUNK, type Chunks } from './chunks.js'
import { setU64 } from '../base/u64.js'

const { at: AT } = ChunkV5

/** Writes the record of a row to `at`, where zeros are. `fileOffset`: of the chunk in its file. */
export function writeChunk(
  view: DataView,
  at: number,
  chunks: Chunks,
  row: number,
  fileOffset: number,
): void {
  const flags = chunks.flags(row)
  const batch = (flags & CHUNK.BATCH) !== 0
  chunks.putDigest(row, view, at + AT.digest)
  view.setUint32(at + AT.blobIndex, chunks.blob(row), true)
  // Whether a batch is compressed is said by its window in the CI table.
  view.setUint32(
    at + AT.flags,
    ((flags & CHUNK.COMPRESSED) !== 0 && !batch ? V5_CHUNK_FLAG.COMPRESSED : 0) |
      ((flags & CHUNK.ENCRYPTED) !== 0 ? V5_CHUNK_FLAG.ENCRYPTED : 0) |
      ((flags & CHUNK.CRC) !== 0 ? V5_CHUNK_FLAG.CRC : 0),
    true,
  )
  // A chunk in a batch has no place of its own: the CI table of its blob tells where it is.
  if (!batch) {
    view.setUint32(at + AT.compressedSize, chunks.compressedSize(row), true)
    setU64(view, at + AT.compressedOffset, chunks.compressedOffset(row))
  }
  view.setUint32(at + AT.uncompressedSize, chunks.uncompressedSize(row), true)
  setU64(view, at + AT.uncompressedOffset, chunks.uncompressedOffset(row))
  setU64(view, at + AT.fileOffset, fileOffset)
  view.setUint32(at + AT.index, chunks.index(row), true)
  if ((flags & CHUNK.CRC) !== 0) view.setUint32(at + AT.crc32, chunks.crc32(row), true)
}
