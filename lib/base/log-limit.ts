/**
 * Keeps a log readable when the same thing goes wrong thousands of times.
 */

/** Lets `burst` messages through in every `intervalMs`, and says how many it held back in between. */
export class LogLimit {
  readonly #burst: number
  readonly #intervalMs: number
  readonly #now: () => number
  #start = -Infinity
  #passed = 0
  #held = 0

  constructor(burst: number, intervalMs: number, now: () => number = () => performance.now()) {
    this.#burst = burst
    this.#intervalMs = intervalMs
    this.#now = now
  }

  /** -1: say nothing. Otherwise how many were held back since the last one that was let through. */
  pass(): number {
    const now = this.#now()
    if (now - this.#start >= this.#intervalMs) {
      this.#start = now
      this.#passed = 0
    }
    if (this.#passed >= this.#burst) {
      this.#held++
      return -1
    }
    this.#passed++
    const held = this.#held
    this.#held = 0
    return held
  }
}
