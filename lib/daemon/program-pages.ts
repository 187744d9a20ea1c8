/** Gives back what only the start needed: the pages of Node's own code that nobody has used since, freed memory. */
import type { Log } from '../base/log.js'

/** After the last mount: what it still brings (compilation, the first requests) is over by then. */
const SETTLED_MS = 10_000

export class ProgramPages {
  readonly #drop: () => number
  readonly #log: Log
  #timer: NodeJS.Timeout | undefined

  /** `drop` unmaps the pages and returns how many bytes that were. */
  constructor(drop: () => number, log: Log) {
    this.#drop = drop
    this.#log = log
  }

  /** Something was loaded: pages are dropped when nothing more has been for a while. */
  used(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#log.debug({ bytes: this.#drop() }, 'pages of the program dropped')
    }, SETTLED_MS)
    this.#timer.unref()
  }

  close(): void {
    clearTimeout(this.#timer)
  }
}
