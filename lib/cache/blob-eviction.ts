/**
 * Taking chunks of an open blob away while lanes read from its data file without telling anybody.
 *
 *     clear bits ── sync the map ── lanes pass the end of their batch ── punch what nobody has taken up since
 *
 * A crash in between leaves clear bits and data, which is right. What was cleared and could not be punched (somebody
 * waits for it, or a reply points to it) is remembered for the next time.
 */
import { fstatSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { native } from '../native.js'
import type { BlobInfo, ChunkWant, Readers } from './cache.js'
import { ChunkPlaces } from './chunk-places.js'
import type { ChunkTable } from './chunk-table.js'
import { rangeOf, Recency } from './recency.js'

const PAGE = 4096

/** The blob, as its store has it. */
export interface EvictedBlob {
  readonly info: BlobInfo
  /** Descriptor of the data file, and its id for lanes. */
  readonly data: number
  readonly fileId: number
  readonly mapPath: string
  readonly table: ChunkTable | undefined
  /** Where its chunks lie, when it has no table. */
  readonly chunks?: () => AsyncIterable<ChunkWant>
  isReady(index: number): boolean
  /** Clears its bit, on the disk as well. */
  remove(index: number): void
  /** Somebody waits for the chunk, or has been told that it is there; or it is on its way. */
  isBusy(index: number): boolean
}

/** Chunks of one range that can go. */
export interface EvictableRange {
  readonly of: BlobEviction
  readonly range: number
  /** When it was used last. */
  readonly last: number
  bytes: number
  readonly chunks: number[]
}

export class BlobEviction {
  readonly recency: Recency
  /** Bytes that were taken away so far. */
  evicted = 0
  readonly #blob: EvictedBlob
  readonly #places: ChunkPlaces
  readonly #onGrown: (bytes: number) => void
  /** Cleared, and not punched yet. */
  readonly #cleared = new Set<number>()
  #learned = false

  constructor(blob: EvictedBlob, onGrown: (bytes: number) => void) {
    this.#blob = blob
    this.#onGrown = onGrown
    this.recency = new Recency(blob.info.uncompressedSize)
    this.#places = new ChunkPlaces(blob.info.chunkCount)
  }

  get data(): number {
    return this.#blob.data
  }

  /** A chunk was written to the data file. */
  stored(index: number, offset: number, size: number): void {
    this.#places.learn(index, offset, size)
    this.recency.used(offset)
    this.#cleared.delete(index)
    this.#onGrown(size)
  }

  /** Finds out where chunks lie that an earlier process stored: takes its time, the first time. Never rejects. */
  async learn(): Promise<void> {
    const { chunks } = this.#blob
    if (this.#learned || chunks === undefined) return
    this.#learned = true
    try {
      for await (const { index, uncompressedOffset, uncompressedSize } of chunks())
        this.#places.learn(index, uncompressedOffset, uncompressedSize)
    } catch {
      // A damaged part of the image: its chunks stay.
    }
  }

  /** What nobody is about to use, by range. Throws CACHE_BAD_META. */
  ranges(): EvictableRange[] {
    const { table } = this.#blob
    if (table !== undefined) this.#places.learnTable(table)
    const ranges = new Map<number, EvictableRange>()
    for (let index = 0; index < this.#places.count; index++) {
      const offset = this.#places.offset(index)
      const there = offset >= 0 && (this.#blob.isReady(index) || this.#cleared.has(index))
      if (!there || this.#blob.isBusy(index)) continue
      const range = rangeOf(offset)
      let found = ranges.get(range)
      if (found === undefined) {
        found = { of: this, range, last: this.recency.last(range), bytes: 0, chunks: [] }
        ranges.set(range, found)
      }
      found.bytes += this.#places.size(index)
      found.chunks.push(index)
    }
    return [...ranges.values()]
  }

  /** Says, in memory and on the disk, that the chunks are not there; who wants them now fetches them. */
  async clear(chunks: readonly number[]): Promise<void> {
    for (const index of chunks) {
      if (this.#blob.isBusy(index)) continue
      this.#blob.remove(index)
      this.#cleared.add(index)
    }
    // Before the data goes: a machine that loses power must not come back with the bits and without the data.
    const map = await open(this.#blob.mapPath, 'r')
    try {
      await map.datasync()
    } finally {
      await map.close()
    }
  }

  /** Gives the room of cleared chunks back; returns the bytes. All replies from before `clear` have been copied. */
  punch(chunks: readonly number[], readers: Readers): number {
    const { data, fileId } = this.#blob
    const free = chunks.filter(
      index =>
        this.#cleared.has(index) &&
        !this.#blob.isReady(index) &&
        !this.#blob.isBusy(index) &&
        !readers.holds(fileId, this.#places.offset(index), this.#places.size(index)),
    )
    const before = fstatSync(data).blocks
    for (const { start, end } of this.#runs(free))
      if (end > start) native.fallocatePunch(data, start, end - start)
    for (const index of free) this.#cleared.delete(index)
    const bytes = (before - fstatSync(data).blocks) * 512
    this.evicted += Math.max(0, bytes)
    return bytes
  }

  /** Whole pages of chunks next to each other. */
  #runs(chunks: readonly number[]): { start: number; end: number }[] {
    const aligned = this.#blob.info.rafsVersion === 6
    const sorted = chunks.toSorted((a, b) => this.#places.offset(a) - this.#places.offset(b))
    const runs: { start: number; end: number }[] = []
    for (const index of sorted) {
      const start = this.#places.offset(index)
      // What is behind a chunk of an aligned blob up to the next page is padding.
      const end = start + this.#places.size(index)
      const padded = aligned ? Math.ceil(end / PAGE) * PAGE : end
      const last = runs.at(-1)
      if (last !== undefined && start <= last.end) last.end = Math.max(last.end, padded)
      else runs.push({ start, end: padded })
    }
    // Pages at the ends may hold bytes of neighbours.
    return runs.map(({ start, end }) => ({
      start: Math.ceil(start / PAGE) * PAGE,
      end: Math.floor(end / PAGE) * PAGE,
    }))
  }
}
