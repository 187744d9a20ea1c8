/**
 * 64-bit little-endian integers as doubles, in place, at offsets that field tables give (`Layout.at`): for structs of which
 * there are millions, where `Layout.read` and `write`, with their objects and bigints, would take longer than all else.
 */

const HIGH = 2 ** 32
/** Where the upper half of a word starts, in bytes. */
const UPPER = 4

/** Unsigned; exact below 2^53, above 2^53 - 1 otherwise. */
export function u64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + UPPER, true) * HIGH
}

/** Two's complement; exact between -2^53 and 2^53. */
export function i64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getInt32(at + UPPER, true) * HIGH
}

/** A number that takes some bits of a word: where it starts is worth `unit`, it is below `span`. */
export interface BitField {
  readonly unit: number
  readonly span: number
}

/** `width` bits, 53 at most, from bit `from` on: bit 0 is worth 1. */
export function bitField(from: number, width: number): BitField {
  return { unit: 2 ** from, span: 2 ** width }
}

/** The number in some bits of the word at `at`. */
export function bitsOf(view: DataView, at: number, { unit, span }: BitField): number {
  // By halves: as one double, a word would lose its lowest bits. Powers of two, so that no division rounds.
  const low = Math.floor(view.getUint32(at, true) / unit)
  const high = Math.floor((view.getUint32(at + UPPER, true) * HIGH) / unit)
  return low - Math.floor(low / span) * span + (high - Math.floor(high / span) * span)
}

/** Puts a number below `span` into some bits, which are zeros, of the word at `at`. */
export function putBits(view: DataView, at: number, { unit }: BitField, value: number): void {
  const word = value * unit
  const high = Math.floor(word / HIGH)
  view.setUint32(at, view.getUint32(at, true) + (word - high * HIGH), true)
  view.setUint32(at + UPPER, view.getUint32(at + UPPER, true) + high, true)
}

/** A safe integer, two's complement when negative. */
export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value, true)
  view.setUint32(at + UPPER, Math.floor(value / HIGH), true)
}
