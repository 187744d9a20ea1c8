/**
 * The record of a chunk, as the bootstrap has it: v5 beside the file, v6 in the chunk table (rafs-v6.md §8), which is
 * searched by blob and number.
 */
import type { FileChunk, RafsImage } from '../rafs/image.js'
import { ChunkV5 } from '../rafs/layout/v5.js'

export interface ChunkRecord {
  /** 32 bytes; empty when the image has none. */
  readonly digest: Uint8Array
  /** Both 0 in the table for chunks of batches: the blob's own table tells. */
  readonly compressedOffset: number
  readonly compressedSize: number
}

const UNKNOWN: ChunkRecord = { digest: new Uint8Array(0), compressedOffset: 0, compressedSize: 0 }
const CHUNKS_PER_BLOB = 2 ** 24

export class ChunkRecords {
  readonly #image: RafsImage
  /** Offset of the record by blob and number. */
  #places: Map<number, number> | undefined

  constructor(image: RafsImage) {
    this.#image = image
  }

  of({ blob, want }: FileChunk): ChunkRecord {
    if (want.record !== undefined)
      return {
        digest: want.record.digest ?? UNKNOWN.digest,
        compressedOffset: want.record.compressedOffset,
        compressedSize: want.record.compressedSize,
      }
    this.#places ??= this.#read()
    const at = this.#places.get(blob * CHUNKS_PER_BLOB + want.index)
    if (at === undefined) return UNKNOWN
    const { digest, compressedOffset, compressedSize } = ChunkV5.read(this.#image.bytes(at, ChunkV5.size))
    return { digest, compressedOffset: Number(compressedOffset), compressedSize }
  }

  #read(): Map<number, number> {
    const places = new Map<number, number>()
    const { chunk_table_offset: start, chunk_table_size: size } = this.#image.facts
    for (let at = start; at + ChunkV5.size <= start + size; at += ChunkV5.size) {
      const { blobIndex, index } = ChunkV5.read(this.#image.bytes(at, ChunkV5.size))
      places.set(blobIndex * CHUNKS_PER_BLOB + index, at)
    }
    return places
  }
}
