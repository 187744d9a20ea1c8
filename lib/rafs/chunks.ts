/** From a byte range of a file to extents of the cache's files: the same for both versions. */
import { ERRNO } from '../base/errors.js'
import { FILE_ZERO } from '../fuse/ring.js'
import type { ExtentSink } from '../vfs/filesystem.js'
import type { Blobs } from './blobs.js'

/** One chunk of a file; one object per reader, filled in place. */
export interface ChunkPlace {
  blob: number
  /** Number of the chunk in its blob; -1 when it has none. */
  index: number
  /** Image's own name for the chunk, as RafsImage.want takes it. */
  ref: number
  /** Where it starts in the file. */
  fileOffset: number
  /** Plain bytes. */
  length: number
  /** Where the plain bytes are in the virtual uncompressed blob. */
  offset: number
  /** It is a run of zeros, and in no blob. */
  hole: boolean
}

export function newChunkPlace(): ChunkPlace {
  return { blob: 0, index: 0, ref: 0, fileOffset: 0, length: 0, offset: 0, hole: false }
}

/** The chunks of one regular file, in file order; what lies between and behind them is zeros. */
export interface ChunkList {
  readonly size: number
  readonly chunkCount: number
  /** Number of the last chunk that starts at or before `offset` (0 when none does). */
  chunkAt(offset: number): number
  /** Fills `place` with chunk `k` (0 … chunkCount - 1) after checking every number of it; 0 or -EIO. */
  chunk(k: number, place: ChunkPlace): number
}

/** FileSystem.read. Nothing is returned short of the end of the file: a guest takes a short read for that end. */
export function readChunks(
  list: ChunkList,
  place: ChunkPlace,
  blobs: Blobs,
  offset: number,
  size: number,
  out: ExtentSink,
): number {
  if (!(offset >= 0)) return -ERRNO.EINVAL
  const end = Math.min(offset + size, list.size)
  if (end <= offset) return 0
  let at = offset
  for (let k = list.chunkAt(offset); k < list.chunkCount && at < end; k++) {
    if (list.chunk(k, place) !== 0) return -ERRNO.EIO
    if (place.fileOffset >= end) break
    if (place.fileOffset > at) {
      if (!out.add(FILE_ZERO, 0, place.fileOffset - at)) return -ERRNO.EIO
      at = place.fileOffset
    }
    const within = at - place.fileOffset
    const length = Math.min(place.length - within, end - at)
    // The chunk that starts before `offset` may also end before it, when a hole follows.
    if (length <= 0) continue
    if (place.hole) {
      if (!out.add(FILE_ZERO, 0, length)) return -ERRNO.EIO
    } else {
      if (!blobs.ready(place.blob, place.index) && !out.want(place.blob, place.ref, within, length))
        return -ERRNO.EIO
      if (!out.add(blobs.files[place.blob] ?? 0, place.offset + within, length)) return -ERRNO.EIO
      blobs.mark(place.blob, place.offset)
    }
    at += length
  }
  if (at < end && !out.add(FILE_ZERO, 0, end - at)) return -ERRNO.EIO
  return end - offset
}

export const SEEK_DATA = 3
export const SEEK_HOLE = 4

/** FileSystem.lseek for files that may have holes. */
export function seekChunks(list: ChunkList, place: ChunkPlace, offset: number, whence: number): number {
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) return -ERRNO.EINVAL
  if (!(offset >= 0) || offset >= list.size) return -ERRNO.ENXIO
  let at = offset
  for (let k = list.chunkAt(offset); k < list.chunkCount; k++) {
    if (list.chunk(k, place) !== 0) return -ERRNO.EIO
    if (place.fileOffset > at && whence === SEEK_HOLE) return at
    if (place.hole) {
      if (whence === SEEK_HOLE && place.fileOffset + place.length > at) return at
      continue
    }
    if (place.fileOffset + place.length <= at) continue
    if (whence === SEEK_DATA) return Math.max(at, place.fileOffset)
    at = place.fileOffset + place.length
  }
  return whence === SEEK_HOLE ? Math.min(at, list.size) : -ERRNO.ENXIO
}
