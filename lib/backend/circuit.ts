import { untilAborted } from '../base/abort.js'
import type { Clock } from '../base/clock.js'
import { explain } from '../base/errors.js'
import { HttpFailure } from './http-failure.js'

/** Reads that used up all their attempts, with no answer to anyone in between, before the backend counts as down. */
const LIMIT = 3
const FIRST_REST_MS = 1000
const MAX_REST_MS = 30_000

/** Leave to try. Whoever gets one calls exactly one of its functions once. */
export interface Pass {
  /** The one request that finds out whether the backend is back: it is not retried. */
  readonly probe: boolean
  /** The server answered, whatever it said. */
  answered(): void
  /** This read has given up because nobody (sane) was there. */
  gaveUp(cause: unknown): void
  /** Neither is known: the reader went away. */
  dropped(): void
}

/**
 * While a backend is down, reads fail at once instead of after all their timeouts: a guest with a thousand
 * reads would otherwise hang for an hour, and the backend would be hit by all of them when it comes back.
 *
 *     closed ── LIMIT reads gave up in a row ──> open ── rest over, one read probes ──> closed | open, longer
 *
 * Single failures do not open it: a server that restarts is back before the retries are used up. Reads that
 * come while a probe is out wait for its outcome.
 */
export class Circuit {
  readonly #clock: Clock
  readonly #random: () => number
  #givenUp = 0
  #restMs = FIRST_REST_MS
  /** When the rest ends; undefined = closed. */
  #until: number | undefined
  #probe: Promise<void> | undefined
  #cause: unknown

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock
    this.#random = random
  }

  get isOpen(): boolean {
    return this.#until !== undefined
  }

  /** Rejects with BACKEND_DOWN while the backend rests, or with the signal's reason. */
  async enter(signal: AbortSignal): Promise<Pass> {
    for (;;) {
      signal.throwIfAborted()
      if (this.#until === undefined) return this.#ordinary()
      if (this.#probe !== undefined) await untilAborted(this.#probe, signal)
      else if (this.#until <= this.#clock.now()) return this.#probing()
      else this.check()
    }
  }

  /** Throws BACKEND_DOWN while the circuit is open: for those who came in before it opened. */
  check(): void {
    if (this.#until === undefined) return
    const ms = Math.max(0, this.#until - this.#clock.now())
    throw new HttpFailure(
      'BACKEND_DOWN',
      `the backend is down and is asked again in ${Math.ceil(ms)} ms; last: ${explain(this.#cause)}`,
      { cause: this.#cause },
    )
  }

  #ordinary(): Pass {
    return {
      probe: false,
      answered: () => this.#close(),
      gaveUp: cause => {
        this.#cause = cause
        if (++this.#givenUp >= LIMIT) this.#open()
      },
      dropped() {},
    }
  }

  #probing(): Pass {
    let end: () => void = () => {}
    this.#probe = new Promise(resolve => (end = resolve))
    const done = () => {
      this.#probe = undefined
      end()
    }
    return {
      probe: true,
      answered: () => {
        this.#close()
        done()
      },
      gaveUp: cause => {
        this.#cause = cause
        this.#restMs = Math.min(MAX_REST_MS, this.#restMs * 2)
        this.#open()
        done()
      },
      dropped: done,
    }
  }

  #open(): void {
    // Daemons of a cluster that lost the same registry must not all come back in the same instant.
    this.#until = this.#clock.now() + this.#restMs * (0.75 + this.#random() / 4)
  }

  #close(): void {
    this.#until = undefined
    this.#givenUp = 0
    this.#restMs = FIRST_REST_MS
    this.#cause = undefined
  }
}
