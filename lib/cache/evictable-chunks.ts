/**
 * Chunks of a blob as eviction looks at them: where they lie in the data file, and when they were used last. A chunk
 * goes by a key: its number, or its uncompressed offset in blobs whose chunks have none (LooseChunks).
 */
import type { ChunkWant } from './cache.js'
import type { ChunkTable } from './chunk-table.js'
import { rangeOf, Recency } from './recency.js'
import type { Member } from './unit.js'

export interface EvictableChunks {
  /** For lanes, which leave a mark for what they read; undefined: all that is read comes by as `used`. */
  readonly marks: SharedArrayBuffer | undefined
  /** Those whose place is known. */
  keys(): Iterable<number>
  /** Byte of the data file; -1: not known. */
  offset(key: number): number
  size(key: number): number
  /** Key of the unit that brings the chunk. */
  unitKey(key: number): number
  /** When it, or something near it, was used last; 0: not since the blob was opened. */
  last(key: number): number
  /** It was written to the data file. */
  stored(member: Member, unitKey: number, now: number): void
  /** Somebody who is no lane wants it. */
  used(key: number, now: number): void
  /** Takes down what was used since the last call as used `now`. */
  collect(now: number): void
  /** Finds out where chunks lie that an earlier process stored: takes its time, the first time. Never rejects. */
  learn(): Promise<void>
  /** It is not in the data file any more. */
  forget(key: number): void
}

export interface NumberedOptions {
  readonly chunkCount: number
  readonly uncompressedSize: number
  /** The blob's table, as soon as it is there. */
  readonly table: () => ChunkTable | undefined
  /** All chunks, when it never has one. */
  readonly chunks: (() => AsyncIterable<ChunkWant>) | undefined
}

/** Places are taken from the blob's table, from the image, or as chunks come by. */
export class NumberedChunks implements EvictableChunks {
  readonly #options: NumberedOptions
  readonly #recency: Recency
  /** -1: not known. */
  readonly #offsets: Float64Array
  readonly #sizes: Uint32Array
  #table: ChunkTable | undefined
  #learned = false

  constructor(options: NumberedOptions) {
    this.#options = options
    this.#recency = new Recency(options.uncompressedSize)
    this.#offsets = new Float64Array(options.chunkCount).fill(-1)
    this.#sizes = new Uint32Array(options.chunkCount)
  }

  get marks(): SharedArrayBuffer {
    return this.#recency.marks
  }

  /** Throws CACHE_BAD_META for a damaged table. */
  *keys(): Generator<number> {
    this.#learnTable()
    for (let index = 0; index < this.#offsets.length; index++) if (this.offset(index) >= 0) yield index
  }

  offset(index: number): number {
    return this.#offsets[index] ?? -1
  }

  size(index: number): number {
    return this.#sizes[index] ?? 0
  }

  unitKey(index: number): number {
    return this.#options.table()?.unitKey(index) ?? index
  }

  last(index: number): number {
    return this.#recency.last(rangeOf(this.offset(index)))
  }

  stored({ index, uncompressedOffset, size }: Member): void {
    this.#place(index, uncompressedOffset, size)
    this.#recency.used(uncompressedOffset)
  }

  /** Lanes leave their marks for every read, also for those that others carry out. */
  used(): void {}

  collect(now: number): void {
    this.#recency.collect(now)
  }

  async learn(): Promise<void> {
    const { chunks } = this.#options
    if (this.#learned || chunks === undefined) return
    this.#learned = true
    try {
      for await (const { index, uncompressedOffset, uncompressedSize } of chunks())
        this.#place(index, uncompressedOffset, uncompressedSize)
    } catch {
      // A damaged part of the image: its chunks stay.
    }
  }

  /** Where it lies when it comes back is known. */
  forget(): void {}

  #learnTable(): void {
    const table = this.#options.table()
    if (table === undefined || this.#table === table) return
    for (let index = 0; index < Math.min(this.#offsets.length, table.count); index++) {
      const { uncompressedOffset, uncompressedSize } = table.chunk(index)
      this.#place(index, uncompressedOffset, uncompressedSize)
    }
    this.#table = table
  }

  #place(index: number, offset: number, size: number): void {
    if (index < 0 || index >= this.#offsets.length) return
    this.#offsets[index] = offset
    this.#sizes[index] = size
  }
}
