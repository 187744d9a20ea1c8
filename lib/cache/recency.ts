/**
 * When the parts of a blob were used last. Lanes read without telling anybody, so they leave a mark: a byte of shared
 * memory for each RANGE, written only where it is clear. The yard collects the marks now and then.
 */

/** Bytes of a data file that are kept or evicted together. */
export const RANGE = 2 << 20

export function rangeOf(offset: number): number {
  return Math.floor(offset / RANGE)
}

export class Recency {
  /** For lanes: a byte by range. */
  readonly marks: SharedArrayBuffer
  readonly #marks: Uint8Array
  /** By range; 0: not since it was opened. */
  readonly #last: Float64Array

  constructor(size: number) {
    const ranges = Math.max(1, Math.ceil(size / RANGE))
    this.marks = new SharedArrayBuffer(ranges)
    this.#marks = new Uint8Array(this.marks)
    this.#last = new Float64Array(ranges)
  }

  get ranges(): number {
    return this.#last.length
  }

  used(offset: number): void {
    const range = rangeOf(offset)
    if (range < this.#marks.length) this.#marks[range] = 1
  }

  /** Takes down what was used since the last call as used `now`. */
  collect(now: number): void {
    for (let range = 0; range < this.#marks.length; range++) {
      if (this.#marks[range] === 0) continue
      this.#marks[range] = 0
      this.#last[range] = now
    }
  }

  last(range: number): number {
    return this.#last[range] ?? 0
  }
}
