/**
 * What a lane tells the yard about the reads that it deferred: one array of numbers per turn.
 *
 * The lane collects them while it handles a batch and posts them after the batch was handed over; the addon would
 * not know their tickets before.
 */
import type { ColdRead, ColdWant } from '../vfs/filesystem.js'
import { WANT_NUMBERS, type Extents } from './extents.js'
import { BATCH, MAX_EXTENTS } from './ring.js'

/** Per read: ticket, slot, ino, offset, number of extents, number of wants; then those. */
const HEAD = 6
const TRIPLE = 3
const LARGEST = HEAD + MAX_EXTENTS * (TRIPLE + WANT_NUMBERS)

export class Deferrals {
  /** Room for a batch of the largest reads, so that a push cannot fail. */
  readonly #numbers = new Float64Array(BATCH * LARGEST)
  #used = 0

  get empty(): boolean {
    return this.#used === 0
  }

  push(ticket: number, slot: number, ino: number, offset: number, extents: Extents): void {
    const to = this.#numbers
    const { count, wantCount, wants } = extents
    let at = this.#used
    to[at] = ticket
    to[at + 1] = slot
    to[at + 2] = ino
    to[at + 3] = offset
    to[at + 4] = count
    to[at + 5] = wantCount
    at += HEAD
    extents.copyTriples(to, at)
    at += count * TRIPLE
    for (let i = 0; i < wantCount * WANT_NUMBERS; i++) to[at + i] = wants[i] as number
    this.#used = at + wantCount * WANT_NUMBERS
  }

  /** A copy of what was pushed since the last call, to be posted. */
  take(): Float64Array<ArrayBuffer> {
    const numbers = this.#numbers.slice(0, this.#used)
    this.#used = 0
    return numbers
  }
}

/** The yard's side: the reads in a lane's message. */
export function coldReads(numbers: Float64Array): ColdRead[] {
  const reads: ColdRead[] = []
  for (let at = 0; at + HEAD <= numbers.length;) {
    const [ticket = 0, slot = 0, ino = 0, offset = 0, count = 0, wantCount = 0] = numbers.subarray(
      at,
      at + HEAD,
    )
    at += HEAD
    const extents = numbers.slice(at, at + count * TRIPLE)
    at += count * TRIPLE
    const wants: ColdWant[] = []
    for (let i = 0; i < wantCount; i++, at += WANT_NUMBERS) {
      const [extent = 0, blob = 0, ref = 0, chunkOffset = 0, length = 0] = numbers.subarray(
        at,
        at + WANT_NUMBERS,
      )
      wants.push({ extent, blob, ref, chunkOffset, length })
    }
    reads.push({ ticket, slot, ino, offset, extents, wants })
  }
  return reads
}
