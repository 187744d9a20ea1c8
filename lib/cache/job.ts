/**
 * One unit on its way from the backend, however many fetches wait for it.
 */
import type { Priority } from '../backend/backend.js'
import type { NydusError } from '../base/errors.js'
import type { BlobLane } from './blob-lane.js'
import type { Queued } from './fetch-queue.js'
import type { PoolEntry } from './temp-pool.js'
import type { Unit } from './unit.js'

/** How a job ended, as far as the backend and the threads that decode are concerned. */
export interface Outcome {
  /** Members (positions in `unit.members`) that are not there, and why. */
  readonly bad: ReadonlyMap<number, NydusError>
  /** Where the unit's output is, pinned for the receiver; undefined: members are in the data file. */
  readonly entry?: PoolEntry
}

const NOBODY: ReadonlyMap<number, Uint8Array | undefined> = new Map()

interface Waiter {
  readonly resolve: (outcome: Outcome) => void
  readonly reject: (error: unknown) => void
}

export interface JobOptions {
  readonly priority: Priority
  readonly mergeSize: number
  /** Room in the temporary pool, already pinned for the job; without it members go to the data file. */
  readonly entry?: PoolEntry
  /** The backend's last answer was wrong. */
  readonly fresh?: boolean
}

export class Job implements Queued {
  readonly lane: BlobLane
  readonly unit: Unit
  readonly offset: number
  readonly size: number
  readonly mergeSize: number
  readonly alone: boolean
  readonly fresh: boolean
  readonly entry: PoolEntry | undefined
  priority: Priority
  /** Priority that the backend was asked with. */
  ranAs: Priority | undefined
  /** Set when it is decoded: members are checked against their digests, not only CRCs. */
  validate = false
  /** Its waiters have heard of its end. */
  ended = false
  /** Told when somebody begins to wait, while the job is decoded. */
  onWanted: (() => void) | undefined
  /** Members that somebody asked for, with the digest that they must have. */
  #wanted: Map<number, Uint8Array | undefined> | undefined
  // Most jobs are riders, of which there are hundreds in a request and for which nobody ever waits.
  #waiters: Set<Waiter> | undefined

  constructor(lane: BlobLane, unit: Unit, options: JobOptions) {
    this.lane = lane
    this.unit = unit
    this.offset = unit.offset
    this.size = unit.size
    this.mergeSize = options.mergeSize
    this.fresh = options.fresh === true
    this.alone = this.fresh || unit.open === true
    this.entry = options.entry
    this.priority = options.priority
  }

  get waiters(): number {
    return this.#waiters?.size ?? 0
  }

  get wanted(): ReadonlyMap<number, Uint8Array | undefined> {
    return this.#wanted ?? NOBODY
  }

  /** Asks for a member. The first digest that is given counts. */
  want(member: number, digest: Uint8Array | undefined): void {
    this.#wanted ??= new Map()
    if (this.#wanted.get(member) === undefined) this.#wanted.set(member, digest)
  }

  /** Waits for the end, or until `signal` is aborted: then `onAbandoned` is told if nobody else waits. */
  wait(signal: AbortSignal, onAbandoned: (job: Job) => void): Promise<Outcome> {
    const waiters = (this.#waiters ??= new Set())
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        waiters.delete(waiter)
        signal.removeEventListener('abort', abort)
      }
      const waiter: Waiter = {
        resolve: outcome => {
          settle()
          if (outcome.entry !== undefined) outcome.entry.pins++
          resolve(outcome)
        },
        reject: error => {
          settle()
          reject(error)
        },
      }
      const abort = (): void => {
        waiter.reject(signal.reason)
        if (waiters.size === 0) onAbandoned(this)
      }
      waiters.add(waiter)
      signal.addEventListener('abort', abort)
      if (signal.aborted) abort()
      else this.onWanted?.()
    })
  }

  succeed(outcome: Outcome): void {
    for (const waiter of [...(this.#waiters ?? [])]) waiter.resolve(outcome)
  }

  fail(error: unknown): void {
    for (const waiter of [...(this.#waiters ?? [])]) waiter.reject(error)
  }
}
