/** What reads need to know of an image's blobs, in typed arrays: limits, the cache's file, and which chunks it has. */
import { BLOB_FEATURE, type BlobHandle, type BlobInfo } from '../cache/cache.js'

/** Bytes for which there is one mark (lib/cache/recency.ts). */
const MARK_RANGE = 2 << 20

export class Blobs {
  readonly count: number
  /** File to read plain chunks from, by blob index; 0 = none. */
  readonly files: Uint32Array
  /** Bytes of the virtual uncompressed blob; Infinity in images that do not tell. */
  readonly sizes: Float64Array
  /** Infinity where chunk numbers mean nothing or the count is unknown. */
  readonly chunkCounts: Float64Array
  /** 512-byte blocks of plain content, as far as the image tells. */
  readonly contentBlocks: number
  readonly #maps: readonly Uint8Array[]
  /** By blob: a byte for each MARK_RANGE of its file; undefined where nobody wants to know what is used. */
  readonly #marks: readonly (Uint8Array | undefined)[]
  readonly #bitsOffsets: Float64Array
  readonly #bitCounts: Float64Array

  /**
   * `handles[i]` and `maps[i]` (the mapped chunk map, empty when there is none) belong to blob i; where they are
   * missing, no chunk of the blob is ready.
   */
  constructor(infos: readonly BlobInfo[], handles: readonly BlobHandle[], maps: readonly Uint8Array[]) {
    this.count = infos.length
    this.files = Uint32Array.from(infos, (_, i) => handles[i]?.fileId ?? 0)
    this.sizes = Float64Array.from(infos, info =>
      info.uncompressedSize === 0 ? Infinity : info.uncompressedSize,
    )
    this.chunkCounts = Float64Array.from(infos, info => numberedChunks(info))
    this.contentBlocks = infos.reduce((sum, info) => sum + Math.ceil(info.uncompressedSize / 512), 0)
    this.#maps = infos.map((_, i) => maps[i] ?? new Uint8Array(0))
    this.#marks = infos.map((_, i) => {
      const marks = handles[i]?.marks
      return marks && new Uint8Array(marks)
    })
    this.#bitsOffsets = Float64Array.from(infos, (_, i) => handles[i]?.bitsOffset ?? 0)
    this.#bitCounts = Float64Array.from(infos, (_, i) => {
      const handle = handles[i]
      // A map that is shorter than its bits (cut by somebody) must not be read behind its end.
      if (handle === undefined) return 0
      return Math.min(handle.chunkCount, Math.max(0, (maps[i]?.length ?? 0) - handle.bitsOffset) * 8)
    })
  }

  /** Leaves a mark that the bytes from `offset` on are used. */
  mark(blob: number, offset: number): void {
    const marks = this.#marks[blob]
    if (marks === undefined) return
    const range = Math.floor(offset / MARK_RANGE)
    if (marks[range] === 0) marks[range] = 1
  }

  /** Whether chunk `index` of `blob` is in the cache: its bit, most significant first. False when unknown. */
  ready(blob: number, index: number): boolean {
    const map = this.#maps[blob]
    if (map === undefined || index < 0 || index >= (this.#bitCounts[blob] ?? 0)) return false
    return (Atomics.load(map, (this.#bitsOffsets[blob] ?? 0) + (index >>> 3)) & (0x80 >>> (index & 7))) !== 0
  }
}

function numberedChunks(info: BlobInfo): number {
  const meaningless = (info.features & (BLOB_FEATURE.TARFS | BLOB_FEATURE.CHUNK_DICT_GENERATED)) !== 0
  return meaningless || info.chunkCount === 0 ? Infinity : info.chunkCount
}
