/**
 * The chunk cache of a daemon: hands out blobs, and shares what can be shared between their users.
 *
 *     CacheManager ── BlobStore per (work_dir, blob) ── OpenBlob per user
 *          └── threads that decode, temporary pool, one queue per backend
 *
 * Opening asks no backend for anything: an image can be mounted while its registry is slow or down.
 */
import { realpathSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Backend } from '../backend/backend.js'
import { checkBlobId } from '../base/blob-id.js'
import { systemClock, type Clock } from '../base/clock.js'
import { NydusError } from '../base/errors.js'
import { silentLog, type Log } from '../base/log.js'
import { BlobLane } from './blob-lane.js'
import { BlobStore } from './blob-store.js'
import { Buffers } from './buffers.js'
import type { BlobCache, BlobInfo, CacheConfig, OpenOptions, Readers } from './cache.js'
import { CacheFolder } from './cache-folder.js'
import { Decoder } from './decoder.js'
import { DEFAULT_LIMITS, FetchQueue, type QueueLimits } from './fetch-queue.js'
import { BlobCacheMetrics } from './metrics.js'
import { OpenBlob } from './open-blob.js'
import type { CacheServices } from './services.js'
import { TempPool } from './temp-pool.js'

export interface CacheManagerOptions {
  readonly log?: Log
  readonly clock?: Clock
  /** Bytes of temporary room for blobs without a usable cache folder. */
  readonly poolBytes?: number
  readonly limits?: QueueLimits
  /** Without them nobody reads data files but by `fetch`. */
  readonly readers?: Readers
}

const NO_READERS: Readers = { settled: () => Promise.resolve(), holds: () => false }

interface Shared {
  readonly store: Promise<BlobStore>
  readonly info: BlobInfo
  users: number
}

/** What two images must agree on to use the same files of a blob. */
const SHAPE = [
  'rafsVersion',
  'compressor',
  'digester',
  'chunkSize',
  'chunkCount',
  'uncompressedSize',
] as const

export class CacheManager {
  readonly #services: CacheServices
  readonly #limits: QueueLimits
  readonly #readers: Readers
  /** Those whose size is limited, by path. */
  readonly #folders = new Map<string, CacheFolder>()
  readonly #shared = new Map<string, Shared>()
  readonly #closing = new Map<string, Promise<void>>()
  readonly #queues = new WeakMap<Backend, FetchQueue>()
  readonly #metrics = new Map<string, BlobCacheMetrics>()
  readonly #open = new Set<OpenBlob>()
  #strangers = 0

  constructor(options: CacheManagerOptions = {}) {
    this.#limits = options.limits ?? DEFAULT_LIMITS
    this.#readers = options.readers ?? NO_READERS
    this.#services = {
      decoder: new Decoder(),
      pool: new TempPool(options.poolBytes),
      buffers: new Buffers(),
      log: options.log ?? silentLog,
      clock: options.clock ?? systemClock,
    }
  }

  /**
   * Opens a blob for one user. Throws for settings that cannot be (CACHE_UNSUPPORTED, BLOB_BAD_ID); a folder that
   * cannot be used is logged, and the blob is read without a cache.
   */
  async open(
    info: BlobInfo,
    backend: Backend,
    config: CacheConfig,
    options: OpenOptions = {},
  ): Promise<BlobCache> {
    checkBlobId(info.id)
    if (info.metaBlobId !== undefined) checkBlobId(info.metaBlobId)
    const dir = folderOf(config)
    const { key, shared } = await this.#share(info, dir, config)
    try {
      const store = await shared.store
      if (config.validate) store.startValidating()
      if (store.dir !== undefined)
        this.#limit(store, store.dir, config.filecache?.size_limit ?? 0, options.chunks)
      const metrics = this.#metricsOf(options.id ?? '')
      const blob = new OpenBlob({
        store,
        lane: new BlobLane(store, backend, this.#queueOf(backend), this.#services, {
          amplify: Math.min(options.amplify ?? 0, this.#limits.bytes),
          prefetchRequests: Math.max(1, options.prefetchRequests ?? Infinity),
          digestOf: options.digestOf,
          metrics,
        }),
        services: this.#services,
        metrics,
        validate: config.validate,
        onClose: async () => {
          this.#open.delete(blob)
          this.#dropMetrics(options.id ?? '')
          await this.#release(key, shared)
        },
      })
      this.#open.add(blob)
      return blob
    } catch (error) {
      await this.#release(key, shared)
      throw error
    }
  }

  /** Counters of a factory id; undefined when no open blob has it. Without an id: the only ones there are. */
  metrics(id?: string): BlobCacheMetrics | undefined {
    if (id !== undefined) return this.#metrics.get(id)
    return this.#metrics.size === 1 ? [...this.#metrics.values()][0] : undefined
  }

  /** Bytes of temporary room in use. */
  get poolBytes(): number {
    return this.#services.pool.used
  }

  /** Closes what is still open; ends the threads. */
  async close(): Promise<void> {
    await Promise.all([...this.#open].map(blob => blob.close()))
    this.#services.decoder.close()
    this.#services.pool.close()
  }

  async #share(
    info: BlobInfo,
    dir: string | undefined,
    config: CacheConfig,
  ): Promise<{ key: string; shared: Shared }> {
    let key = `${dir === undefined ? '' : realPath(dir)}\n${info.id}`
    for (let closing = this.#closing.get(key); closing !== undefined; closing = this.#closing.get(key))
      await closing
    const existing = this.#shared.get(key)
    const stranger = existing !== undefined && SHAPE.some(field => existing.info[field] !== info[field])
    if (stranger) {
      this.#services.log.warn(
        { blob: info.id },
        'two images disagree about the shape of this blob: the second one reads it without a cache',
      )
      key += `\n${this.#strangers++}`
    }
    if (existing !== undefined && !stranger) {
      existing.users++
      return { key, shared: existing }
    }
    const shareMap = config.filecache?.disable_indexed_map !== true
    const shared: Shared = {
      info,
      store: BlobStore.open(info, stranger ? undefined : dir, shareMap, this.#services),
      users: 1,
    }
    this.#shared.set(key, shared)
    return { key, shared }
  }

  async #release(key: string, shared: Shared): Promise<void> {
    shared.users--
    if (shared.users > 0) return
    this.#shared.delete(key)
    const closed = shared.store
      .then(store => store.close())
      .catch((error: unknown) => this.#services.log.debug({ error }, 'closing a blob failed'))
      .finally(() => this.#closing.delete(key))
    this.#closing.set(key, closed)
    await closed
  }

  #limit(store: BlobStore, dir: string, bytes: number, chunks: OpenOptions['chunks']): void {
    const path = realPath(dir)
    let folder = this.#folders.get(path)
    if (folder === undefined && bytes > 0) {
      const { log, clock } = this.#services
      folder = new CacheFolder({ dir: path, readers: this.#readers, log, clock })
      this.#folders.set(path, folder)
    }
    if (folder === undefined) return
    store.limit(folder, chunks)
    if (bytes > 0) folder.limit(bytes)
  }

  #queueOf(backend: Backend): FetchQueue {
    let queue = this.#queues.get(backend)
    if (queue === undefined) {
      queue = new FetchQueue(this.#limits)
      this.#queues.set(backend, queue)
    }
    return queue
  }

  #metricsOf(id: string): BlobCacheMetrics {
    let metrics = this.#metrics.get(id)
    if (metrics === undefined) {
      metrics = new BlobCacheMetrics()
      this.#metrics.set(id, metrics)
    }
    return metrics
  }

  #dropMetrics(id: string): void {
    if (this.#metrics.get(id)?.blobs.size === 0) this.#metrics.delete(id)
  }
}

/** The cache folder that a configuration names; undefined: no cache. */
function folderOf(config: CacheConfig): string | undefined {
  switch (config.type) {
    case '':
    case 'dummycache':
      return undefined
    case 'blobcache':
    case 'filecache':
      return resolve(config.filecache?.work_dir ?? '.')
    case 'fscache':
      throw new NydusError(
        'CACHE_UNSUPPORTED',
        'EOPNOTSUPP',
        'cache type fscache belongs to the host kernel and cannot serve virtual machines; use blobcache',
      )
  }
}

/** One folder, one key, whatever links lead to it. */
function realPath(dir: string): string {
  try {
    return realpathSync(dir)
  } catch {
    return dir
  }
}
