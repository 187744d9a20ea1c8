/**
 * The bytes of a bootstrap, as a lane and the yard see them: a mapping of the file that nobody writes to.
 *
 * Everything in it was written by a stranger. Readers ask `has` before they follow an offset, and combine 64-bit
 * fields into doubles with `u64`: a value of 2^53 or more is inexact but stays above every limit that it is then
 * compared with, so no BigInt is needed to refuse it.
 */
import { NydusError, type Code } from '../base/errors.js'

export class Bootstrap {
  /** What a person calls this file. */
  readonly name: string
  readonly bytes: Uint8Array
  /** Whole words: of a v6 bootstrap, whose length is a multiple of a block size, all bytes. */
  readonly words: Uint32Array
  readonly view: DataView
  readonly length: number

  constructor(memory: ArrayBuffer, length: number, name: string) {
    this.name = name
    this.length = length
    this.bytes = new Uint8Array(memory, 0, length)
    this.words = new Uint32Array(memory, 0, Math.floor(length / Uint32Array.BYTES_PER_ELEMENT))
    this.view = new DataView(memory, 0, length)
  }

  /** Whether `size` bytes at `offset` lie in the file. False for anything that is not a sane number. */
  has(offset: number, size: number): boolean {
    return offset >= 0 && size >= 0 && offset + size <= this.length
  }
}

/**
 * Seconds by the two words of their 64 bits, two's complement, cut to what a double holds exactly (file systems do allow such
 * times).
 */
export function seconds(low: number, high: number): number {
  if (high === 0) return low
  const value = low + (high | 0) * 2 ** 32
  if (value > Number.MAX_SAFE_INTEGER) return Number.MAX_SAFE_INTEGER
  if (value < Number.MIN_SAFE_INTEGER) return Number.MIN_SAFE_INTEGER
  return value
}

/** How many bytes two names have in common at their start, of which `known` need not be looked at. */
export function sharedBytes(
  a: Uint8Array,
  aStart: number,
  aLength: number,
  b: Uint8Array,
  bStart: number,
  bLength: number,
  known: number,
): number {
  const limit = aLength < bLength ? aLength : bLength
  let i = known
  while (i < limit && a[aStart + i] === b[bStart + i]) i++
  return i
}

/** memcmp of two names that share `shared` bytes, the shorter one first when it is a prefix: < 0, 0 or > 0. */
export function orderAt(
  shared: number,
  a: Uint8Array,
  aStart: number,
  aLength: number,
  b: Uint8Array,
  bStart: number,
  bLength: number,
): number {
  if (shared >= aLength || shared >= bLength) return aLength - bLength
  return (a[aStart + shared] ?? 0) - (b[bStart + shared] ?? 0)
}

/** An image that cannot be used. */
export function badImage(code: Code, boot: Bootstrap, what: string, options?: ErrorOptions): NydusError {
  return new NydusError(code, 'EINVAL', `${boot.name}: ${what}`, options)
}
