/**
 * Prefetch: fills the cache with what a guest will probably read, out of everybody's way.
 *
 *     image: wants, in order of use ── groups ── `threads` fetches at a time ──> cache
 *
 * The fetch queue lets demand reads overtake and moves a chunk to the front when a guest wants it meanwhile.
 * Nothing that goes wrong here is seen by a reader: it is logged, and the chunk is fetched when it is wanted.
 */
import { untilAborted } from '../base/abort.js'
import { systemClock, type Clock } from '../base/clock.js'
import { explain } from '../base/errors.js'
import { silentLog, type Log } from '../base/log.js'
import type { BlobCache, ChunkWant, PrefetchConfig } from './cache.js'
import type { BlobCacheMetrics } from './metrics.js'
import { Pacer } from './pacer.js'

/** A chunk to prefetch, as an image lists it. */
export interface PrefetchItem {
  readonly blob: BlobCache
  readonly want: ChunkWant
}

export interface PrefetchOptions {
  /** Ends everything at once: unmount. */
  readonly signal: AbortSignal
  readonly metrics?: BlobCacheMetrics
  readonly log?: Log
  readonly clock?: Clock
}

/** A group has so many plain bytes per byte of a backend request: what usual content compresses by. */
const EXPECTED_RATIO = 2
/** The backend is in trouble: longer and longer pauses, then no more prefetch. */
const FIRST_PAUSE_MS = 500
const MAX_PAUSE_MS = 30_000
const MAX_FAILURES = 10

interface Group {
  readonly blob: BlobCache
  readonly wants: ChunkWant[]
}

/** Resolves when everything was prefetched, given up or aborted; never rejects. */
export async function prefetch(
  items: AsyncIterable<PrefetchItem> | Iterable<PrefetchItem>,
  config: PrefetchConfig,
  options: PrefetchOptions,
): Promise<void> {
  if (!config.enable || options.signal.aborted) return
  const run = new PrefetchRun(items, config, options)
  await Promise.all(Array.from({ length: Math.max(1, config.threads) }, () => run.work()))
  await run.end()
}

class PrefetchRun {
  readonly #config: PrefetchConfig
  readonly #options: PrefetchOptions
  readonly #clock: Clock
  readonly #log: Log
  readonly #pacer: Pacer
  readonly #groups: AsyncGenerator<Group>
  /** The next group is looked for by one worker at a time. */
  #turn: Promise<unknown> = Promise.resolve()
  #failures = 0

  constructor(
    items: AsyncIterable<PrefetchItem> | Iterable<PrefetchItem>,
    config: PrefetchConfig,
    options: PrefetchOptions,
  ) {
    this.#config = config
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#log = options.log ?? silentLog
    this.#pacer = new Pacer(config.bandwidth_limit, this.#clock)
    this.#groups = groupsOf(items, config.batch_size * EXPECTED_RATIO, options.signal)
  }

  async work(): Promise<void> {
    const { signal, metrics } = this.#options
    if (metrics !== undefined) {
      metrics.prefetchWorkers++
      if (metrics.prefetchBegin === 0) metrics.prefetchBegin = this.#clock.wall()
    }
    try {
      while (this.#failures < MAX_FAILURES && !signal.aborted) {
        await this.#pacer.ready(signal)
        const group = await untilAborted(this.#next(), signal)
        if (group === undefined) return
        await this.#fetch(group)
      }
    } catch (error) {
      if (!signal.aborted) this.#log.warn({ error: explain(error) }, 'prefetch ends early')
    } finally {
      if (metrics !== undefined) {
        metrics.prefetchWorkers--
        metrics.prefetchEnd = this.#clock.wall()
      }
    }
  }

  async end(): Promise<void> {
    if (this.#failures >= MAX_FAILURES)
      this.#log.warn({ failures: this.#failures }, 'prefetch was given up: the backend keeps failing')
    const ended = this.#groups.return(undefined).catch((error: unknown) => {
      this.#log.debug({ error: explain(error) }, 'the list of chunks to prefetch did not end cleanly')
    })
    // A list that waits for something hears of its end later.
    if (!this.#options.signal.aborted) await ended
  }

  #next(): Promise<Group | undefined> {
    const next = this.#turn.then(async () => {
      const { done, value } = await this.#groups.next()
      return done === true ? undefined : value
    })
    this.#turn = next.catch(() => undefined)
    return next
  }

  async #fetch({ blob, wants }: Group): Promise<void> {
    const { signal, metrics } = this.#options
    const start = this.#clock.now()
    try {
      const mergeSize = this.#config.batch_size
      const fetched = await blob.fetch(wants, { signal, priority: 'prefetch', mergeSize })
      fetched.release()
      this.#pacer.spend(fetched.backendBytes)
      this.#failures = 0
      if (metrics !== undefined) metrics.prefetchMillis += this.#clock.now() - start
    } catch (error) {
      if (signal.aborted) return
      this.#failures++
      this.#log.debug({ blob: blob.info.id, error: explain(error) }, 'prefetch of some chunks failed')
      const pause = Math.min(FIRST_PAUSE_MS * 2 ** (this.#failures - 1), MAX_PAUSE_MS)
      await this.#clock.sleep(pause, signal).catch(() => undefined)
    }
  }
}

/** Chunks that are not there yet, in the order of the list, by blob, up to `size` plain bytes (at least one). */
async function* groupsOf(
  items: AsyncIterable<PrefetchItem> | Iterable<PrefetchItem>,
  size: number,
  signal: AbortSignal,
): AsyncGenerator<Group> {
  let group: Group | undefined
  let bytes = 0
  for await (const { blob, want } of items) {
    if (signal.aborted) return
    if (blob.isReady(want.index)) continue
    if (group !== undefined && (group.blob !== blob || bytes + want.uncompressedSize > size)) {
      yield group
      group = undefined
    }
    if (group === undefined) {
      group = { blob, wants: [] }
      bytes = 0
    }
    group.wants.push(want)
    bytes += want.uncompressedSize
  }
  if (group !== undefined) yield group
}
