import type { Priority } from './backend.js'
import { HttpFailure } from './http-failure.js'

/** Reads of one backend at once. Registries and object stores serve this many per client without throttling. */
export const MAX_IN_FLIGHT = 32
/** Of these, prefetch may hold so many: a guest's read never waits for more than one answer to arrive. */
export const MAX_PREFETCH = 16
/** Reads that may wait for a place. Guests cannot get here: their queues hold fewer requests. */
export const MAX_WAITING = 65_536

interface Waiter {
  readonly priority: Priority
  readonly enter: () => void
}

/**
 * Places for reads of one backend: bounded, demand ahead of prefetch, first come first served within each. A read
 * keeps its place while it pauses between tries, so when the backend is down, few find out for all.
 *
 * Begins with a single place, until `open` is called upon the first success: a herd of readers at start would
 * otherwise find out together that a token is needed, or that nobody is there.
 */
export class Limiter {
  #capacity = 1
  #demand = new Set<Waiter>()
  #prefetch = new Set<Waiter>()
  #inFlight = 0
  #prefetching = 0

  /** Reads that hold a place. */
  get inFlight(): number {
    return this.#inFlight
  }

  get waiting(): number {
    return this.#demand.size + this.#prefetch.size
  }

  open(): void {
    if (this.#capacity === MAX_IN_FLIGHT) return
    this.#capacity = MAX_IN_FLIGHT
    this.#next()
  }

  /** Resolves with what gives the place back (call it once); rejects with the signal's reason. */
  enter(priority: Priority, signal: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error)
      if (this.waiting >= MAX_WAITING)
        return reject(
          new HttpFailure('BACKEND_OVERLOADED', `${MAX_WAITING} reads wait for this backend already`),
        )
      const queue = priority === 'demand' ? this.#demand : this.#prefetch
      const onAbort = () => {
        queue.delete(waiter)
        reject(signal.reason as Error)
      }
      const waiter: Waiter = {
        priority,
        enter: () => {
          signal.removeEventListener('abort', onAbort)
          resolve(() => this.#leave(priority))
        },
      }
      signal.addEventListener('abort', onAbort, { once: true })
      queue.add(waiter)
      this.#next()
    })
  }

  #leave(priority: Priority): void {
    this.#inFlight--
    if (priority === 'prefetch') this.#prefetching--
    this.#next()
  }

  #next(): void {
    while (this.#inFlight < this.#capacity) {
      const waiter = first(this.#demand) ?? this.#firstPrefetch()
      if (waiter === undefined) return
      this.#inFlight++
      if (waiter.priority === 'prefetch') this.#prefetching++
      waiter.enter()
    }
  }

  #firstPrefetch(): Waiter | undefined {
    return this.#prefetching < MAX_PREFETCH ? first(this.#prefetch) : undefined
  }
}

/** Takes the oldest entry out. */
function first(queue: Set<Waiter>): Waiter | undefined {
  for (const waiter of queue) {
    queue.delete(waiter)
    return waiter
  }
  return undefined
}
