/**
 * Taking chunks of an open blob away while lanes read from its data file without telling anybody.
 *
 *     clear bits ── sync the map ── lanes pass the end of their batch ── punch what nobody has taken up since
 *
 * A crash in between leaves clear bits and data, which is right. What was cleared and could not be punched (somebody
 * waits for it, or a reply points to it) is remembered for the next time.
 */
import { fstatSync } from 'node:fs'
import { native } from '../native.js'
import type { BlobInfo, Readers } from './cache.js'
import type { EvictableChunks } from './evictable-chunks.js'
import { bytesOfPages, gapsBetween, pagesOf, type ByteRange } from './file-ranges.js'
import { RANGE, rangeOf } from './recency.js'

const PAGE = 4096
/** A part of this size of what is known in a data file is not worth looking for what is not; file systems take as much. */
const STRANGE = 16

/** The blob, as its store has it. Keys are those of `chunks`. */
export interface EvictedBlob {
  readonly info: BlobInfo
  /** Descriptor of the data file, and its id for lanes. */
  readonly data: number
  readonly fileId: number
  readonly chunks: EvictableChunks
  /** A map on the disk tells others what is in the data file, and this process what others have stored. */
  readonly mapped: boolean
  /** How many chunks are ready. */
  readonly count: () => number
  readonly isReady: (key: number) => boolean
  /** Clears its bit, on the disk as well. */
  readonly remove: (key: number) => void
  /** Somebody waits for the chunk, or has been told that it is there; or it is on its way. */
  readonly isBusy: (key: number) => boolean
  /** Places in the data file that are being filled; undefined: not all of them are known. */
  readonly filling: () => ByteRange[] | undefined
  /** Resolves when the disk cannot come back with a chunk ready that was removed. */
  readonly sync: () => Promise<void>
}

/** Chunks of one range that can go. */
export interface EvictableRange {
  readonly of: BlobEviction
  readonly range: number
  /** When it was used last. */
  last: number
  bytes: number
  readonly chunks: number[]
}

export class BlobEviction {
  /** Bytes that were taken away so far. */
  evicted = 0
  readonly #blob: EvictedBlob
  readonly #onGrown: (bytes: number) => void
  /** Cleared, and not punched yet. */
  readonly #cleared = new Set<number>()

  constructor(blob: EvictedBlob, onGrown: (bytes: number) => void) {
    this.#blob = blob
    this.#onGrown = onGrown
  }

  get data(): number {
    return this.#blob.data
  }

  /** Bytes on the disk of a data file without a name, which nobody finds who looks into the folder. */
  get hiddenBytes(): number {
    const { nlink, blocks } = fstatSync(this.data)
    return nlink === 0 ? blocks * 512 : 0
  }

  /** For lanes: see EvictableChunks. */
  get marks(): SharedArrayBuffer | undefined {
    return this.#blob.chunks.marks
  }

  /** A chunk was written to the data file. */
  stored(key: number, size: number): void {
    this.#cleared.delete(key)
    this.#onGrown(size)
  }

  /** Takes down what was used since the last call as used `now`. */
  collect(now: number): void {
    this.#blob.chunks.collect(now)
  }

  /** Finds out where chunks lie that an earlier process stored: takes its time, the first time. Never rejects. */
  async learn(): Promise<void> {
    await this.#blob.chunks.learn()
  }

  /**
   * Gives back what lies in a data file without a map that nobody can find any more: what other daemons stored. Returns
   * the bytes. Nobody else may have the file open.
   */
  async sweep(): Promise<number> {
    if (this.#blob.mapped || !this.#holdsStrange()) return 0
    await this.#blob.sync()
    const live = this.#live()
    // The last page has nothing behind it.
    const end = Math.ceil(fstatSync(this.data).size / PAGE) * PAGE
    return live === undefined ? 0 : this.#punch(gapsBetween(live, { start: 0, end }))
  }

  /** The data file takes more of the disk than what is known to be in it. */
  #holdsStrange(): boolean {
    const live = this.#live()
    if (live === undefined) return false
    const known = live.reduce((sum, place) => sum + bytesOfPages(place), 0)
    return fstatSync(this.data).blocks * 512 > known + known / STRANGE
  }

  /** What nobody is about to use, by range. Throws CACHE_BAD_META. */
  ranges(): EvictableRange[] {
    const { chunks, isReady, isBusy } = this.#blob
    const ranges = new Map<number, EvictableRange>()
    for (const key of chunks.keys()) {
      if (!(isReady(key) || this.#cleared.has(key)) || isBusy(key)) continue
      const range = rangeOf(chunks.offset(key))
      const last = chunks.last(key)
      let found = ranges.get(range)
      if (found === undefined) {
        found = { of: this, range, last, bytes: 0, chunks: [] }
        ranges.set(range, found)
      }
      found.last = Math.max(found.last, last)
      found.bytes += chunks.size(key)
      found.chunks.push(key)
    }
    return [...ranges.values()]
  }

  /** Says, in memory and on the disk, that the chunks are not there; who wants them now fetches them. */
  async clear(keys: readonly number[]): Promise<void> {
    for (const key of keys) {
      if (this.#blob.isBusy(key)) continue
      this.#blob.remove(key)
      this.#cleared.add(key)
    }
    await this.#blob.sync()
  }

  /** Gives the room of cleared chunks back; returns the bytes. All replies from before `clear` have been copied. */
  punch(keys: readonly number[], readers: Readers): number {
    const { fileId, chunks, isReady, isBusy } = this.#blob
    const free = keys.filter(
      key =>
        this.#cleared.has(key) &&
        !isReady(key) &&
        !isBusy(key) &&
        !readers.holds(fileId, chunks.offset(key), chunks.size(key)),
    )
    const places = free.map(key => this.#placeOf(key))
    for (const key of free) {
      this.#cleared.delete(key)
      chunks.forget(key)
    }
    // Chunks without a map may lie anywhere: what is between them goes as well, and nothing of what stays.
    const live = this.#blob.mapped ? undefined : this.#live()
    if (live === undefined) return this.#punch(pagesOf(places, this.#blob.info.rafsVersion === 6 ? PAGE : 1))
    return this.#punch(gapsNear(places, live))
  }

  #placeOf(key: number): ByteRange {
    const start = this.#blob.chunks.offset(key)
    return { start, end: start + this.#blob.chunks.size(key) }
  }

  /** Places of all that anybody could want; undefined: they are not all known. */
  #live(): ByteRange[] | undefined {
    const { chunks, isReady, isBusy, count, filling } = this.#blob
    const live = filling()
    if (live === undefined) return undefined
    let ready = 0
    for (const key of chunks.keys()) {
      if (isReady(key)) ready++
      else if (!this.#cleared.has(key) && !isBusy(key)) continue
      live.push(this.#placeOf(key))
    }
    return ready < count() ? undefined : live
  }

  /** Returns the bytes that it freed. */
  #punch(ranges: readonly ByteRange[]): number {
    const { data } = this.#blob
    const before = fstatSync(data).blocks
    for (const { start, end } of ranges) native.fallocatePunch(data, start, end - start)
    const bytes = (before - fstatSync(data).blocks) * 512
    this.evicted += Math.max(0, bytes)
    return bytes
  }
}

/** Whole pages in which nothing lives, in the RANGEs that `places` touch. */
function gapsNear(places: readonly ByteRange[], live: readonly ByteRange[]): ByteRange[] {
  const taken = new Map<number, ByteRange[]>()
  for (const place of places) for (const range of rangesOf(place)) taken.set(range, [])
  for (const place of live) for (const range of rangesOf(place)) taken.get(range)?.push(place)
  return [...taken].flatMap(([range, inside]) =>
    gapsBetween(inside, { start: range * RANGE, end: (range + 1) * RANGE }),
  )
}

/** Numbers of the RANGEs that it touches. */
function* rangesOf({ start, end }: ByteRange): Generator<number> {
  for (let range = rangeOf(start); range * RANGE < end; range++) yield range
}
