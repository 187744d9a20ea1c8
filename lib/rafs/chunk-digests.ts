/**
 * Digests of a v6 image's chunks, from the chunk table of its bootstrap (rafs-v6.md §8).
 *
 * The table is sorted by digest, so it is searched through a hash table over (blob, chunk number). That is made at
 * the first question: an image whose chunks are in the cache never pays for it. It takes 8 to 16 bytes a chunk.
 */
import { randomInt } from 'node:crypto'
import type { Bootstrap } from './bootstrap.js'
import { ChunkV5 } from './layout/v5.js'
import type { SuperV6 } from './super-v6.js'

const DIGEST_SIZE = 32

export class ChunkDigests {
  readonly #boot: Bootstrap
  readonly #sb: SuperV6
  /** Open addressing: record number + 1, 0 = free. Made at the first look-up. */
  #slots: Uint32Array | undefined
  /** Random, so that no image can be made whose chunks all meet in one place. */
  readonly #seed = randomInt(2 ** 31) * 2 + 1

  constructor(boot: Bootstrap, sb: SuperV6) {
    this.#boot = boot
    this.#sb = sb
  }

  /** A copy of the digest; undefined when the table has none for this chunk. */
  get(blob: number, index: number): Uint8Array | undefined {
    const slots = (this.#slots ??= this.#build())
    const record = slots[this.#find(slots, blob, index)] ?? 0
    if (record === 0) return undefined
    const digest = this.#boot.bytes.slice(this.#at(record), this.#at(record) + DIGEST_SIZE)
    // tarfs images have a record, but no digest (§8).
    return digest.every(byte => byte === 0) ? undefined : digest
  }

  #build(): Uint32Array {
    const records = this.#sb.chunkTableSize / ChunkV5.size
    const slots = new Uint32Array(2 ** Math.ceil(Math.log2(records * 2 + 2)))
    const view = this.#boot.view
    for (let record = 1; record <= records; record++) {
      const at = this.#at(record)
      const blob = view.getUint32(at + ChunkV5.at.blobIndex, true)
      slots[this.#find(slots, blob, view.getUint32(at + ChunkV5.at.index, true))] = record
    }
    return slots
  }

  /** The slot that holds the chunk, or the free one where it belongs. */
  #find(slots: Uint32Array, blob: number, index: number): number {
    const view = this.#boot.view
    const mask = slots.length - 1
    let slot = Math.imul(Math.imul(blob, 0x9e37_79b1) ^ index, this.#seed)
    slot = (slot ^ (slot >>> 15)) & mask
    for (;;) {
      const record = slots[slot] ?? 0
      if (record === 0) return slot
      const at = this.#at(record)
      if (
        view.getUint32(at + ChunkV5.at.index, true) === index &&
        view.getUint32(at + ChunkV5.at.blobIndex, true) === blob
      )
        return slot
      slot = (slot + 1) & mask
    }
  }

  #at(record: number): number {
    return this.#sb.chunkTableOffset + (record - 1) * ChunkV5.size
  }
}
