/**
 * Hash tables over the names of folders that are looked up often, so that a look-up touches three places in memory
 * instead of the twenty of a binary search (docs/performance.md).
 *
 * One per reader. A folder gets a table once as many names were looked up in it as pay for reading all of them; all
 * tables lie in one memory of fixed size, which starts over when it is full. What a table says is a hint: who asks
 * compares the name.
 */

/** Words: pairs of hash and position + 1; 0 is an empty pair. */
const TABLE_WORDS = 1 << 17
/** Folders that are known at a time. */
const FOLDER_BITS = 12
const FOLDERS = 2 ** FOLDER_BITS
/** Look-ups of one of so many names pay for a table. */
const NAMES_PER_LOOKUP = 16
const FEWEST_NAMES = 16
/** A table is at most half full. */
const MOST_NAMES = TABLE_WORDS / 4

/** FNV-1a, 32 bits. */
export function hashName(bytes: Uint8Array, start: number, length: number): number {
  let hash = 0x811c9dc5
  for (let i = start; i < start + length; i++) hash = Math.imul(hash ^ (bytes[i] as number), 0x01000193)
  return hash >>> 0
}

/** Folders often have numbers that are multiples of a power of two: by Fibonacci hashing. */
function placeOf(folder: number): number {
  return Math.imul(folder, 0x9e3779b1) >>> (32 - FOLDER_BITS)
}

export class NameIndex {
  #words = new Uint32Array(0)
  #used = 0
  readonly #folders = new Float64Array(FOLDERS).fill(-1)
  readonly #lookups = new Uint32Array(FOLDERS)
  /** First word and pairs - 1 of a folder's table; 0 pairs - 1: it has none. */
  readonly #first = new Uint32Array(FOLDERS)
  readonly #masks = new Uint32Array(FOLDERS)

  // The table that was opened or is being filled, and where the search is.
  #table = 0
  #mask = 0
  #hash = 0
  #pair = 0

  /** Counts a look-up in the folder. True: it has a table, which is open now. */
  open(folder: number): boolean {
    const at = placeOf(folder)
    if (this.#folders[at] !== folder) {
      this.#folders[at] = folder
      this.#lookups[at] = 0
      this.#masks[at] = 0
    }
    this.#lookups[at] = (this.#lookups[at] as number) + 1
    this.#table = this.#first[at] as number
    this.#mask = this.#masks[at] as number
    return this.#mask !== 0
  }

  /**
   * Whether a table for this folder of about so many names is worth it now; `open` was called for it before. Says so
   * once: a folder that turns out to be damaged is not read through at every look-up.
   */
  worthIt(folder: number, names: number): boolean {
    if (names < FEWEST_NAMES || names > MOST_NAMES) return false
    const at = placeOf(folder)
    if ((this.#lookups[at] as number) * NAMES_PER_LOOKUP < names) return false
    this.#lookups[at] = 0
    return true
  }

  /** Starts a table for exactly so many names. False: too many. */
  begin(names: number): boolean {
    if (names > MOST_NAMES) return false
    const pairs = 2 ** Math.ceil(Math.log2(names * 2 + 1))
    if (this.#words.length === 0) this.#words = new Uint32Array(TABLE_WORDS)
    if (this.#used + pairs * 2 > TABLE_WORDS) {
      this.#folders.fill(-1)
      this.#used = 0
    }
    this.#table = this.#used
    this.#mask = pairs - 1
    this.#words.fill(0, this.#table, this.#table + pairs * 2)
    return true
  }

  /** `position` says where the entry is, below 2^32 - 1. */
  add(hash: number, position: number): void {
    const words = this.#words
    let pair = hash & this.#mask
    while (words[this.#table + pair * 2 + 1] !== 0) pair = (pair + 1) & this.#mask
    words[this.#table + pair * 2] = hash
    words[this.#table + pair * 2 + 1] = position + 1
  }

  /** The table that was begun is complete. */
  finish(folder: number): void {
    const at = placeOf(folder)
    this.#folders[at] = folder
    this.#first[at] = this.#table
    this.#masks[at] = this.#mask
    this.#used = this.#table + (this.#mask + 1) * 2
  }

  /** Position of the first entry of the open table with this hash, -1: none. */
  find(hash: number): number {
    this.#hash = hash
    this.#pair = hash & this.#mask
    return this.next()
  }

  /** The next one. */
  next(): number {
    const words = this.#words
    for (;;) {
      const at = this.#table + this.#pair * 2
      const position = words[at + 1] as number
      if (position === 0) return -1
      this.#pair = (this.#pair + 1) & this.#mask
      if (words[at] === this.#hash) return position - 1
    }
  }
}
