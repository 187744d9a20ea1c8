/**
 * Collects the extents of one reply straight into the slot's place in the ring, and what of it is not cached.
 */
import type { ExtentSink } from '../vfs/filesystem.js'
import { Extent, FILE_ZERO, MAX_EXTENTS } from './ring.js'
import { EXTENTS_WORD, EXTENTS_WORDS, type RingMemory } from './ring-memory.js'

const EXTENT_WORDS = Extent.size / 4
const FILE = Extent.at.file / 4
const LENGTH = Extent.at.length / 4
const OFFSET = Extent.at.offset / 4

/** Numbers kept for each wanted piece: extent, blob, ref, offset in the chunk, length. */
export const WANT_NUMBERS = 5

export class Extents implements ExtentSink {
  /** How many extents the reply has, and how many bytes they are. */
  count = 0
  length = 0
  /** Wanted pieces, WANT_NUMBERS each. */
  readonly wants = new Float64Array(MAX_EXTENTS * WANT_NUMBERS)
  wantCount = 0

  readonly #u32: Uint32Array
  readonly #f64: Float64Array
  /** Word of the slot's first extent. */
  #first = 0
  /** The last extent may grow: it is not a wanted piece. */
  #open = false
  #wanted = false

  constructor(ring: RingMemory) {
    this.#u32 = ring.u32
    this.#f64 = ring.f64
  }

  /** Starts the reply of slot `index`. */
  begin(index: number): void {
    this.#first = EXTENTS_WORD + index * EXTENTS_WORDS
    this.count = 0
    this.length = 0
    this.wantCount = 0
    this.#open = false
    this.#wanted = false
  }

  add(file: number, offset: number, length: number): boolean {
    const u32 = this.#u32
    const wanted = this.#wanted
    this.#wanted = false
    if (this.#open && !wanted) {
      const last = this.#first + (this.count - 1) * EXTENT_WORDS
      const had = u32[last + LENGTH] as number
      if (
        u32[last + FILE] === file &&
        (file === FILE_ZERO || (this.#f64[(last + OFFSET) >> 1] as number) + had === offset)
      ) {
        u32[last + LENGTH] = had + length
        this.length += length
        return true
      }
    }
    if (this.count === MAX_EXTENTS) return false
    const at = this.#first + this.count * EXTENT_WORDS
    u32[at + FILE] = file
    u32[at + LENGTH] = length
    this.#f64[(at + OFFSET) >> 1] = offset
    this.count++
    this.length += length
    this.#open = !wanted
    return true
  }

  want(blob: number, ref: number, chunkOffset: number, length: number): boolean {
    if (this.wantCount === MAX_EXTENTS) return false
    const { wants } = this
    const at = this.wantCount * WANT_NUMBERS
    wants[at] = this.count
    wants[at + 1] = blob
    wants[at + 2] = ref
    wants[at + 3] = chunkOffset
    wants[at + 4] = length
    this.wantCount++
    this.#wanted = true
    return true
  }

  /** Writes the extents as triples file, offset, length to `to` from index `at` on. */
  copyTriples(to: Float64Array, at: number): void {
    for (let i = 0; i < this.count; i++) {
      const from = this.#first + i * EXTENT_WORDS
      to[at + 3 * i] = this.#u32[from + FILE] as number
      to[at + 3 * i + 1] = this.#f64[(from + OFFSET) >> 1] as number
      to[at + 3 * i + 2] = this.#u32[from + LENGTH] as number
    }
  }
}
