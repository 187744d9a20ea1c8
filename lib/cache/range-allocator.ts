/** First-fit allocation of byte ranges in a file; what is given back joins its neighbours. */
export class RangeAllocator {
  readonly #unit: number
  /** Free ranges by offset: no two touch. */
  readonly #free: { offset: number; length: number }[]

  /** `length` bytes to give out, in multiples of `unit`. */
  constructor(length: number, unit: number) {
    this.#unit = unit
    this.#free = [{ offset: 0, length }]
  }

  /** Bytes that a range of `length` takes. */
  rounded(length: number): number {
    return Math.ceil(length / this.#unit) * this.#unit
  }

  /** Offset of a range of `length` bytes; undefined when no free range is long enough. */
  take(length: number): number | undefined {
    const size = this.rounded(length)
    const at = this.#free.findIndex(range => range.length >= size)
    const range = this.#free[at]
    if (range === undefined) return undefined
    const offset = range.offset
    range.offset += size
    range.length -= size
    if (range.length === 0) this.#free.splice(at, 1)
    return offset
  }

  give(offset: number, length: number): void {
    const size = this.rounded(length)
    let at = this.#free.findIndex(range => range.offset > offset)
    if (at < 0) at = this.#free.length
    const before = this.#free[at - 1]
    const after = this.#free[at]
    const joinsBefore = before !== undefined && before.offset + before.length === offset
    const joinsAfter = after !== undefined && offset + size === after.offset
    if (joinsBefore && joinsAfter) {
      before.length += size + after.length
      this.#free.splice(at, 1)
    } else if (joinsBefore) before.length += size
    else if (joinsAfter) {
      after.offset -= size
      after.length += size
    } else this.#free.splice(at, 0, { offset, length: size })
  }
}
