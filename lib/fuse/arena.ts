/**
 * The lane's arena, used as a ring: what is encoded goes to the head, and the head overwrites the oldest.
 *
 *     0 ─── written lately ─── head ─── REACH: about to be overwritten ─── still good ─── ARENA_SIZE
 *
 * The addon copies from it when a batch is completed, so nothing that a reply of the running batch points to may be
 * overwritten within that batch. A batch writes less than REACH; what lies closer than that in front of the head
 * is treated as gone (`safe`) and encoded again, which also keeps what is often used.
 */
import { ARENA_SIZE, BATCH } from './ring.js'

/** Most bytes of one piece. */
export const PIECE_MAX = 72 << 10
/** Most pieces that one request has encoded. */
export const PIECES_A_REQUEST = 2
/** One piece more for what is skipped at the end of the arena. */
const REACH = (BATCH * PIECES_A_REQUEST + 1) * PIECE_MAX

export class Arena {
  /** Where the next piece goes; a multiple of 8. */
  head = 0
  /** Counts the bytes that the head has passed: `position` of a piece stays comparable. */
  #passed = 0

  /** Makes room for PIECE_MAX bytes at the head and returns its offset. */
  reserve(): number {
    if (this.head + PIECE_MAX > ARENA_SIZE) {
      this.#passed += ARENA_SIZE - this.head
      this.head = 0
    }
    return this.head
  }

  /** Keeps the first `bytes` of what was reserved; returns the position, for `safe`. */
  commit(bytes: number): number {
    const position = this.#passed
    const taken = Math.ceil(bytes / 8) * 8
    this.head += taken
    this.#passed += taken
    return position
  }

  /** Whether a piece committed at `position` stays what it is until the running batch is completed. */
  safe(position: number): boolean {
    return this.#passed - position < ARENA_SIZE - REACH
  }
}
