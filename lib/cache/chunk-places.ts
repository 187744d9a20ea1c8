/** Where chunks lie in a blob's data file, by number: from the blob's table, or as they come by. */
import type { ChunkTable } from './chunk-table.js'

export class ChunkPlaces {
  readonly count: number
  /** -1: not known. */
  readonly #offsets: Float64Array
  readonly #sizes: Uint32Array
  #table: ChunkTable | undefined

  constructor(count: number) {
    this.count = count
    this.#offsets = new Float64Array(count).fill(-1)
    this.#sizes = new Uint32Array(count)
  }

  learn(index: number, offset: number, size: number): void {
    if (index < 0 || index >= this.count) return
    this.#offsets[index] = offset
    this.#sizes[index] = size
  }

  /** All of a table, once. Throws CACHE_BAD_META for a damaged one. */
  learnTable(table: ChunkTable): void {
    if (this.#table === table) return
    for (let index = 0; index < Math.min(this.count, table.count); index++) {
      const { uncompressedOffset, uncompressedSize } = table.chunk(index)
      this.learn(index, uncompressedOffset, uncompressedSize)
    }
    this.#table = table
  }

  /** -1: not known. */
  offset(index: number): number {
    return this.#offsets[index] ?? -1
  }

  size(index: number): number {
    return this.#sizes[index] ?? 0
  }
}
