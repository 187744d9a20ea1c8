/**
 * Brings file content into a blob: cuts it into parts, keeps the pool busy with them (JobQueue), has their chunks stored
 * in the order in which the files were given.
 */
import type { Chunks } from './chunks.js'
import type { JobPool } from './job-pool.js'
import { JobQueue } from './job-queue.js'
import type { FoundFile, Slot } from './slot.js'
import type { Tree } from './tree.js'

/** Who takes the chunks of a job, in order, and finds them a place. */
export interface ChunkStore {
  /** Takes all chunks of a job and notes their rows from `listAt` on. */
  store(done: Slot, listAt: number): Promise<void>
  /** Stores what is still held back. */
  finish(): Promise<void>
}

export interface Progress {
  /** Called as content is stored: files that are complete, and plain bytes. */
  stored(files: number, bytes: number): void
}

export class Chunker {
  readonly #tree: Tree
  readonly #chunks: Chunks
  readonly #pool: JobPool
  readonly #writer: ChunkStore
  readonly #chunkSize: number
  /** Each with the row where the lists of its chunks start. */
  readonly #jobs: JobQueue<number>
  /** Of the job that is being filled; the lists of its chunks follow each other from `#listAt` to `#listEnd`. */
  #kind: 'files' | 'bytes' = 'files'
  #listAt = 0
  #listEnd = 0

  constructor(
    tree: Tree,
    chunks: Chunks,
    pool: JobPool,
    writer: ChunkStore,
    chunkSize: number,
    progress: Progress,
  ) {
    this.#tree = tree
    this.#chunks = chunks
    this.#pool = pool
    this.#writer = writer
    this.#chunkSize = chunkSize
    this.#jobs = new JobQueue(pool, async (done, listAt) => {
      await writer.store(done, listAt)
      progress.stored(done.parts, done.bytes)
    })
  }

  /**
   * A file of `folder`, a path on disk, that the pool can read. Calls for one folder give the same object. Returns a
   * promise when the caller has to wait before it adds more; a small file seldom has to, and there may be millions.
   */
  addFile(node: number, folder: Uint8Array): Promise<void> | undefined {
    const file = this.#tree.stat(node)
    const list = this.#startFile(node, file.size)
    const pathBytes = folder.length + this.#tree.nameLength(node)
    if (file.size > this.#pool.partSize || !this.#fits(list, file.size, pathBytes))
      return this.#addParts(node, folder, file, list)
    this.#addPart(node, folder, file, list, 0, file.size)
    return undefined
  }

  async #addParts(node: number, folder: Uint8Array, file: FoundFile, list: number): Promise<void> {
    const pathBytes = folder.length + this.#tree.nameLength(node)
    for (let offset = 0; offset < file.size; offset += this.#pool.partSize) {
      const length = Math.min(this.#pool.partSize, file.size - offset)
      const listAt = list + offset / this.#chunkSize
      if (!this.#fits(listAt, length, pathBytes)) await this.#dispatch()
      this.#addPart(node, folder, file, listAt, offset, length)
    }
  }

  #addPart(
    node: number,
    folder: Uint8Array,
    file: FoundFile,
    list: number,
    offset: number,
    length: number,
  ): void {
    const tree = this.#tree
    this.#willList(list, length)
    this.#kind = 'files'
    this.#jobs.slot.addFile(
      folder,
      tree.names.bytes,
      tree.nameOffset(node),
      tree.nameLength(node),
      offset,
      length,
      file,
    )
  }

  /** A file whose content comes in a stream: `read` fills a buffer with its next bytes. */
  async addStream(node: number, size: number, read: (into: Uint8Array) => Promise<number>): Promise<void> {
    const list = this.#startFile(node, size)
    for (let offset = 0; offset < size; offset += this.#pool.partSize) {
      const length = Math.min(this.#pool.partSize, size - offset)
      const listAt = list + offset / this.#chunkSize
      if (!this.#fits(listAt, length, 0)) await this.#dispatch()
      this.#willList(listAt, length)
      this.#kind = 'bytes'
      await read(this.#jobs.slot.addBytes(length, size))
    }
  }

  /** Waits until everything that was added is in the blob, but for a batch that is not full. */
  async settle(): Promise<void> {
    await this.#dispatch()
    await this.#jobs.settle()
  }

  async finish(): Promise<void> {
    await this.settle()
    await this.#writer.finish()
  }

  #startFile(node: number, size: number): number {
    const count = Math.ceil(size / this.#chunkSize)
    const list = this.#chunks.startList(count)
    this.#tree.setChunks(node, list, count)
    return list
  }

  #fits(list: number, length: number, pathBytes: number): boolean {
    // Another chunker over the same rows may have listed some in between.
    const follows = list === this.#listEnd || this.#jobs.slot.parts === 0
    return follows && this.#jobs.fits(length, pathBytes)
  }

  #willList(list: number, length: number): void {
    if (this.#jobs.slot.parts === 0) this.#listAt = list
    this.#listEnd = list + Math.ceil(length / this.#chunkSize)
  }

  #dispatch(): Promise<void> {
    return this.#jobs.dispatch(this.#kind, this.#listAt)
  }
}
