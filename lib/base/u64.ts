/**
 * 64-bit little-endian integers as doubles, in place, at offsets that field tables give (`Layout.at`): for structs of which
 * there are millions, where `Layout.read` and `write`, with their objects and bigints, would take longer than all else.
 */

const HIGH = 2 ** 32

/** Unsigned; exact below 2^53, above 2^53 - 1 otherwise. */
export function u64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * HIGH
}

/** Two's complement; exact between -2^53 and 2^53. */
export function i64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getInt32(at + 4, true) * HIGH
}

/** A safe integer, two's complement when negative. */
export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value, true)
  view.setUint32(at + 4, Math.floor(value / HIGH), true)
}
