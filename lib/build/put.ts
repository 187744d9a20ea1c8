/**
 * Writing in place, at offsets that field tables give (`Layout.at`): for structs of which an image has a million, where
 * `Layout.write`, with its objects and bigints, takes longer than everything else.
 */

const HIGH = 2 ** 32

/** A 64-bit little-endian integer: a safe integer, two's complement when negative. */
export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value, true)
  view.setUint32(at + 4, Math.floor(value / HIGH), true)
}
