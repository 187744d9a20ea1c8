/**
 * Lays out one blob: takes chunks in their final order, stores each distinct one once, keeps their places.
 *
 *     results of the pool, in order ──> dedup ──> [batch] ──> BlobSink
 *
 * Chunks go to the file in the order in which they are given; a batch that is being filled is flushed before any
 * chunk that does not belong to it (blobs-and-cache.md §3).
 */
import { CHUNK, type Chunks } from './chunks.js'
import type { BlobSink } from './blob-sink.js'
import type { ChunkStore } from './chunker.js'
import type { BlobContent } from './finish-blob.js'
import type { JobPool } from './job-pool.js'
import { RESULT_FLAG, type Slot } from './slot.js'
import { CIPHER_BLOCK, type BlobCipher } from './cipher.js'
import { NydusError } from '../base/errors.js'
import { BLOB_FEATURE } from '../cache/cache.js'
import { BatchWindowV6, V6_MAX_CHUNKS } from '../rafs/layout/v6.js'

export interface BlobLayout {
  /** Each chunk's place in the plain blob is rounded up to this: 4096 (v6, aligned v5) or 1. */
  readonly alignment: number
  /** Bytes of one batch; 0 = no batches. */
  readonly batchSize: number
  /** CRC-32C is kept with each chunk. */
  readonly crc: boolean
  /** Number of the blob whose chunks are not used: data of the image's own shall not need an external blob. */
  readonly except?: number | undefined
}

/** A small chunk that waits for its batch to be full. */
interface Pending {
  readonly row: number
  readonly bytes: Uint8Array
}

/** Takes a copy of all chunks where they lie in the plain blob; only for blobs that are not compressed. */
export interface PlainCopy {
  write(bytes: Uint8Array, uncompressedOffset: number): Promise<void>
}

/** A batch: its stored and plain size. */
export interface BatchWindow {
  readonly compressedSize: number
  readonly uncompressedSize: number
}

export class BlobWriter implements ChunkStore, BlobContent {
  readonly #chunks: Chunks
  readonly #sink: BlobSink
  readonly #pool: JobPool
  readonly #layout: BlobLayout
  readonly #blob: number
  readonly #cipher: BlobCipher | undefined
  readonly #plainCopy: PlainCopy | undefined
  /** Rows of this blob's own chunks, by chunk index. */
  readonly rows: number[] = []
  readonly windows: BatchWindow[] = []
  /** End of the plain blob. */
  uncompressedSize = 0
  /** What deduplication saved: chunks and plain bytes. */
  dedupChunks = 0
  dedupBytes = 0
  #pending: Pending[] = []
  #pendingBytes = 0

  constructor(
    blob: number,
    chunks: Chunks,
    sink: BlobSink,
    pool: JobPool,
    layout: BlobLayout,
    cipher: BlobCipher | undefined,
    plainCopy?: PlainCopy,
  ) {
    this.#blob = blob
    this.#chunks = chunks
    this.#sink = sink
    this.#pool = pool
    this.#layout = layout
    this.#cipher = cipher
    this.#plainCopy = plainCopy
  }

  /** Bytes of chunk data in the blob so far. */
  get compressedSize(): number {
    return this.#sink.offset
  }

  store(done: Slot, listAt: number): Promise<void> {
    const asTheyAre =
      this.#cipher === undefined && this.#plainCopy === undefined && this.#layout.batchSize === 0
    return asTheyAre ? this.#storeRuns(done, listAt) : this.#storeEach(done, listAt)
  }

  /** Chunks whose stored bytes go into the blob as they are: as many at a time as lie one behind the other. */
  async #storeRuns(done: Slot, listAt: number): Promise<void> {
    const chunks = this.#chunks
    const crc = this.#layout.crc ? CHUNK.CRC : 0
    let offset = this.#sink.offset
    let start = 0
    let end = 0
    for (let i = 0; i < done.chunks; i++) {
      const stored = done.storedSize(i)
      let row = this.#known(done, i)
      if (row < 0) {
        row = this.#add(done, i)
        chunks.setStored(
          row,
          offset,
          stored,
          crc | (done.flags(i) & RESULT_FLAG.COMPRESSED ? CHUNK.COMPRESSED : 0),
        )
        offset += stored
      } else {
        if (end > start) await this.#sink.write(done.data.subarray(start, end))
        start = end + stored
      }
      end += stored
      chunks.setListed(listAt + i, row)
    }
    if (end > start) await this.#sink.write(done.data.subarray(start, end))
  }

  /** Chunks that are encrypted, batched or copied, one at a time. */
  async #storeEach(done: Slot, listAt: number): Promise<void> {
    let at = 0
    for (let i = 0; i < done.chunks; i++) {
      const stored = done.storedSize(i)
      const flags = done.flags(i)
      let row = this.#known(done, i)
      if (row < 0) {
        row = this.#add(done, i)
        const bytes = done.data.subarray(at, at + stored)
        await this.#plainCopy?.write(bytes, this.#chunks.uncompressedOffset(row))
        if (flags & RESULT_FLAG.SMALL) await this.#batch(row, bytes)
        else await this.#write(row, bytes, (flags & RESULT_FLAG.COMPRESSED) !== 0)
      }
      this.#chunks.setListed(listAt + i, row)
      at += stored
    }
  }

  /** The row of an equal chunk that is stored already, or -1. */
  #known(done: Slot, i: number): number {
    const plain = done.plainSize(i)
    const row = this.#chunks.find(done.words, done.digestAt(i), plain, this.#layout.except)
    if (row >= 0) {
      this.dedupChunks++
      this.dedupBytes += plain
    }
    return row
  }

  get features(): number {
    return this.windows.length > 0 ? BLOB_FEATURE.BATCH | BLOB_FEATURE.CHUNK_INFO_V2 : 0
  }

  get windowCount(): number {
    return this.windows.length
  }

  windowTable(): Uint8Array {
    const out = new Uint8Array(this.windows.length * BatchWindowV6.size)
    this.windows.forEach((window, i) => BatchWindowV6.write(out, window, i * BatchWindowV6.size))
    return out
  }

  /** A row for chunk `i` of a job. */
  #add(done: Slot, i: number): number {
    const index = this.rows.length
    if (index >= V6_MAX_CHUNKS - 1)
      throw new NydusError(
        'BUILD_TOO_MANY_CHUNKS',
        'EFBIG',
        `the blob would have more than ${V6_MAX_CHUNKS - 1} chunks; use a larger --chunk-size or more layers`,
      )
    const plain = done.plainSize(i)
    const { uncompressedSize } = this
    const row = this.#chunks.append(
      done.words,
      done.digestAt(i),
      this.#blob,
      index,
      uncompressedSize,
      plain,
      done.crc32(i),
    )
    this.rows.push(row)
    const { alignment } = this.#layout
    this.uncompressedSize = uncompressedSize + Math.ceil(plain / alignment) * alignment
    return row
  }

  async #write(row: number, bytes: Uint8Array, compressed: boolean): Promise<void> {
    await this.#flush()
    await this.#put(row, bytes, compressed)
  }

  async #put(row: number, bytes: Uint8Array, compressed: boolean): Promise<void> {
    const offset = this.#sink.offset
    const out = this.#cipher === undefined ? bytes : this.#cipher.encrypt(bytes)
    const flags =
      (compressed ? CHUNK.COMPRESSED : 0) |
      (this.#cipher === undefined ? 0 : CHUNK.ENCRYPTED) |
      (this.#layout.crc ? CHUNK.CRC : 0)
    this.#chunks.setStored(row, offset, out.length, flags)
    await this.#sink.write(out)
  }

  async #batch(row: number, bytes: Uint8Array): Promise<void> {
    if (this.#pendingBytes + bytes.length >= this.#layout.batchSize) await this.#flush()
    // A copy: the job's buffer is large and shall not live as long as the batch.
    this.#pending.push({ row, bytes: bytes.slice() })
    this.#pendingBytes += bytes.length
  }

  async #flush(): Promise<void> {
    if (this.#pending.length === 0) return
    const pending = this.#pending
    const size = this.#pendingBytes
    this.#pending = []
    this.#pendingBytes = 0
    const slot = this.#pool.take()
    const plain = slot.addBytes(size, size)
    let at = 0
    for (const { bytes } of pending) {
      plain.set(bytes, at)
      at += bytes.length
    }
    const done = await this.#pool.run(slot, 'batch')
    const data = done.data.subarray(0, done.storedSize(0))
    // A window tells its size before encryption, so one that encryption pads could not be read: its chunks go alone.
    if (this.#cipher !== undefined && data.length < CIPHER_BLOCK)
      for (const { row, bytes } of pending) await this.#put(row, bytes, false)
    else await this.#window(pending, data, size)
    this.#pool.release(done)
  }

  async #window(pending: readonly Pending[], data: Uint8Array, size: number): Promise<void> {
    let at = 0
    for (const { row, bytes } of pending) {
      this.#chunks.setStored(
        row,
        this.#sink.offset,
        0,
        CHUNK.COMPRESSED |
          CHUNK.BATCH |
          (this.#cipher === undefined ? 0 : CHUNK.ENCRYPTED) |
          (this.#layout.crc ? CHUNK.CRC : 0),
      )
      this.#chunks.setWindow(row, this.windows.length, at)
      at += bytes.length
    }
    this.windows.push({ compressedSize: data.length, uncompressedSize: size })
    await this.#sink.write(this.#cipher === undefined ? data : this.#cipher.encrypt(data))
  }

  async finish(): Promise<void> {
    await this.#flush()
  }
}
