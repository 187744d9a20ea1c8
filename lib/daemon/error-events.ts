/** The latest errors of the daemon, for `GET /api/v1/daemon/events`: bounded, the oldest go first. */

const MAX_ERRORS = 500
const MAX_BYTES = 51_200

export interface EventReport {
  readonly max_errors: number
  readonly total_errors: number
  readonly max_size: number
  readonly total_size: number
  readonly errors: readonly string[]
}

export class ErrorEvents {
  #lines: string[] = []
  #bytes = 0

  /** Keeps `message` with its date in front. */
  add(message: string, at = new Date()): void {
    const line = `${at.toUTCString()} - ${message}`.slice(0, MAX_BYTES / 4)
    this.#lines.push(line)
    this.#bytes += Buffer.byteLength(line)
    while (this.#lines.length > MAX_ERRORS || this.#bytes > MAX_BYTES)
      this.#bytes -= Buffer.byteLength(this.#lines.shift() ?? '')
  }

  report(): EventReport {
    return {
      max_errors: MAX_ERRORS,
      total_errors: this.#lines.length,
      max_size: MAX_BYTES,
      total_size: this.#bytes,
      errors: [...this.#lines],
    }
  }
}
