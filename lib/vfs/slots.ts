/**
 * Which mount slot a new mount gets: one that was never used, as long as there are any; then the one that has been
 * free for the longest time and to which no guest holds a reference. So no old handle ever meets a new image.
 */
import { NydusError } from '../base/errors.js'
import { MAX_SLOT } from './changes.js'

export class Slots {
  readonly #lookupCount: (slot: number) => number
  readonly #limit: number
  #fresh = 1
  /** Slots that were used and are free, the longest free first. */
  readonly #free = new Set<number>()

  constructor(lookupCount: (slot: number) => number, limit = MAX_SLOT) {
    this.#lookupCount = lookupCount
    this.#limit = limit
  }

  allocate(): number {
    if (this.#fresh <= this.#limit) return this.#fresh++
    for (const slot of this.#free) {
      if (this.#lookupCount(slot) > 0) continue
      this.#free.delete(slot)
      return slot
    }
    throw new NydusError(
      'VFS_SLOTS_EXHAUSTED',
      'ENOSPC',
      `all ${this.#limit} mount slots are taken, or a guest still holds files of what was mounted there; unmount something`,
    )
  }

  free(slot: number): void {
    this.#free.add(slot)
  }
}
