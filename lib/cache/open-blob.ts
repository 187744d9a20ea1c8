/**
 * A blob in the hands of one user (a mounted image): its settings, its metrics, and an end of its own.
 */
import { setMaxListeners } from 'node:events'
import { NydusError } from '../base/errors.js'
import type { BlobLane } from './blob-lane.js'
import type { BlobStore } from './blob-store.js'
import type { BlobCache, BlobHandle, BlobInfo, ChunkWant, Fetched, FetchOptions } from './cache.js'
import { FetchRun } from './fetch-run.js'
import type { BlobCacheMetrics, MeteredBlob } from './metrics.js'
import type { CacheServices } from './services.js'

/** Demand reads that lie next to each other are merged up to this, whatever amplification says. */
const MERGE_SIZE = 1 << 20

export interface OpenBlobOptions {
  readonly store: BlobStore
  readonly lane: BlobLane
  readonly services: CacheServices
  readonly metrics: BlobCacheMetrics
  readonly validate: boolean
  readonly onClose: () => Promise<void>
}

export class OpenBlob implements BlobCache, MeteredBlob {
  readonly #options: OpenBlobOptions
  readonly #active = new Set<AbortController>()
  #closing: Promise<void> | undefined

  constructor(options: OpenBlobOptions) {
    this.#options = options
    options.metrics.blobs.add(this)
  }

  get info(): BlobInfo {
    return this.#options.store.info
  }

  get handle(): BlobHandle {
    return this.#options.store.handle(this.#options.validate)
  }

  get store(): object {
    return this.#options.store
  }

  get queue(): object {
    return this.#options.lane.queue
  }

  get blobId(): string {
    return this.info.id
  }

  get dir(): string | undefined {
    return this.#options.store.dir
  }

  get entries(): number {
    return this.#options.store.readiness.count()
  }

  get chunkCount(): number {
    return this.info.chunkCount
  }

  get evicted(): number {
    return this.#options.store.eviction?.evicted ?? 0
  }

  get bytesInFlight(): number {
    return this.#options.lane.queue.bytesInFlight
  }

  isReady(index: number): boolean {
    const { store, validate } = this.#options
    return store.hasFiles && store.indexed && store.readiness.isReady(index, validate)
  }

  async prepare(): Promise<void> {
    const { store, lane } = this.#options
    await this.#supervised(undefined, signal => store.prepare(lane, signal))
  }

  async fetch(wants: readonly ChunkWant[], options: FetchOptions = {}): Promise<Fetched> {
    const { store, lane, services, metrics, validate } = this.#options
    const priority = options.priority ?? 'demand'
    // Without a place to keep it, a chunk that nobody waits for would only push others out.
    if (priority === 'prefetch' && !store.hasSpareRoom)
      return { placements: wants.map(() => undefined), backendBytes: 0, release: () => {} }
    if (priority === 'demand') store.used(wants)
    return await this.#supervised(options.signal, async signal => {
      const mergeSize = options.mergeSize ?? Math.max(lane.amplify, MERGE_SIZE)
      const partly = options.partly === true
      const shared = { lane, services, metrics, validate, priority }
      const run = new FetchRun(wants, { ...shared, mergeSize, signal, partly })
      try {
        return await run.run()
      } catch (error) {
        if (!signal.aborted) metrics.errors++
        throw error
      }
    })
  }

  async *wants(options: FetchOptions = {}): AsyncGenerator<ChunkWant> {
    const { store, lane } = this.#options
    if (this.info.rafsVersion === 5) return
    await this.#supervised(options.signal, signal => store.prepare(lane, signal))
    const { table } = store
    for (let index = 0; index < (table?.count ?? 0); index++) {
      if (this.#closing !== undefined || table === undefined) return
      const { uncompressedOffset, uncompressedSize } = table.chunk(index)
      const digest = lane.digestOf(index)
      yield { index, uncompressedOffset, uncompressedSize, ...(digest !== undefined && { digest }) }
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const { metrics, lane, onClose } = this.#options
    metrics.blobs.delete(this)
    for (const controller of this.#active) controller.abort(closedError(this.info.id))
    await lane.close()
    await onClose()
  }

  /** Runs `work` with a signal that is aborted by the caller's, or when this user goes. */
  async #supervised<T>(
    outer: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    if (this.#closing !== undefined) throw closedError(this.info.id)
    outer?.throwIfAborted()
    const controller = new AbortController()
    // One fetch may wait for many units.
    setMaxListeners(0, controller.signal)
    const abort = (): void => controller.abort(outer?.reason)
    outer?.addEventListener('abort', abort, { once: true })
    this.#active.add(controller)
    try {
      return await work(controller.signal)
    } finally {
      this.#active.delete(controller)
      outer?.removeEventListener('abort', abort)
    }
  }
}

function closedError(id: string): NydusError {
  return new NydusError('CACHE_CLOSED', 'EIO', `blob ${id} is not in use any more: its image was unmounted`)
}
