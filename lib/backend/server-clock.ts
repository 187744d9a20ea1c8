import type { Clock } from '../base/clock.js'
import type { Answer } from './http-exchange.js'
import { header } from './http-failure.js'

/** The date for signatures. Stores refuse one that is 15 minutes off; then theirs is taken. */
export class ServerClock {
  readonly #clock: Clock
  #skewMs = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  now(): Date {
    return new Date(this.#clock.wall() + this.#skewMs)
  }

  /** Learns from a refusal; true when the date was the reason and is corrected. */
  corrected(answer: Answer): boolean {
    if (answer.status !== 403 || !/<Code>RequestTimeTooSkewed</.test(answer.text)) return false
    const date = Date.parse(header(answer.headers, 'date') ?? '')
    if (Number.isNaN(date)) return false
    this.#skewMs = date - this.#clock.wall()
    return true
  }
}
