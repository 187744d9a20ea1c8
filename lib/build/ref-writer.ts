/**
 * Lays out a blob that is somebody else's file, a tar or tar.gz: nothing is stored, each distinct chunk gets the
 * place where the file has it.
 *
 *     results of the pool, in order, and the places noted when the file was read ──> dedup ──> chunk rows
 */
import { NydusError } from '../base/errors.js'
import { BLOB_FEATURE } from '../cache/cache.js'
import { V6_BLOCK_SIZE, V6_MAX_CHUNKS } from '../rafs/layout/v6.js'
import type { ChunkStore } from './chunker.js'
import { CHUNK, type Chunks } from './chunks.js'
import type { BlobContent } from './finish-blob.js'
import type { Slot } from './slot.js'
import type { TarEntry } from './tar-reader.js'
import type { ZranWindows } from './zran-windows.js'

/** Where a chunk lies: bytes `start … end` of the file; in a gzip file also its window, and where in that one's output. */
export interface RefPlace {
  readonly start: number
  readonly end: number
  readonly window?: number
  readonly offset?: number
  /** A gzip member of its own, which `end` is not before the end of. */
  readonly packed?: boolean
}

export class RefWriter implements ChunkStore, BlobContent {
  readonly #chunks: Chunks
  readonly #windows: ZranWindows | undefined
  readonly #blob: number
  readonly rows: number[] = []
  uncompressedSize = 0
  foreign: { id: string; size: number } = { id: '', size: 0 }
  /** What deduplication saved: chunks and plain bytes. */
  dedupChunks = 0
  dedupBytes = 0
  #places: RefPlace[] = []
  #taken = 0

  /** `windows` for a gzip file; without, the file is the plain tar. `blob`: the blob's number among the chunk rows. */
  constructor(chunks: Chunks, windows: ZranWindows | undefined, blob: number) {
    this.#blob = blob
    this.#chunks = chunks
    this.#windows = windows
  }

  get features(): number {
    return (
      BLOB_FEATURE.SEPARATE |
      BLOB_FEATURE.CHUNK_INFO_V2 |
      (this.#windows === undefined ? 0 : BLOB_FEATURE.ZRAN)
    )
  }

  get windowCount(): number {
    return this.#windows?.count ?? 0
  }

  windowTable(): Uint8Array {
    return this.#windows?.table() ?? new Uint8Array(0)
  }

  /** Where the next chunk that is read lies; called for each, in the order in which `store` gets them. */
  note(place: RefPlace): void {
    this.#places.push(place)
  }

  store(done: Slot, listAt: number): Promise<void> {
    for (let i = 0; i < done.chunks; i++) {
      // In the chunk information of a plain tar a CRC would stop readers of 2.2, which refuse flags that they do not know.
      const crc32 = this.#windows === undefined ? undefined : done.crc32(i)
      const row = this.add(done.words, done.digestAt(i), done.plainSize(i), this.#nextPlace(), crc32)
      this.#chunks.setListed(listAt + i, row)
    }
    return Promise.resolve()
  }

  /** A chunk with a digest (`words` from `at` on) of `size` plain bytes at `place`; returns the row that stands for it. */
  add(words: Uint32Array, at: number, size: number, place: RefPlace, crc32?: number): number {
    const known = this.#chunks.find(words, at, size)
    if (known >= 0) {
      this.dedupChunks++
      this.dedupBytes += size
      return known
    }
    const index = this.rows.length
    if (index >= V6_MAX_CHUNKS - 1)
      throw new NydusError(
        'BUILD_TOO_MANY_CHUNKS',
        'EFBIG',
        `the layer would have more than ${V6_MAX_CHUNKS - 1} chunks; use a larger --chunk-size`,
      )
    const row = this.#chunks.append(words, at, this.#blob, index, this.uncompressedSize, size, crc32 ?? 0)
    this.#chunks.setStored(
      row,
      place.start,
      place.end - place.start,
      (crc32 === undefined ? 0 : CHUNK.CRC) |
        (place.window === undefined ? 0 : CHUNK.ZRAN | CHUNK.COMPRESSED) |
        (place.packed === true ? CHUNK.COMPRESSED : 0),
    )
    this.#chunks.setWindow(row, place.window ?? 0, place.offset ?? 0)
    this.rows.push(row)
    this.uncompressedSize += Math.ceil(size / V6_BLOCK_SIZE) * V6_BLOCK_SIZE
    return row
  }

  #nextPlace(): RefPlace {
    const place = this.#places[this.#taken++]
    if (place === undefined) throw new Error('a chunk was stored whose place was not noted')
    if (this.#taken > 1024) {
      this.#places.splice(0, this.#taken)
      this.#taken = 0
    }
    return place
  }

  /** Readers take no more windows than chunks: those go in which all chunks are copies of earlier ones. */
  finish(): Promise<void> {
    if (this.windowCount > this.rows.length) {
      const used = new Map<number, number>()
      for (const row of this.rows) {
        const { window, windowOffset } = this.#chunks.get(row)
        const kept = used.get(window) ?? used.size
        used.set(window, kept)
        this.#chunks.setWindow(row, kept, windowOffset)
      }
      this.#windows?.keep([...used.keys()])
    }
    return Promise.resolve()
  }
}

/** What is not in the archive cannot be referred to. `source` is the archive. */
export function refuseSparse(entry: TarEntry, source: string): void {
  if (!entry.sparse) return
  throw new NydusError(
    'BUILD_SPARSE',
    'EINVAL',
    `${source}: '${entry.path.toString()}' (header at byte ${entry.headerOffset}) is a sparse file: its holes are not in the archive, ` +
      'an image cannot refer to them; use --type targz-rafs',
  )
}
