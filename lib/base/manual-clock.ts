import type { Cancel, Clock } from './clock.js'

interface Timer {
  readonly at: number
  readonly fire: () => void
}

/**
 * A clock for tests: time passes by `advance` and by sleeping. A sleeper is woken in the next
 * turn of the event loop and its nap is written down in `naps`, so code that pauses between retries runs at full
 * speed and shows its pauses; those who sleep at once sleep through the same time.
 */
export class ManualClock implements Clock {
  readonly naps: number[] = []
  #now = 1000
  #timers = new Set<Timer>()

  now(): number {
    return this.#now
  }

  wall(): number {
    return Date.UTC(2026, 0, 1) + this.#now
  }

  after(ms: number, fire: () => void): Cancel {
    const timer = { at: this.#now + ms, fire }
    this.#timers.add(timer)
    return () => void this.#timers.delete(timer)
  }

  background(ms: number, fire: () => void): Cancel {
    return this.after(ms, fire)
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    this.naps.push(ms)
    const end = this.#now + ms
    // Others may be about to sleep through the same time.
    await new Promise(resolve => setImmediate(resolve))
    this.advance(Math.max(0, end - this.#now))
    signal?.throwIfAborted()
  }

  /** Lets `ms` pass: timers that fall due fire in order. */
  advance(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      let next: Timer | undefined
      for (const timer of this.#timers) if (timer.at <= end && timer.at < (next?.at ?? Infinity)) next = timer
      if (next === undefined) break
      this.#timers.delete(next)
      this.#now = Math.max(this.#now, next.at)
      next.fire()
    }
    this.#now = end
  }

  /** Timers that have not fired: a test's look for leaks. */
  get pending(): number {
    return this.#timers.size
  }
}
