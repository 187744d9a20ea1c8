/**
 * A cache folder whose size is limited: what was used longest ago goes when it has grown too large.
 *
 *     a chunk is stored ── above the limit? ── closed blobs, oldest first ── ranges of open blobs, oldest first
 *
 * The limit is soft: what is under way when it is reached still comes, and what is in use stays. From blobs that other
 * daemons have open nothing is taken.
 */
import type { Clock } from '../base/clock.js'
import { explain } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { BlobEviction, EvictableRange } from './blob-eviction.js'
import type { Readers } from './cache.js'
import { folderBytes, removeClosedBlobs } from './closed-blobs.js'
import { claimFile, lockFolder, shareFile } from './folder-lock.js'

/** Down to this part of the limit, so that not every chunk evicts another. */
const TARGET = 0.9
/** Marks of lanes are collected so often (what was used in between is equally old), and what others stored is counted. */
const LOOK_MS = 2000
/** Others wait for the folder's lock; lanes that do not answer for so long are not waited for. */
const SETTLE_MS = 1000
const LOCK_MS = 500
/** So long after a blob was opened the others of its image should be, too. */
const OPENING_MS = 1000
/** After a round that freed less than the ENOUGHth part of what it should. */
const PAUSE_MS = 200
const ENOUGH = 16

export interface CacheFolderOptions {
  readonly dir: string
  readonly readers: Readers
  readonly clock: Clock
  readonly log: Log
}

export class CacheFolder {
  readonly #options: CacheFolderOptions
  readonly #blobs = new Set<BlobEviction>()
  #limit = Infinity
  /** Bytes on the disk: measured, and what was stored since. */
  #bytes = 0
  #round: Promise<void> | undefined
  #notBefore = -Infinity
  #warned = false
  #timer: NodeJS.Timeout | undefined

  constructor(options: CacheFolderOptions) {
    this.#options = options
  }

  /** The smallest limit that somebody asks for counts. */
  limit(bytes: number): void {
    this.#limit = Math.min(this.#limit, bytes)
    this.#measure()
    // Not at once: what is not open yet may belong to the image that is just being mounted.
    setTimeout(() => this.#check(), OPENING_MS).unref()
  }

  add(blob: BlobEviction): void {
    this.#blobs.add(blob)
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS).unref()
  }

  remove(blob: BlobEviction): void {
    this.#blobs.delete(blob)
    if (this.#blobs.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Nothing should come that nobody waits for: it would only push out what was used. */
  get full(): boolean {
    return this.#bytes > this.#limit * TARGET
  }

  /** Not even neighbours of what somebody waits for. */
  get overfull(): boolean {
    return this.#bytes > this.#limit
  }

  /** So many bytes were stored. */
  grew(bytes: number): void {
    this.#bytes += bytes
    this.#check()
  }

  /** Resolves when no eviction is under way: before a blob's files are closed. */
  async settled(): Promise<void> {
    await this.#round
  }

  #collect(): void {
    const now = this.#options.clock.now()
    for (const blob of this.#blobs) blob.collect(now)
  }

  #look(): void {
    this.#collect()
    this.#measure()
    this.#check()
  }

  #measure(): void {
    try {
      this.#bytes = folderBytes(this.#options.dir)
      for (const { hiddenBytes } of this.#blobs) this.#bytes += hiddenBytes
    } catch (error) {
      this.#options.log.debug({ error: explain(error) }, 'the cache folder cannot be measured')
    }
  }

  #check(): void {
    const { clock, log, dir } = this.#options
    if (this.#bytes <= this.#limit || this.#round !== undefined || clock.now() < this.#notBefore) return
    this.#round = this.#evict()
      .catch((error: unknown) => {
        this.#notBefore = clock.now() + PAUSE_MS
        log.warn({ dir, error: explain(error) }, 'nothing could be evicted from the cache')
      })
      .finally(() => {
        this.#round = undefined
      })
  }

  async #evict(): Promise<void> {
    const { dir, log, clock } = this.#options
    // What is stored in this turn of the event loop is counted in.
    await new Promise(resolve => setImmediate(resolve))
    this.#measure()
    if (this.#bytes <= this.#limit) return
    await Promise.all([...this.#blobs].map(blob => blob.learn()))
    const wanted = this.#bytes - this.#limit * TARGET
    const lock = await lockFolder(dir, LOCK_MS)
    let freed = 0
    try {
      if (lock.held) {
        freed = removeClosedBlobs(dir, wanted)
        if (freed < wanted) freed += await this.#evictRanges(wanted - freed)
      }
    } finally {
      lock.unlock()
    }
    this.#measure()
    log.debug({ dir, freed, bytes: this.#bytes, limit: this.#limit }, 'evicted from the cache')
    if (this.#bytes <= this.#limit) {
      this.#warned = false
      return
    }
    // What is in use now may not be the next moment; only where nothing moves it is waited.
    if (freed >= wanted / ENOUGH) return
    this.#notBefore = clock.now() + PAUSE_MS
    if (this.#warned || !lock.held) return
    this.#warned = true
    log.warn(
      { dir, bytes: this.#bytes, limit: this.#limit },
      'the cache is larger than its size_limit: what is in it is in use, here or by other daemons',
    )
  }

  async #evictRanges(wanted: number): Promise<number> {
    const mine = [...this.#blobs].filter(({ data }) => claimFile(data))
    try {
      let freed = 0
      for (const blob of mine) freed += await blob.sweep()
      this.#collect()
      const victims = choose(
        mine.flatMap(blob => blob.ranges()),
        wanted - freed,
      )
      if (victims.size === 0) return freed
      await Promise.all([...victims].map(([blob, chunks]) => blob.clear(chunks)))
      if (!(await this.#readersSettled())) return freed
      for (const [blob, chunks] of victims) freed += blob.punch(chunks, this.#options.readers)
      return freed
    } finally {
      // All of them: who could not be claimed has lost its lock by asking.
      for (const { data } of this.#blobs) shareFile(data)
    }
  }

  async #readersSettled(): Promise<boolean> {
    const { readers, clock } = this.#options
    const late = new AbortController()
    const settled = readers.settled().then(
      () => true,
      () => false,
    )
    const sleeping = clock.sleep(SETTLE_MS, late.signal).then(
      () => false,
      () => false,
    )
    const inTime = await Promise.race([settled, sleeping])
    late.abort()
    return inTime
  }
}

/** The ranges used longest ago that make up `wanted` bytes; their chunks by blob. */
function choose(ranges: readonly EvictableRange[], wanted: number): Map<BlobEviction, number[]> {
  const victims = new Map<BlobEviction, number[]>()
  let bytes = 0
  for (const { of, chunks, bytes: size } of ranges.toSorted((a, b) => a.last - b.last)) {
    if (bytes >= wanted) break
    bytes += size
    const list = victims.get(of)
    if (list === undefined) victims.set(of, [...chunks])
    else list.push(...chunks)
  }
  return victims
}
