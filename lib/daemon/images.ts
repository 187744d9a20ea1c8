/**
 * Opens images. Everything that only images need (cache, RAFS, backends, configuration's zod) is loaded with
 * the first of them, not at the start: half of the start would be spent on it, and who starts a daemon waits for the
 * API socket.
 */
import type { Log } from '../base/log.js'
import type { Readers } from '../cache/cache.js'
import type { CacheManager } from '../cache/manager.js'
import type { BlobCacheMetrics } from '../cache/metrics.js'
import type { NydusConfig } from './config.js'
import type { Instance } from './instance.js'
import type { SettingsStore } from './settings.js'

interface Loaded {
  readonly cache: CacheManager
  readonly Instance: (typeof import('./instance.js'))['Instance']
}

export class Images {
  readonly #settings: SettingsStore
  readonly #log: Log
  readonly #lanes: number
  readonly #readers: Readers
  #loading: Promise<Loaded> | undefined
  #cache: CacheManager | undefined

  constructor(settings: SettingsStore, log: Log, lanes: number, readers: Readers) {
    this.#settings = settings
    this.#log = log
    this.#lanes = lanes
    this.#readers = readers
  }

  /** Loads the code for a mount that will come. */
  async preload(): Promise<void> {
    await Promise.all([this.#load(), import('./config.js')])
  }

  /** `log` names the mount. Throws NydusError RAFS_*, CACHE_*, BACKEND_*. */
  async open(source: string, config: NydusConfig, log: Log): Promise<Instance> {
    const { cache, Instance } = await this.#load()
    return await Instance.open(source, config, {
      cache,
      settings: this.#settings,
      log,
      lanes: this.#lanes,
    })
  }

  /** Counters of the cache by configuration id; without an id: the only ones there are. */
  cacheMetrics(id?: string): BlobCacheMetrics | undefined {
    return this.#cache?.metrics(id)
  }

  async close(): Promise<void> {
    await this.#cache?.close()
  }

  #load(): Promise<Loaded> {
    this.#loading ??= Promise.all([import('../cache/manager.js'), import('./instance.js')]).then(
      ([{ CacheManager }, { Instance }]) => {
        this.#cache = new CacheManager({ log: this.#log, readers: this.#readers })
        return { cache: this.#cache, Instance }
      },
    )
    return this.#loading
  }
}
