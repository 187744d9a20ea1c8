/**
 * Growable columns: what a tree of a million files is kept in, at some 80 bytes a file, where objects and Buffers
 * would take 600.
 */

type ColumnArray = Uint8Array | Uint16Array | Uint32Array | Float64Array

/** One value for each row; grows by half. */
export class Column<A extends ColumnArray> {
  data: A
  readonly #make: new (length: number) => A

  constructor(make: new (length: number) => A, capacity = 1024) {
    this.#make = make
    this.data = new make(capacity)
  }

  /** Makes room for row `row`. */
  reserve(row: number): void {
    if (row < this.data.length) return
    const next = new this.#make(Math.max(row + 1, this.data.length + (this.data.length >>> 1)))
    next.set(this.data)
    this.data = next
  }

  get(row: number): number {
    const value = this.data[row]
    if (value === undefined) throw new RangeError(`row ${row} of a column with ${this.data.length} rows`)
    return value
  }

  /** 0 for a row that nobody set. */
  getOr0(row: number): number {
    return this.data[row] ?? 0
  }

  set(row: number, value: number): void {
    this.reserve(row)
    this.data[row] = value
  }
}

/** Byte strings one behind the other; each is named by its offset and length. */
export class ByteArena {
  bytes: Uint8Array
  used = 0

  constructor(capacity = 64 << 10) {
    this.bytes = new Uint8Array(capacity)
  }

  /** Copies `from[start … start + length)` in and returns its offset. */
  add(from: Uint8Array, start = 0, length = from.length - start): number {
    if (this.used + length > this.bytes.length) {
      const next = new Uint8Array(Math.max(this.used + length, this.bytes.length * 2))
      next.set(this.bytes.subarray(0, this.used))
      this.bytes = next
    }
    const at = this.used
    // A view takes longer than copying a name.
    if (length < 64) for (let i = 0; i < length; i++) this.bytes[at + i] = from[start + i] as number
    else this.bytes.set(from.subarray(start, start + length), at)
    this.used += length
    return at
  }

  view(offset: number, length: number): Uint8Array {
    return this.bytes.subarray(offset, offset + length)
  }

  compare(a: number, aLength: number, b: number, bLength: number): number {
    const n = Math.min(aLength, bLength)
    for (let i = 0; i < n; i++) {
      const d = (this.bytes[a + i] ?? 0) - (this.bytes[b + i] ?? 0)
      if (d !== 0) return d
    }
    return aLength - bLength
  }

  equals(offset: number, length: number, other: Uint8Array, start: number, otherLength: number): boolean {
    if (length !== otherLength) return false
    for (let i = 0; i < length; i++) if (this.bytes[offset + i] !== other[start + i]) return false
    return true
  }
}
