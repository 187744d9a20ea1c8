/**
 * Bounds how often one kind of line is logged: a guest that provokes errors must not fill the disk.
 */
import type { Clock } from '../base/clock.js'

interface Window {
  start: number
  taken: number
  suppressed: number
}

export class RateLimit {
  readonly #clock: Clock
  readonly #max: number
  readonly #windowMs: number
  readonly #windows = new Map<string, Window>()

  /** At most `max` lines of one kind per `windowMs`. Kinds are few: names from the code, never from a guest. */
  constructor(clock: Clock, max: number, windowMs: number) {
    this.#clock = clock
    this.#max = max
    this.#windowMs = windowMs
  }

  /** Undefined: do not log. Otherwise how many of this kind were left out since the last that was logged. */
  take(kind: string): number | undefined {
    const now = this.#clock.now()
    let window = this.#windows.get(kind)
    if (window === undefined) this.#windows.set(kind, (window = { start: now, taken: 0, suppressed: 0 }))
    if (now - window.start >= this.#windowMs) {
      window.start = now
      window.taken = 0
    }
    if (window.taken >= this.#max) {
      window.suppressed++
      return undefined
    }
    window.taken++
    const { suppressed } = window
    window.suppressed = 0
    return suppressed
  }
}
