/**
 * Chunks of a blob that have no numbers (2020 images, tarfs), by uncompressed offset: those that this process stored.
 * Lanes do not know which of them are there, so all that is read comes by here.
 */
import type { EvictableChunks } from './evictable-chunks.js'
import type { Member } from './unit.js'

interface Stored {
  readonly size: number
  readonly unitKey: number
  last: number
}

export class LooseChunks implements EvictableChunks {
  readonly marks = undefined
  readonly #stored = new Map<number, Stored>()

  keys(): Iterable<number> {
    return this.#stored.keys()
  }

  offset(key: number): number {
    return key
  }

  size(key: number): number {
    return this.#stored.get(key)?.size ?? 0
  }

  unitKey(key: number): number {
    return this.#stored.get(key)?.unitKey ?? key
  }

  last(key: number): number {
    return this.#stored.get(key)?.last ?? 0
  }

  stored({ uncompressedOffset, size }: Member, unitKey: number, now: number): void {
    this.#stored.set(uncompressedOffset, { size, unitKey, last: now })
  }

  used(key: number, now: number): void {
    const stored = this.#stored.get(key)
    if (stored !== undefined) stored.last = now
  }

  collect(): void {}

  /** What an earlier process stored, nobody can find: BlobEviction.sweep gives its room back. */
  async learn(): Promise<void> {}

  forget(key: number): void {
    this.#stored.delete(key)
  }
}
