/**
 * One fetch: from chunks wanted to chunks there. Joins what is on its way, starts what is missing, and tries again
 * where another way is left: the temporary pool when the cache's disk refuses, its own backend when another
 * user's failed, a fresh read when bytes were wrong.
 */
import type { Priority } from '../backend/backend.js'
import { untilAborted } from '../base/abort.js'
import { explain, NydusError } from '../base/errors.js'
import type { BlobLane } from './blob-lane.js'
import type { BlobStore } from './blob-store.js'
import type { ChunkWant, Fetched, Placement } from './cache.js'
import { Job, type Outcome } from './job.js'
import type { BlobCacheMetrics } from './metrics.js'
import type { CacheServices } from './services.js'
import type { PoolEntry } from './temp-pool.js'
import type { Unit } from './unit.js'

/** Ways to fail and recover are few; more rounds than this mean that something flaps. */
const MAX_ROUNDS = 8

export interface RunOptions {
  readonly lane: BlobLane
  readonly services: CacheServices
  readonly metrics: BlobCacheMetrics
  readonly validate: boolean
  readonly priority: Priority
  readonly mergeSize: number
  readonly signal: AbortSignal
  /** The reader found other chunks in the cache itself. */
  readonly partly: boolean
}

/** Wants that one unit satisfies. */
interface Group {
  readonly key: number
  readonly unit: Unit
  /** Position in the list of wants, and in `unit.members`. */
  readonly wants: { readonly i: number; readonly at: number }[]
}

interface Attempt {
  readonly group: Group
  readonly job?: Job
  readonly outcome: Promise<Outcome>
}

export class FetchRun {
  readonly #wants: readonly ChunkWant[]
  readonly #options: RunOptions
  readonly #store: BlobStore
  readonly #placements: (Placement | undefined)[]
  /** Wants that have a place, in the data file or the pool. */
  readonly #placed = new Set<number>()
  readonly #pinned: PoolEntry[] = []
  /** Keys of units whose bytes were wrong once. */
  readonly #fresh = new Set<number>()
  #round = 0
  #backendBytes = 0
  #released = false

  constructor(wants: readonly ChunkWant[], options: RunOptions) {
    this.#wants = wants
    this.#options = options
    this.#store = options.lane.store
    this.#placements = wants.map(() => undefined)
    for (const want of wants) this.#store.pins.add(this.#store.keyOf(want))
  }

  async run(): Promise<Fetched> {
    try {
      let open = this.#open()
      this.#countHit(open.length)
      for (; open.length > 0; this.#round++) {
        const failure = await this.#obtain(open)
        open = this.#open()
        if (open.length > 0 && this.#round >= MAX_ROUNDS) throw failure ?? this.#unsettled()
      }
    } catch (error) {
      this.#release()
      throw error
    }
    return {
      placements: this.#placements,
      backendBytes: this.#backendBytes,
      release: () => this.#release(),
    }
  }

  #countHit(missing: number): void {
    const { metrics, priority, partly } = this.#options
    if (priority === 'prefetch') return
    metrics.total++
    if (missing === 0) metrics.wholeHits++
    else if (partly || missing < this.#wants.length) metrics.partialHits++
  }

  #unsettled(): NydusError {
    return new NydusError(
      'CACHE_UNSETTLED',
      'EIO',
      `blob ${this.#store.info.id}: chunks are discarded as fast as they are fetched; images with different digests share it`,
    )
  }

  #release(): void {
    if (this.#released) return
    this.#released = true
    for (const want of this.#wants) this.#store.pins.drop(this.#store.keyOf(want))
    for (const entry of this.#pinned.splice(0)) this.#options.services.pool.unpin(entry)
  }

  /** Wants that are not there yet. */
  #open(): number[] {
    const open: number[] = []
    for (const [i, want] of this.#wants.entries()) {
      const there =
        this.#placed.has(i) ||
        (this.#store.hasFiles &&
          this.#store.readiness.isReady(this.#store.keyOf(want), this.#options.validate))
      if (!there) open.push(i)
    }
    return open
  }

  /** Returns the last failure that another round may cure; throws what none can. */
  async #obtain(open: readonly number[]): Promise<NydusError | undefined> {
    const { lane, signal } = this.#options
    signal.throwIfAborted()
    await this.#store.prepare(lane, signal)
    const missing = this.#options.validate ? await this.#recheck(open) : open
    const groups = this.#group(missing)
    const attempts = this.#store.storesInFile ? this.#startInFile(groups) : await this.#startInPool(groups)
    await Promise.allSettled(attempts.map(attempt => attempt.outcome))
    let failure: NydusError | undefined
    let fatal: Error | undefined
    for (const { group, job, outcome } of attempts) {
      try {
        const error = this.#take(group, await outcome)
        if (error === undefined) continue
        if (this.#mayRetry(error, group, job)) failure = error
        else fatal ??= error
      } catch (error) {
        if (error instanceof NydusError && this.#mayRetry(error, group, job)) failure = error
        else fatal ??= error instanceof Error ? error : new Error(explain(error), { cause: error })
      }
    }
    if (fatal !== undefined) throw fatal
    return failure
  }

  /** Chunks that lie in the data file, but were not checked by this process: true ones are confirmed, others removed. */
  async #recheck(open: readonly number[]): Promise<number[]> {
    const { readiness } = this.#store
    const stored: number[] = []
    const missing: number[] = []
    for (const i of open) {
      const want = this.#wants[i]
      if (want !== undefined && readiness.isStored(this.#store.keyOf(want))) stored.push(i)
      else missing.push(i)
    }
    if (stored.length === 0) return missing
    const damaged = await untilAborted(this.#check(stored), this.#options.signal)
    for (const i of stored) {
      const want = this.#wants[i]
      if (want === undefined) continue
      if (!damaged.has(i)) readiness.confirm(this.#store.keyOf(want))
      else {
        readiness.remove(this.#store.keyOf(want))
        this.#options.metrics.damaged++
        missing.push(i)
      }
    }
    return missing
  }

  /** Which of these wants lie damaged in the data file. */
  #check(stored: readonly number[]): Promise<ReadonlySet<number>> {
    const damaged = new Set<number>()
    const batch = this.#options.services.decoder.batch(this.#store.coding)
    return new Promise((resolve, reject) => {
      let left = stored.length
      for (const i of stored) {
        const want = this.#wants[i]
        if (want === undefined) continue
        const unit = this.#store.unitOf(want)
        const crc32 = unit.members[this.#store.memberAt(unit, want)]?.crc32
        const digest = digestOf(want) ?? this.#options.lane.digestOf(want.index)
        const size = want.uncompressedSize
        const member = { at: 0, size, ...(digest && { digest }), ...(crc32 !== undefined && { crc32 }) }
        const plain = { compressed: false, encrypted: false, outputSize: size, fromFile: true } as const
        batch.add(
          { ...plain, start: want.uncompressedOffset, size, fd: this.#store.data },
          [member],
          (bad, error) => {
            if (error !== undefined) return reject(error)
            if (bad.size > 0) damaged.add(i)
            if (--left === 0) resolve(damaged)
          },
        )
      }
      batch.submit(true)
    })
  }

  #group(open: readonly number[]): Group[] {
    const groups = new Map<number, Group>()
    for (const i of open) {
      const want = this.#wants[i]
      if (want === undefined) continue
      const key = this.#store.unitKey(want)
      let group = groups.get(key)
      if (group === undefined) {
        group = { key, unit: this.#store.jobs.get(key)?.unit ?? this.#store.unitOf(want), wants: [] }
        groups.set(key, group)
      }
      group.wants.push({ i, at: this.#store.memberAt(group.unit, want) })
    }
    return [...groups.values()]
  }

  #startInFile(groups: readonly Group[]): Attempt[] {
    return groups.map(group => {
      const running = this.#store.jobs.get(group.key)
      return this.#wait(group, running ?? this.#submit(group, undefined))
    })
  }

  async #startInPool(groups: readonly Group[]): Promise<Attempt[]> {
    const { pool } = this.#options.services
    const attempts: Attempt[] = []
    const attempt = (): boolean => {
      const missing: Group[] = []
      const found: { group: Group; entry: PoolEntry }[] = []
      for (const group of groups) {
        if (this.#store.jobs.has(group.key)) continue
        const entry = pool.find(this.#poolKey(group))
        if (entry !== undefined && this.#serves(entry, group)) found.push({ group, entry })
        else missing.push(group)
      }
      for (const { entry } of found) entry.pins++
      let places: readonly PoolEntry[] | undefined
      try {
        places = pool.allocate(
          missing.map(group => ({ key: this.#poolKey(group), size: group.unit.outputSize })),
        )
      } finally {
        if (places === undefined) for (const { entry } of found) pool.unpin(entry)
      }
      if (places === undefined) return false
      for (const { group, entry } of found)
        attempts.push({ group, outcome: Promise.resolve({ bad: new Map(), entry }) })
      for (const group of groups) {
        const running = this.#store.jobs.get(group.key)
        if (running !== undefined && !missing.includes(group)) attempts.push(this.#wait(group, running))
      }
      for (const [k, group] of missing.entries())
        attempts.push(this.#wait(group, this.#submit(group, places[k])))
      return true
    }
    await pool.inTurn(attempt, this.#options.signal)
    return attempts
  }

  #poolKey(group: Group): string {
    return this.#store.poolPrefix + group.key
  }

  #serves(entry: PoolEntry, group: Group): boolean {
    return group.wants.every(({ at }) => this.#isGood(entry, at))
  }

  #isGood(entry: PoolEntry, at: number): boolean {
    return entry.bad?.has(at) === false && (entry.validated || !this.#options.validate)
  }

  #submit(group: Group, entry: PoolEntry | undefined): Job {
    const { lane, priority, mergeSize } = this.#options
    const job = new Job(lane, group.unit, {
      priority,
      mergeSize,
      fresh: this.#fresh.has(group.key),
      ...(entry && { entry }),
    })
    this.#store.jobs.set(group.key, job)
    try {
      lane.queue.submit(job)
    } catch (error) {
      queueMicrotask(() => this.#store.end(job, () => job.fail(error)))
    }
    this.#backendBytes += group.unit.size
    return job
  }

  #wait(group: Group, job: Job): Attempt {
    for (const { i, at } of group.wants) {
      const want = this.#wants[i]
      if (want !== undefined) job.want(at, digestOf(want))
    }
    if (this.#options.priority === 'demand' && job.priority === 'prefetch') job.lane.queue.promote(job)
    return { group, job, outcome: job.wait(this.#options.signal, abandon) }
  }

  /** Places of the group's wants; the first failure among them. */
  #take(group: Group, outcome: Outcome): NydusError | undefined {
    const { entry } = outcome
    if (entry !== undefined) this.#pinned.push(entry)
    let failure: NydusError | undefined
    for (const { i, at } of group.wants) {
      const error = outcome.bad.get(at)
      if (error !== undefined) failure ??= error
      else if (entry !== undefined && this.#isGood(entry, at)) {
        const member = group.unit.members[at]
        this.#placements[i] = {
          fileId: this.#options.services.pool.file.id,
          offset: entry.offset + (member?.at ?? 0),
        }
        this.#placed.add(i)
      }
    }
    return failure
  }

  #mayRetry(error: NydusError, group: Group, job: Job | undefined): boolean {
    if (error.code === 'CACHE_STORE_FAILED') return true
    if (error.code === 'CACHE_CHUNK_DAMAGED') {
      this.#options.metrics.damaged++
      if (this.#fresh.has(group.key) || this.#options.priority === 'prefetch') return false
      this.#fresh.add(group.key)
      return true
    }
    if (job === undefined || error.code === 'CACHE_BUSY') return false
    return (
      job.lane !== this.#options.lane || (job.ranAs === 'prefetch' && this.#options.priority === 'demand')
    )
  }
}

function digestOf(want: ChunkWant): Uint8Array | undefined {
  return want.digest ?? want.record?.digest
}

function abandon(job: Job): void {
  for (const doomed of job.lane.queue.abandon(job)) {
    if (!(doomed instanceof Job)) continue
    const { store } = doomed.lane
    // A request that was aborted ends its jobs itself; nobody may join them in the meantime.
    if (doomed.ranAs === undefined) store.end(doomed, () => {})
    else if (store.jobs.get(doomed.unit.key) === doomed) store.jobs.delete(doomed.unit.key)
  }
}
