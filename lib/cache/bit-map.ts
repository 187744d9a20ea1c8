/**
 * Bits in memory that other threads and processes set as well: one per chunk, most significant bit of a byte first
 * (blobs-and-cache.md §6).
 */
export class BitMap {
  readonly length: number
  readonly #bytes: Uint8Array

  /** `bytes` holds at least ceil(length / 8) bytes; usually a mapped file. */
  constructor(bytes: Uint8Array, length: number) {
    if (bytes.byteLength < byteLength(length))
      throw new RangeError(`bit map: ${length} bits do not fit in ${bytes.byteLength} bytes`)
    this.#bytes = bytes
    this.length = length
  }

  has(index: number): boolean {
    if (index < 0 || index >= this.length) return false
    return (Atomics.load(this.#bytes, index >>> 3) & (0x80 >>> (index & 7))) !== 0
  }

  set(index: number): void {
    this.#check(index)
    Atomics.or(this.#bytes, index >>> 3, 0x80 >>> (index & 7))
  }

  clear(index: number): void {
    this.#check(index)
    Atomics.and(this.#bytes, index >>> 3, ~(0x80 >>> (index & 7)) & 0xff)
  }

  /** Sets every bit that is set in `other`, a map of the same length. */
  copyFrom(other: BitMap): void {
    this.#bytes.set(other.#bytes.subarray(0, byteLength(this.length)))
  }

  /** Number of bits set. */
  count(): number {
    let sum = 0
    for (let i = 0; i < byteLength(this.length); i++) {
      for (let byte = this.#bytes[i] ?? 0; byte !== 0; byte &= byte - 1) sum++
    }
    return sum
  }

  #check(index: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.length)
      throw new RangeError(`bit map: bit ${index} of ${this.length}`)
  }
}

/** Bytes that `bits` bits take. */
export function byteLength(bits: number): number {
  return Math.ceil(bits / 8)
}
