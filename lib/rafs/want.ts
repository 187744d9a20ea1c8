/**
 * From the name that a lane gives a chunk (ExtentSink.want) to what the cache must know to fetch it. Runs in the
 * yard, and believes nothing: neither the number nor what the image says where it points.
 */
import { BLOB_FEATURE, type BlobInfo, type ChunkRef, type ChunkWant } from '../cache/cache.js'
import { u64 } from '../base/u64.js'
import { badImage, type Bootstrap } from './bootstrap.js'
import type { ChunkDigests } from './chunk-digests.js'
import { ChunkIndexV6 } from './layout/v6.js'
import { ChunkV5, V5_ALIGNMENT, V5_CHUNK_FLAG } from './layout/v5.js'
import { lengthOfRefV6, recordOfRefV6 } from './ref-v6.js'
import type { RafsSuper } from './super.js'
import type { SuperV5 } from './super-v5.js'
import type { SuperV6 } from './super-v6.js'

const CHUNK = ChunkV5.at
const INDEX = ChunkIndexV6.at

/** Throws NydusError RAFS_BAD_CHUNK. `digests`: to add those of a v6 image. */
export function resolveWant(
  boot: Bootstrap,
  sb: RafsSuper,
  blob: number,
  ref: number,
  digests: ChunkDigests | undefined,
): ChunkWant {
  const info = sb.blobs[blob]
  if (info === undefined || !Number.isSafeInteger(ref) || ref < 0)
    throw badImage(
      'RAFS_BAD_CHUNK',
      boot,
      `chunk ${ref} of blob ${blob} does not exist; there are ${sb.blobs.length} blobs`,
    )
  return sb.version === 5 ? wantV5(boot, sb, info, ref) : wantV6(boot, sb, info, ref, digests)
}

function wantV5(boot: Bootstrap, sb: SuperV5, info: BlobInfo, at: number): ChunkWant {
  const { view } = boot
  const bad = (what: string) =>
    badImage('RAFS_BAD_CHUNK', boot, `chunk record at ${at} (blob ${info.blobIndex}, ${info.id}): ${what}`)
  if (at % V5_ALIGNMENT !== 0 || !boot.has(at, ChunkV5.size)) throw bad('is not in the file')
  const flags = view.getUint32(at + CHUNK.flags, true)
  const compressed = (flags & V5_CHUNK_FLAG.COMPRESSED) !== 0
  const index = view.getUint32(at + CHUNK.index, true)
  const record: ChunkRef = {
    index: sb.chunksNumbered ? index : -1,
    compressedOffset: u64(view, at + CHUNK.compressedOffset),
    compressedSize: view.getUint32(at + CHUNK.compressedSize, true),
    uncompressedOffset: u64(view, at + CHUNK.uncompressedOffset),
    uncompressedSize: view.getUint32(at + CHUNK.uncompressedSize, true),
    compressed,
    encrypted: (flags & V5_CHUNK_FLAG.ENCRYPTED) !== 0,
    digest: boot.bytes.slice(at + CHUNK.digest, at + CHUNK.blobIndex),
    ...((flags & V5_CHUNK_FLAG.CRC) !== 0 && { crc32: view.getUint32(at + CHUNK.crc32, true) }),
  }
  if (view.getUint32(at + CHUNK.blobIndex, true) !== info.blobIndex) throw bad('belongs to another blob')
  if ((flags & V5_CHUNK_FLAG.HOLE) !== 0) throw bad('is a hole, nothing to fetch')
  checkRange(info, record.uncompressedOffset, record.uncompressedSize, bad)
  if (sb.chunksNumbered && info.chunkCount > 0 && index >= info.chunkCount)
    throw bad(`has the number ${index}, the blob has ${info.chunkCount} chunks`)
  if (!compressed && record.compressedSize !== record.uncompressedSize)
    throw bad(
      `is not compressed, yet takes ${record.compressedSize} bytes instead of ${record.uncompressedSize}`,
    )
  // Legacy stargz does not store sizes (blobs-and-cache.md §2).
  if (record.compressedSize === 0 && info.compressor !== 'gzip') throw bad('takes no bytes in its blob')
  // What does not shrink is stored as it is, so no codec's worst case comes near twice the size.
  if (record.compressedSize > 2 * info.chunkSize)
    throw bad(`takes ${record.compressedSize} bytes, twice a chunk's ${info.chunkSize}`)
  const end = record.compressedOffset + record.compressedSize
  if (end > (info.compressedSize === 0 ? Number.MAX_SAFE_INTEGER : info.compressedSize))
    throw bad(`ends at ${end}, behind the blob's ${info.compressedSize} bytes`)
  return {
    index: record.index,
    uncompressedOffset: record.uncompressedOffset,
    uncompressedSize: record.uncompressedSize,
    record,
  }
}

function wantV6(
  boot: Bootstrap,
  sb: SuperV6,
  info: BlobInfo,
  ref: number,
  digests: ChunkDigests | undefined,
): ChunkWant {
  const { view } = boot
  const at = recordOfRefV6(ref)
  const length = lengthOfRefV6(ref)
  const bad = (what: string) =>
    badImage('RAFS_BAD_CHUNK', boot, `chunk index at ${at} (blob ${info.blobIndex}, ${info.id}): ${what}`)
  if (!boot.has(at, ChunkIndexV6.size)) throw bad('is not in the file')
  if (view.getUint8(at + INDEX.blob) - 1 !== info.blobIndex) throw bad('belongs to another blob')
  const index = view.getUint16(at + INDEX.ciIndexLow, true) | (view.getUint8(at + INDEX.ciIndexHigh) << 16)
  const offset = view.getUint32(at + INDEX.blkaddr, true) * sb.blockSize
  checkRange(info, offset, length, bad)
  if (sb.tarfs) return tarWant(offset, length)
  const dictionary = (info.features & BLOB_FEATURE.CHUNK_DICT_GENERATED) !== 0
  if (!dictionary && index >= info.chunkCount)
    throw bad(`has the number ${index}, the blob has ${info.chunkCount} chunks`)
  const digest = digests?.get(info.blobIndex, index)
  return {
    index,
    uncompressedOffset: offset,
    uncompressedSize: length,
    ...(digest !== undefined && { digest }),
  }
}

/** tarfs: the blob is the untouched tar, a chunk is bytes of it. */
function tarWant(offset: number, length: number): ChunkWant {
  const place = { index: -1, uncompressedOffset: offset, uncompressedSize: length }
  const record = {
    ...place,
    compressedOffset: offset,
    compressedSize: length,
    compressed: false,
    encrypted: false,
  }
  return { ...place, record }
}

function checkRange(info: BlobInfo, offset: number, length: number, bad: (what: string) => Error): void {
  if (length < 1 || length > info.chunkSize)
    throw bad(`has ${length} bytes, 1 to ${info.chunkSize} are possible`)
  const size = info.uncompressedSize === 0 ? Number.MAX_SAFE_INTEGER : info.uncompressedSize
  if (offset + length > size) throw bad(`ends at ${offset + length}, behind the blob's ${size} plain bytes`)
}
