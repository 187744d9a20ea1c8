/**
 * Who asks a backend next: one queue per backend.
 *
 *     units wanted ── sort by urgency ── merge neighbours ── bounded requests ──> backend
 *
 * Demand reads always overtake: a prefetch starts only when no demand read waits, and only one at a time while
 * demand reads are under way. Everything that accumulates has a bound.
 */
import { NydusError } from '../base/errors.js'
import type { Priority } from '../backend/backend.js'

/** What is queued: one unit of a blob. */
export interface Queued {
  /** Jobs of one lane object lie in one blob and are read by one reader: only they can be merged. */
  readonly lane: QueueLane
  readonly offset: number
  readonly size: number
  priority: Priority
  /** Upper bound of a request that this one is merged into. */
  readonly mergeSize: number
  /** Not merged with others. */
  readonly alone: boolean
  /** How many wait for it; riders have none. */
  readonly waiters: number
}

export interface QueuedRiders {
  /** In the same request. */
  readonly along: readonly Queued[]
  /** Each list is a request. */
  readonly others: readonly (readonly Queued[])[]
}

/** A blob as seen through one reader. */
export interface QueueLane {
  /** Bytes between two wanted units that are read and thrown away rather than asked for separately. */
  readonly maxGap: number
  /**
   * What is fetched along with the units from `first` to `last` that are demanded; nobody waits for it. `room`: bytes that
   * requests of their own may have, all together.
   */
  riders(first: Queued, last: Queued, room: number): QueuedRiders
  /** Prefetch requests at once. */
  readonly prefetchRequests: number
  /**
   * Reads and decodes; never rejects. `onRead` is called when the backend has answered, in whatever way.
   */
  run(jobs: readonly Queued[], signal: AbortSignal, onRead: () => void): Promise<void>
}

export interface QueueLimits {
  /** Backend requests at once. */
  readonly requests: number
  /** Of those, for prefetch. */
  readonly prefetchRequests: number
  /** Compressed bytes between the start of a request and the end of its decoding. */
  readonly bytes: number
  /** Units waiting. */
  readonly waiting: number
}

export const DEFAULT_LIMITS: QueueLimits = {
  requests: 32,
  prefetchRequests: 16,
  bytes: 32 << 20,
  waiting: 1 << 16,
}

/** With more requests of these kinds under way, riders get none of their own. */
const MOST_DEMAND = 1
const MOST_RIDERS = 2

/** Jobs of one priority: oldest first, and by offset within their lane. */
class Waiting {
  readonly #age = new Set<Queued>()
  readonly #byOffset = new Map<QueueLane, Queued[]>()

  get size(): number {
    return this.#age.size
  }

  add(job: Queued): void {
    this.#age.add(job)
    const list = this.#byOffset.get(job.lane)
    if (list === undefined) this.#byOffset.set(job.lane, [job])
    else list.splice(position(list, job.offset), 0, job)
  }

  delete(job: Queued): boolean {
    if (!this.#age.delete(job)) return false
    const list = this.#byOffset.get(job.lane) ?? []
    list.splice(list.indexOf(job, position(list, job.offset)), 1)
    if (list.length === 0) this.#byOffset.delete(job.lane)
    return true
  }

  oldest(): Queued | undefined {
    for (const job of this.#age) return job
    return undefined
  }

  /** Takes `first` and the neighbours that one request can serve, in the order of their offsets. */
  takeRun(first: Queued): Queued[] {
    const list = this.#byOffset.get(first.lane) ?? [first]
    let from = list.indexOf(first, position(list, first.offset))
    let to = from + 1
    let start = first.offset
    let end = first.offset + first.size
    const fits = (job: Queued | undefined, gap: number): job is Queued =>
      job !== undefined &&
      !job.alone &&
      gap <= first.lane.maxGap &&
      Math.max(end, job.offset + job.size) - Math.min(start, job.offset) <= first.mergeSize
    while (!first.alone) {
      const after = list[to]
      if (fits(after, (after?.offset ?? 0) - end)) {
        end = Math.max(end, after.offset + after.size)
        to++
        continue
      }
      const before = list[from - 1]
      if (!fits(before, start - ((before?.offset ?? 0) + (before?.size ?? 0)))) break
      start = before.offset
      from--
    }
    const run = list.splice(from, to - from)
    if (list.length === 0) this.#byOffset.delete(first.lane)
    for (const job of run) this.#age.delete(job)
    return run
  }
}

/** Index of the first job at or behind `offset`. */
function position(list: readonly Queued[], offset: number): number {
  let low = 0
  let high = list.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((list[middle]?.offset ?? 0) < offset) low = middle + 1
    else high = middle
  }
  return low
}

interface Request {
  readonly jobs: readonly Queued[]
  readonly controller: AbortController
  reading: boolean
}

export class FetchQueue {
  readonly #limits: QueueLimits
  readonly #demand = new Waiting()
  readonly #prefetch = new Waiting()
  readonly #requests = new Map<Queued, Request>()
  /** Requests that backends have not answered yet. */
  readonly #running = { demand: 0, prefetch: 0, riders: 0 }
  #bytes = 0
  #scheduled = false

  constructor(limits: QueueLimits = DEFAULT_LIMITS) {
    this.#limits = limits
  }

  get waiting(): number {
    return this.#demand.size + this.#prefetch.size
  }

  /** Compressed bytes being read or decoded. */
  get bytesInFlight(): number {
    return this.#bytes
  }

  get requestsInFlight(): number {
    const { demand, prefetch, riders } = this.#running
    return demand + prefetch + riders
  }

  /** Throws CACHE_BUSY when too much is waiting already. */
  submit(job: Queued): void {
    if (this.waiting >= this.#limits.waiting)
      throw new NydusError(
        'CACHE_BUSY',
        'EIO',
        `${this.waiting} chunks are waiting for this backend already, no more are taken`,
      )
    this.#waitingOf(job).add(job)
    this.#schedule()
  }

  /** A prefetch that somebody waits for now: it goes to the demand reads. */
  promote(job: Queued): void {
    const queued = this.#prefetch.delete(job)
    job.priority = 'demand'
    if (queued) this.#demand.add(job)
    this.#schedule()
  }

  /**
   * Nobody waits for `job` any more. Returns the jobs that will not be done: those taken out of the queue, or those
   * of its request, which is aborted when nobody waits for any of them.
   */
  abandon(job: Queued): readonly Queued[] {
    if (this.#waitingOf(job).delete(job)) return [job]
    const request = this.#requests.get(job)
    if (request === undefined || !request.reading) return []
    if (request.jobs.some(other => other.waiters > 0)) return []
    request.controller.abort()
    return request.jobs
  }

  /** The requests of `lane` that nobody waits for are aborted: its user goes. */
  dropUnawaited(lane: QueueLane): void {
    for (const { jobs, controller, reading } of new Set(this.#requests.values()))
      if (reading && jobs[0]?.lane === lane && jobs.every(job => job.waiters === 0)) controller.abort()
  }

  isUnderWay(job: Queued): boolean {
    return this.#requests.has(job)
  }

  #waitingOf(job: Queued): Waiting {
    return job.priority === 'demand' ? this.#demand : this.#prefetch
  }

  /** Not at once: what arrives in the same turn of the event loop is merged. */
  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      while (this.#startNext());
    })
  }

  #startNext(): boolean {
    const first = this.#demand.oldest() ?? this.#prefetch.oldest()
    if (first === undefined || !this.#mayStart(first)) return false
    const jobs = this.#waitingOf(first).takeRun(first)
    const others = first.priority === 'demand' && !first.alone ? this.#addRiders(jobs, first.lane) : []
    void this.#run(jobs, first.priority)
    for (const riders of others) void this.#run(riders, 'riders')
    return true
  }

  #mayStart(job: Queued): boolean {
    const { requests, prefetchRequests, bytes } = this.#limits
    if (this.requestsInFlight >= requests) return false
    if (this.#bytes > 0 && this.#bytes + job.size > bytes) return false
    if (job.priority === 'demand') return true
    const most = Math.min(prefetchRequests, job.lane.prefetchRequests)
    return this.#running.prefetch < (this.#running.demand > 0 ? 1 : most)
  }

  /** Returns the requests that riders have for themselves. */
  #addRiders(jobs: Queued[], lane: QueueLane): readonly (readonly Queued[])[] {
    const first = jobs[0]
    const last = jobs.at(-1)
    if (first === undefined || last === undefined) return []
    const { along, others } = lane.riders(first, last, this.#roomForOthers())
    jobs.push(...along)
    for (const rider of [along, ...others].flat()) {
      this.#demand.delete(rider)
      this.#prefetch.delete(rider)
    }
    return others
  }

  /**
   * A guest that waits for several requests at once does not wait for one after the other: nothing is gained then by asking
   * for more. And half of everything is left to what is demanded.
   */
  #roomForOthers(): number {
    const { requests, bytes } = this.#limits
    const { demand, riders } = this.#running
    if (demand > MOST_DEMAND || riders > MOST_RIDERS || this.requestsInFlight >= requests / 2) return 0
    return Math.max(0, bytes / 2 - this.#bytes)
  }

  async #run(jobs: readonly Queued[], kind: Priority | 'riders'): Promise<void> {
    const [first] = jobs
    if (first === undefined) return
    const start = Math.min(...jobs.map(job => job.offset))
    const bytes = Math.max(...jobs.map(job => job.offset + job.size)) - start
    const request: Request = { jobs, controller: new AbortController(), reading: true }
    for (const job of jobs) this.#requests.set(job, request)
    this.#bytes += bytes
    this.#running[kind]++
    const onRead = (): void => {
      if (request.reading) this.#running[kind]--
      request.reading = false
      this.#schedule()
    }
    try {
      await first.lane.run(jobs, request.controller.signal, onRead)
    } finally {
      onRead()
      this.#bytes -= bytes
      for (const job of jobs) this.#requests.delete(job)
      this.#schedule()
    }
  }
}
