/**
 * A blob as one user of the cache reads it: its backend, its settings. Carries out the requests that the backend's
 * queue put together.
 *
 *     jobs of one request ── backend read ── chunk Worker ──> data file or temporary pool, ready bits, waiters
 */
import type { Backend, BlobReader, ReadOptions } from '../backend/backend.js'
import { NydusError } from '../base/errors.js'
import type { BlobStore } from './blob-store.js'
import { Decoding, type Stored } from './decoding.js'
import type { CacheServices } from './services.js'
import type { FetchQueue, QueueLane } from './fetch-queue.js'
import type { Job } from './job.js'
import type { BlobCacheMetrics } from './metrics.js'
import { NO_RIDERS, type Riders } from './riders.js'

/** Largest hole that is read along to save a request; only with amplification, which asks for such a trade. */
const MAX_GAP = 32 << 10

export interface LaneOptions {
  readonly amplify: number
  readonly prefetchRequests: number
  readonly digestOf: ((index: number) => Uint8Array | undefined) | undefined
  readonly metrics: BlobCacheMetrics
}

export class BlobLane implements QueueLane {
  readonly store: BlobStore
  readonly queue: FetchQueue
  readonly reader: BlobReader
  /** Reader of the blob that holds the chunk table. */
  readonly metaReader: BlobReader
  readonly amplify: number
  readonly prefetchRequests: number
  readonly maxGap: number
  /** The image knows the digests of its chunks. */
  readonly knowsDigests: boolean
  readonly digestOf: (index: number) => Uint8Array | undefined
  readonly #services: CacheServices
  readonly #metrics: BlobCacheMetrics
  readonly #running = new Set<Promise<void>>()

  constructor(
    store: BlobStore,
    backend: Backend,
    queue: FetchQueue,
    services: CacheServices,
    options: LaneOptions,
  ) {
    this.store = store
    this.queue = queue
    this.#services = services
    this.reader = backend.open(store.info.id)
    const meta = store.info.metaBlobId
    this.metaReader = meta === undefined ? this.reader : backend.open(meta)
    this.amplify = options.amplify
    this.prefetchRequests = options.prefetchRequests
    this.#metrics = options.metrics
    this.maxGap = Math.min(MAX_GAP, options.amplify >> 3)
    this.knowsDigests = options.digestOf !== undefined
    this.digestOf = options.digestOf ?? (index => store.digests?.of(index))
  }

  riders(first: Job, last: Job, room: number): Riders {
    return this.amplify === 0 ? NO_RIDERS : this.store.riders(first, last, room)
  }

  async run(jobs: readonly Job[], signal: AbortSignal, onRead: () => void): Promise<void> {
    const work = this.#run(jobs, signal, onRead)
    this.#running.add(work)
    await work
    this.#running.delete(work)
  }

  /** Ends when nothing that this lane started is under way; then closes its readers. */
  async close(): Promise<void> {
    this.queue.dropUnawaited(this)
    while (this.#running.size > 0) await Promise.all(this.#running)
    await this.reader.close()
    if (this.metaReader !== this.reader) await this.metaReader.close()
  }

  async #run(jobs: readonly Job[], signal: AbortSignal, onRead: () => void): Promise<void> {
    const cold = jobs.filter(job => !this.#alreadyThere(job))
    if (cold.length === 0) return
    const { writing } = this.store
    for (const job of cold) writing.add(job.unit.key)
    try {
      await this.#fetch(cold, signal, onRead)
    } finally {
      for (const job of cold) writing.drop(job.unit.key)
    }
  }

  async #fetch(cold: readonly Job[], signal: AbortSignal, onRead: () => void): Promise<void> {
    let decoding: Decoding | undefined
    try {
      const stored = await this.#room(cold, signal)
      decoding = new Decoding(cold, stored, {
        store: this.store,
        services: this.#services,
        digestOf: this.digestOf,
      })
      await this.#read(cold, stored, signal, decoding)
      onRead()
      await decoding.finish()
    } catch (error) {
      if (decoding === undefined) for (const job of cold) this.store.end(job, () => job.fail(error))
      else await decoding.fail(error)
    }
  }

  /** Another daemon may have stored it while the job waited. */
  #alreadyThere(job: Job): boolean {
    const { store } = this
    const there =
      job.entry === undefined &&
      !job.fresh &&
      !store.validates &&
      job.wanted.size > 0 &&
      [...job.wanted.keys()].every(at => store.isMemberStored(job.unit, at))
    if (there) store.end(job, () => job.succeed({ bad: new Map() }))
    return there
  }

  /** The range that the jobs need, and a buffer for it. */
  async #room(jobs: readonly Job[], signal: AbortSignal): Promise<Stored> {
    const start = Math.min(...jobs.map(job => job.offset))
    let end = Math.max(...jobs.map(job => job.offset + job.size))
    for (const job of jobs) job.ranAs = job.priority
    if (jobs[0]?.unit.open === true) end = Math.min(end, await this.reader.size(optionsOf(jobs, signal)))
    if (end <= start)
      throw new NydusError('BACKEND_SHORT_READ', 'EIO', `blob ${this.store.info.id} ends before ${start}`)
    return { buffer: this.#services.buffers.take(end - start), start, end }
  }

  async #read(
    jobs: readonly Job[],
    { buffer, start, end }: Stored,
    signal: AbortSignal,
    decoding: Decoding,
  ): Promise<void> {
    await this.reader.read(new Uint8Array(buffer, 0, end - start), start, {
      ...optionsOf(jobs, signal),
      onProgress: count => decoding.arrived(count),
    })
    this.#metrics.answered(jobs[0]?.ranAs ?? 'demand', end - start, jobs.length)
  }
}

function optionsOf(jobs: readonly Job[], signal: AbortSignal): ReadOptions {
  return {
    signal,
    priority: jobs.some(job => job.priority === 'demand') ? 'demand' : 'prefetch',
    fresh: jobs[0]?.fresh === true,
  }
}
