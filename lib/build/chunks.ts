/**
 * Chunks of the image that is being built, in columns: one row for every chunk that lies in a blob, and for every
 * file the list of rows that make up its content.
 *
 * A chunk is the same as another when digest and size are equal; the second one is not stored but refers to the
 * first (blobs-and-cache.md §7), be it from this blob, a parent layer or a chunk dictionary.
 */
import { Column } from './columns.js'

export const DIGEST_SIZE = 32

/** Flags of a chunk row; the writers translate them. */
export const CHUNK = { COMPRESSED: 1, ENCRYPTED: 4, BATCH: 8, CRC: 0x10, ZRAN: 0x20 } as const

export interface Chunk {
  /** 32 bytes. */
  readonly digest: Uint8Array
  readonly blob: number
  readonly index: number
  readonly flags: number
  readonly compressedOffset: number
  readonly compressedSize: number
  readonly uncompressedOffset: number
  readonly uncompressedSize: number
  readonly crc32: number
  /** Batch and zran chunks: high 32 bits of the CI record's data word (window), low 32 (offset in the window). */
  readonly window: number
  readonly windowOffset: number
}

const DIGEST_WORDS = DIGEST_SIZE / 4

export class Chunks {
  /** Digests as words, for they are compared and copied more often than read. */
  #words = new Uint32Array(1024 * DIGEST_WORDS)
  #bytes = new Uint8Array(this.#words.buffer)
  readonly #blob = new Column(Uint16Array)
  readonly #index = new Column(Uint32Array)
  readonly #flags = new Column(Uint8Array)
  readonly #compressedOffset = new Column(Float64Array)
  readonly #compressedSize = new Column(Uint32Array)
  readonly #uncompressedOffset = new Column(Float64Array)
  readonly #uncompressedSize = new Column(Uint32Array)
  readonly #crc = new Column(Uint32Array)
  readonly #window = new Column(Uint32Array)
  readonly #windowOffset = new Column(Uint32Array)
  /** Chunk rows in the order of files; a file has a run of them (Tree.setChunks). */
  readonly #lists = new Column(Uint32Array)
  #listed = 0
  #rows = 0
  #table = new Uint32Array(4096)

  get rows(): number {
    return this.#rows
  }

  add(chunk: Chunk): number {
    const row = this.#newRow()
    this.#bytes.set(chunk.digest.subarray(0, DIGEST_SIZE), row * DIGEST_SIZE)
    this.#blob.set(row, chunk.blob)
    this.#index.set(row, chunk.index)
    this.#flags.set(row, chunk.flags)
    this.#compressedSize.set(row, chunk.compressedSize)
    this.#compressedOffset.set(row, chunk.compressedOffset)
    this.#uncompressedSize.set(row, chunk.uncompressedSize)
    this.#uncompressedOffset.set(row, chunk.uncompressedOffset)
    this.#crc.set(row, chunk.crc32)
    this.#window.set(row, chunk.window)
    this.#windowOffset.set(row, chunk.windowOffset)
    this.#note(row)
    return row
  }

  /**
   * A chunk that a builder found, by its digest (`words` from `at` on) and plain facts; where it is stored is said by
   * `setStored`.
   */
  append(
    words: Uint32Array,
    at: number,
    blob: number,
    index: number,
    uncompressedOffset: number,
    uncompressedSize: number,
    crc32: number,
  ): number {
    const row = this.#newRow()
    const start = row * DIGEST_WORDS
    for (let i = 0; i < DIGEST_WORDS; i++) this.#words[start + i] = words[at + i] as number
    this.#blob.set(row, blob)
    this.#index.set(row, index)
    this.#uncompressedOffset.set(row, uncompressedOffset)
    this.#uncompressedSize.set(row, uncompressedSize)
    this.#crc.set(row, crc32)
    this.#note(row)
    return row
  }

  #newRow(): number {
    const row = this.#rows++
    if ((row + 1) * DIGEST_WORDS > this.#words.length) {
      const next = new Uint32Array(this.#words.length + (this.#words.length >>> 1))
      next.set(this.#words)
      this.#words = next
      this.#bytes = new Uint8Array(next.buffer)
    }
    return row
  }

  /** The row of the chunk with this digest (`words` from `at` on) and size, or -1. Chunks of the blob `except` are no answer. */
  find(words: Uint32Array, at: number, size: number, except = -1): number {
    const mask = this.#table.length - 1
    for (let slot = (words[at] as number) & mask; ; slot = (slot + 1) & mask) {
      const row = (this.#table[slot] as number) - 1
      if (row < 0) return -1
      if (
        this.#uncompressedSize.get(row) === size &&
        this.#sameDigest(row, words, at) &&
        this.#blob.get(row) !== except
      )
        return row
    }
  }

  #sameDigest(row: number, words: Uint32Array, at: number): boolean {
    const start = row * DIGEST_WORDS
    for (let i = 0; i < DIGEST_WORDS; i++) if (this.#words[start + i] !== words[at + i]) return false
    return true
  }

  #note(row: number): void {
    if (this.#rows * 2 > this.#table.length) this.#rehash()
    else this.#place(this.#table, row)
  }

  #place(table: Uint32Array, row: number): void {
    const mask = table.length - 1
    let at = (this.#words[row * DIGEST_WORDS] as number) & mask
    while (table[at] !== 0) at = (at + 1) & mask
    table[at] = row + 1
  }

  #rehash(): void {
    this.#table = new Uint32Array(this.#table.length * 2)
    for (let row = 0; row < this.#rows; row++) this.#place(this.#table, row)
  }

  /** Sets where a chunk was stored, once that is known. */
  setStored(row: number, offset: number, size: number, flags: number): void {
    this.#compressedOffset.set(row, offset)
    this.#compressedSize.set(row, size)
    this.#flags.set(row, flags)
  }
  setWindow(row: number, window: number, offset: number): void {
    this.#window.set(row, window)
    this.#windowOffset.set(row, offset)
  }
  setBlob(row: number, blob: number): void {
    this.#blob.set(row, blob)
  }

  digest(row: number): Uint8Array {
    return this.#bytes.subarray(row * DIGEST_SIZE, (row + 1) * DIGEST_SIZE)
  }
  /** Copies a digest to `out[at …]`. */
  copyDigest(row: number, out: Uint8Array, at: number): void {
    const start = row * DIGEST_SIZE
    for (let i = 0; i < DIGEST_SIZE; i++) out[at + i] = this.#bytes[start + i] as number
  }
  /** The same through a view, in words. */
  putDigest(row: number, view: DataView, at: number): void {
    const start = row * DIGEST_WORDS
    for (let i = 0; i < DIGEST_WORDS; i++) view.setUint32(at + 4 * i, this.#words[start + i] as number, true)
  }
  /** The first four bytes of the digest as a number that sorts as they do. */
  digestStart(row: number): number {
    const at = row * DIGEST_SIZE
    const d = this.#bytes
    return (
      (((d[at] ?? 0) << 24) | ((d[at + 1] ?? 0) << 16) | ((d[at + 2] ?? 0) << 8) | (d[at + 3] ?? 0)) >>> 0
    )
  }
  blob(row: number): number {
    return this.#blob.get(row)
  }
  index(row: number): number {
    return this.#index.get(row)
  }
  flags(row: number): number {
    return this.#flags.get(row)
  }
  crc32(row: number): number {
    return this.#crc.get(row)
  }
  compressedOffset(row: number): number {
    return this.#compressedOffset.get(row)
  }
  compressedSize(row: number): number {
    return this.#compressedSize.get(row)
  }
  window(row: number): number {
    return this.#window.getOr0(row)
  }
  windowOffset(row: number): number {
    return this.#windowOffset.getOr0(row)
  }
  uncompressedOffset(row: number): number {
    return this.#uncompressedOffset.get(row)
  }
  uncompressedSize(row: number): number {
    return this.#uncompressedSize.get(row)
  }

  get(row: number): Chunk {
    return {
      digest: this.digest(row),
      blob: this.#blob.get(row),
      index: this.#index.get(row),
      flags: this.#flags.get(row),
      compressedOffset: this.#compressedOffset.get(row),
      compressedSize: this.#compressedSize.get(row),
      uncompressedOffset: this.#uncompressedOffset.get(row),
      uncompressedSize: this.#uncompressedSize.get(row),
      crc32: this.#crc.get(row),
      window: this.#window.getOr0(row),
      windowOffset: this.#windowOffset.getOr0(row),
    }
  }

  /** Entries of all lists. */
  get listedCount(): number {
    return this.#listed
  }
  /** Makes room for a file of `count` chunks; returns where its list starts. */
  startList(count: number): number {
    const start = this.#listed
    this.#listed += count
    if (count > 0) this.#lists.reserve(this.#listed - 1)
    return start
  }
  setListed(at: number, row: number): void {
    this.#lists.set(at, row)
  }
  /** Row of the `at`-th entry of the lists. */
  listed(at: number): number {
    return this.#lists.get(at)
  }
}

/** A digest as `append` and `find` take it. */
export function digestWords(digest: Uint8Array): Uint32Array {
  const words = new Uint32Array(DIGEST_WORDS)
  new Uint8Array(words.buffer).set(digest.subarray(0, DIGEST_SIZE))
  return words
}
