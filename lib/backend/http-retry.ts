/**
 * How often and when a failed request is tried again (nydusd.md 2.5, rule 9).
 */
import type { Clock } from '../base/clock.js'
import type { Priority } from './backend.js'

/** Retries of a read that a guest waits for, when the configuration's retry_limit is 0. */
const DEMAND_RETRIES = 3
/** Prefetch is tried again once at most: nobody waits for it, and what it missed is fetched on demand. */
const PREFETCH_RETRIES = 1

const FIRST_PAUSE_MS = 100
const MAX_PAUSE_MS = 2000

export function retriesOf(priority: Priority, retryLimit: number): number {
  const demand = retryLimit > 0 ? retryLimit : DEMAND_RETRIES
  return priority === 'demand' ? demand : Math.min(demand, PREFETCH_RETRIES)
}

/** The longest pause in front of retry `retry` (0 = the first): doubles each time. */
function ceiling(retry: number): number {
  return Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** retry)
}

/** The pause in front of retry `retry`; `random` in [0, 1) keeps readers that failed together apart. */
export function pauseBefore(retry: number, random: number): number {
  return ceiling(retry) * (0.5 + random / 2)
}

/**
 * Milliseconds that a read may take in all: every attempt up to its timeout, one more per proxy or mirror that
 * may have to fail first, and the pauses. 0 = no limit, because the attempts have none.
 */
export function budget(retries: number, detours: number, timeoutMs: number): number {
  if (timeoutMs === 0) return 0
  let pauses = 0
  for (let retry = 0; retry < retries; retry++) pauses += ceiling(retry)
  return (retries + 1 + detours) * timeoutMs + pauses
}

/** Requests that all wait until a throttling server wants to be asked again (Retry-After). */
export class Pacer {
  readonly #clock: Clock
  readonly #random: () => number
  #until = 0

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock
    this.#random = random
  }

  hold(ms: number): void {
    this.#until = Math.max(this.#until, this.#clock.now() + ms)
  }

  /** Milliseconds until the next request is welcome. */
  get remaining(): number {
    return Math.max(0, this.#until - this.#clock.now())
  }

  /** Waits for that moment, each caller a little longer than the server asked, so that they do not come at once. */
  async pass(signal: AbortSignal): Promise<void> {
    for (let ms = this.remaining; ms > 0; ms = this.remaining)
      await this.#clock.sleep(ms + this.#random() * FIRST_PAUSE_MS, signal)
  }
}
