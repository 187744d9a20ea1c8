/**
 * Lays out one blob: takes chunks in their final order, stores each distinct one once, keeps their places.
 *
 *     results of the Workers, in order ──> dedup ──> [batch] ──> BlobSink
 *
 * Chunks go to the file in the order in which they are given; a batch that is being filled is flushed before any
 * chunk that does not belong to it (blobs-and-cache.md §3).
 */
import { CHUNK, type Chunks, DIGEST_SIZE } from './chunks.js'
import type { BlobSink } from './blob-sink.js'
import type { ChunkStore } from './chunker.js'
import type { BlobContent } from './finish-blob.js'
import type { Done } from './job.js'
import type { WorkerPool } from './worker-pool.js'
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
  readonly #pool: WorkerPool
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
    pool: WorkerPool,
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

  async store(done: Done, first: number, count: number, dataAt: number, single: boolean, listAt: number): Promise<number> {
    let at = dataAt
    for (let i = first; i < first + count; i++) {
      const stored = done.storedSizes[i] ?? 0
      const plain = done.plainSizes[i] ?? 0
      const digest = done.digests.subarray(i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE)
      let row = this.#chunks.find(digest, plain, this.#layout.except)
      if (row >= 0) {
        this.dedupChunks++
        this.dedupBytes += plain
      } else {
        row = this.#add(digest, plain, done.crcs[i] ?? 0)
        const bytes = done.data.subarray(at, at + stored)
        await this.#plainCopy?.write(bytes, this.#chunks.uncompressedOffset(row))
        if (single && plain < this.#layout.batchSize / 2) await this.#batch(row, bytes)
        else await this.#write(row, bytes, done.compressed[i] === 1)
      }
      this.#chunks.setListed(listAt + i - first, row)
      at += stored
    }
    return at
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

  #add(digest: Uint8Array, plain: number, crc32: number): number {
    if (this.rows.length >= V6_MAX_CHUNKS - 1)
      throw new NydusError(
        'BUILD_TOO_MANY_CHUNKS',
        'EFBIG',
        `the blob would have more than ${V6_MAX_CHUNKS - 1} chunks; use a larger --chunk-size or more layers`,
      )
    const row = this.#chunks.add({
      digest,
      blob: this.#blob,
      index: this.rows.length,
      flags: 0,
      compressedOffset: 0,
      compressedSize: 0,
      uncompressedOffset: this.uncompressedSize,
      uncompressedSize: plain,
      crc32,
      window: 0,
      windowOffset: 0,
    })
    this.rows.push(row)
    const { alignment } = this.#layout
    this.uncompressedSize += Math.ceil(plain / alignment) * alignment
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
    const plain = new Uint8Array(size)
    let at = 0
    for (const { bytes } of pending) {
      plain.set(bytes, at)
      at += bytes.length
    }
    const done = await this.#pool.run({ kind: 'batch', bytes: plain })
    // A window tells its size before encryption, so one that encryption pads could not be read: its chunks go alone.
    if (this.#cipher !== undefined && done.data.length < CIPHER_BLOCK)
      for (const { row, bytes } of pending) await this.#put(row, bytes, false)
    else await this.#window(pending, done.data, size)
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
