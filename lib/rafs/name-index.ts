/**
 * Hash tables over the names of folders that are looked up often, so that a look-up touches three places in memory
 * instead of the twenty of a binary search, and not the folder itself (docs/performance.md).
 *
 *     folder ── hash ── entry: hash, name (where it is in the bootstrap, how long it is), inode number
 *
 * One per reader. A folder gets a table once as many names were looked up in it as pay for reading all of them; all
 * tables lie in one memory of fixed size, which starts over when it is full. Who fills a table has checked what goes into
 * it; a bootstrap does not change.
 */
import { ERRNO } from '../base/errors.js'

/** Words of an entry: hash, place and length of the name (0: the entry is empty), inode number. */
const ENTRY_SHIFT = 2
const PLACE = 1
const LENGTH = 2
const INO = 3
const TABLE_WORDS = 1 << 18
/** Folders that are known at a time. */
const FOLDER_BITS = 12
const FOLDERS = 2 ** FOLDER_BITS
/** Look-ups of one of so many names pay for a table. */
const NAMES_PER_LOOKUP = 16
const FEWEST_NAMES = 16
/** A table is at most half full. */
const MOST_NAMES = TABLE_WORDS >> (ENTRY_SHIFT + 1)

/** What `find` says of a folder without a table: no inode number, and no errno. */
export const NO_TABLE = -(2 ** 30)

/** FNV-1a, 32 bits. */
function hashName(bytes: Uint8Array, start: number, length: number): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < length; i++) hash = Math.imul(hash ^ (bytes[start + i] as number), 0x01000193)
  return hash >>> 0
}

function sameBytes(a: Uint8Array, aStart: number, b: Uint8Array, bStart: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[aStart + i] !== b[bStart + i]) return false
  return true
}

/** Folders often have numbers that are multiples of a power of two: by Fibonacci hashing. */
function placeOf(folder: number): number {
  return Math.imul(folder, 0x9e3779b1) >>> (32 - FOLDER_BITS)
}

export class NameIndex {
  /** The bootstrap, at most 4 GiB. */
  readonly #names: Uint8Array
  #words = new Uint32Array(0)
  #used = 0
  readonly #folders = new Float64Array(FOLDERS).fill(-1)
  readonly #lookups = new Uint32Array(FOLDERS)
  /** First word and entries - 1 of a folder's table; 0 entries - 1: it has none. */
  readonly #first = new Uint32Array(FOLDERS)
  readonly #masks = new Uint32Array(FOLDERS)

  // The table that is being filled.
  #table = 0
  #mask = 0

  constructor(names: Uint8Array) {
    this.#names = names
  }

  /** Inode number of the name in that folder, -ENOENT, or NO_TABLE; counts the look-up. */
  find(folder: number, bytes: Uint8Array, start: number, length: number): number {
    const at = placeOf(folder)
    if (this.#folders[at] !== folder) {
      this.#folders[at] = folder
      this.#lookups[at] = 0
      this.#masks[at] = 0
    }
    this.#lookups[at] = (this.#lookups[at] as number) + 1
    const mask = this.#masks[at] as number
    if (mask === 0) return NO_TABLE
    const first = this.#first[at] as number
    const words = this.#words
    const hash = hashName(bytes, start, length)
    for (let number = hash & mask; ; number = (number + 1) & mask) {
      const entry = first + (number << ENTRY_SHIFT)
      const nameLength = words[entry + LENGTH] as number
      if (nameLength === 0) return -ERRNO.ENOENT
      if (words[entry] !== hash || nameLength !== length) continue
      if (sameBytes(bytes, start, this.#names, words[entry + PLACE] as number, length))
        return words[entry + INO] as number
    }
  }

  /**
   * Whether a table for this folder of about so many names is worth it now; `find` was asked for it before. Says so
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
    const entries = 2 ** Math.ceil(Math.log2(names * 2 + 1))
    if (this.#words.length === 0) this.#words = new Uint32Array(TABLE_WORDS)
    if (this.#used + (entries << ENTRY_SHIFT) > TABLE_WORDS) {
      this.#folders.fill(-1)
      this.#used = 0
    }
    this.#table = this.#used
    this.#mask = entries - 1
    this.#words.fill(0, this.#table, this.#table + (entries << ENTRY_SHIFT))
    return true
  }

  /** The name lies `place` bytes into the bootstrap; `ino` is below 2^32. */
  add(place: number, length: number, ino: number): void {
    const words = this.#words
    const hash = hashName(this.#names, place, length)
    let number = hash & this.#mask
    while (words[this.#table + (number << ENTRY_SHIFT) + LENGTH] !== 0) number = (number + 1) & this.#mask
    const entry = this.#table + (number << ENTRY_SHIFT)
    words[entry] = hash
    words[entry + PLACE] = place
    words[entry + LENGTH] = length
    words[entry + INO] = ino
  }

  /** The table that was begun is complete. */
  finish(folder: number): void {
    const at = placeOf(folder)
    this.#folders[at] = folder
    this.#first[at] = this.#table
    this.#masks[at] = this.#mask
    this.#used = this.#table + ((this.#mask + 1) << ENTRY_SHIFT)
  }
}
