import type { Clock } from '../base/clock.js'

/** Keeps an average rate: what was spent is waited for before more is begun. */
export class Pacer {
  readonly #rate: number
  readonly #clock: Clock
  /** When everything spent so far will have been paid for. */
  #free: number

  /** `bytesPerSecond` 0: no limit. */
  constructor(bytesPerSecond: number, clock: Clock) {
    this.#rate = bytesPerSecond
    this.#clock = clock
    this.#free = clock.now()
  }

  spend(bytes: number): void {
    if (this.#rate > 0) this.#free = Math.max(this.#free, this.#clock.now()) + (bytes / this.#rate) * 1000
  }

  /** Waits until nothing is owed. */
  async ready(signal: AbortSignal): Promise<void> {
    for (let wait = this.#free - this.#clock.now(); wait > 0; wait = this.#free - this.#clock.now())
      await this.#clock.sleep(wait, signal)
  }
}
