import type { Cancel, Clock } from '../base/clock.js'

export interface HealthOptions {
  /** Failures in a row (requests or pings) after which the way is not used. */
  readonly failureLimit: number
  /** Milliseconds between pings, and of the rest before a trial where there is no ping. */
  readonly intervalMs: number
  /** Milliseconds without traffic after which pings pause; the next request resumes them. */
  readonly pauseMs: number
  /** Asks the health endpoint; true = healthy. Absent: health is learned from requests alone. */
  readonly ping?: () => Promise<boolean>
  /** Called when the verdict changes. */
  readonly onChange: (healthy: boolean, why: string) => void
}

/**
 * Whether a proxy or a mirror is worth a request.
 *
 * With a ping, an unhealthy way comes back when a ping succeeds; without one, a single request tries it after
 * each interval. Traffic keeps the pings going, so an idle daemon is silent.
 */
export class Health {
  readonly #clock: Clock
  readonly #options: HealthOptions
  #failures = 0
  #healthy = true
  #trialAt = 0
  #lastUse = 0
  #timer: Cancel | undefined
  #closed = false

  constructor(clock: Clock, options: HealthOptions) {
    this.#clock = clock
    this.#options = options
  }

  get healthy(): boolean {
    return this.#healthy
  }

  /** Whether to send this request here. Asked once per request: a trial is given to the one who asks. */
  use(): boolean {
    this.#lastUse = this.#clock.now()
    this.#keepPinging()
    if (this.#healthy) return true
    if (this.#options.ping !== undefined || this.#clock.now() < this.#trialAt) return false
    this.#trialAt = this.#clock.now() + this.#options.intervalMs
    return true
  }

  succeeded(): void {
    this.#failures = 0
    if (this.#healthy) return
    this.#healthy = true
    this.#options.onChange(true, 'it answers again')
  }

  failed(why: string): void {
    this.#failures++
    if (!this.#healthy || this.#failures < this.#options.failureLimit) return
    this.#healthy = false
    this.#trialAt = this.#clock.now() + this.#options.intervalMs
    this.#options.onChange(false, why)
  }

  close(): void {
    this.#closed = true
    this.#timer?.()
    this.#timer = undefined
  }

  #keepPinging(): void {
    const { ping, intervalMs } = this.#options
    if (ping === undefined || intervalMs === 0 || this.#timer !== undefined || this.#closed) return
    this.#timer = this.#clock.background(intervalMs, () => void this.#pinged(ping))
  }

  async #pinged(ping: () => Promise<boolean>): Promise<void> {
    const fine = await ping().catch(() => false)
    if (this.#closed) return
    if (fine) this.succeeded()
    else this.failed('its health endpoint does not answer')
    this.#timer = undefined
    const idle = this.#clock.now() - this.#lastUse
    if (idle < this.#options.pauseMs) this.#keepPinging()
  }
}
