/**
 * Brings file content into a blob: cuts it into parts, keeps the Workers busy with them, stores their results in the
 * order in which the files were given. Bounded: so many jobs are under way, each of about JOB_BYTES, and no more.
 */
import type { Chunks } from './chunks.js'
import { packParts, type Done, type FilePart } from './job.js'
import type { Tree } from './tree.js'
import type { WorkerPool } from './worker-pool.js'

/** Plain bytes of a job: enough to make its two messages cheap, little enough to spread over the cores. */
const JOB_BYTES = 2 << 20
const JOB_PARTS = 256

interface Part {
  readonly listAt: number
  readonly chunks: number
  readonly single: boolean
}

/** Who takes the chunks of a job, in order, and finds them a place. */
export interface ChunkStore {
  /**
   * Takes the chunks of one part (those from `first` on, `count` of them; stored bytes from `dataAt` on) and notes
   * their rows from `listAt` on. `single`: the file is no larger than a chunk. Returns where the next part's bytes start.
   */
  store(done: Done, first: number, count: number, dataAt: number, single: boolean, listAt: number): Promise<number>
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
  readonly #pool: WorkerPool
  readonly #writer: ChunkStore
  readonly #chunkSize: number
  /** Whole chunks, so that a part never cuts one. */
  readonly #partSize: number
  readonly #progress: Progress
  readonly #running: { readonly parts: readonly Part[]; readonly done: Promise<Done>; readonly bytes: number }[] = []
  #parts: Part[] = []
  #files: FilePart[] = []
  #pieces: Uint8Array[] = []
  #fileSizes: number[] = []
  #bytes = 0

  constructor(tree: Tree, chunks: Chunks, pool: WorkerPool, writer: ChunkStore, chunkSize: number, progress: Progress) {
    this.#tree = tree
    this.#chunks = chunks
    this.#pool = pool
    this.#writer = writer
    this.#chunkSize = chunkSize
    this.#partSize = Math.max(1, Math.floor(JOB_BYTES / chunkSize)) * chunkSize
    this.#progress = progress
  }

  /** A file that a Worker can read by its path. */
  async addFile(node: number, path: Uint8Array): Promise<void> {
    const { size, mtime, mtimeNs } = this.#tree.stat(node)
    const list = this.#startFile(node, size)
    for (let offset = 0; offset < size; offset += this.#partSize) {
      const length = Math.min(this.#partSize, size - offset)
      this.#files.push({ path, offset, length, fileSize: size, mtime, mtimeNs })
      await this.#added(list, offset, length, size)
    }
  }

  /** A file whose content comes in a stream: `read` fills a buffer with its next bytes. */
  async addStream(node: number, size: number, read: (into: Uint8Array) => Promise<number>): Promise<void> {
    const list = this.#startFile(node, size)
    for (let offset = 0; offset < size; offset += this.#partSize) {
      const piece = new Uint8Array(Math.min(this.#partSize, size - offset))
      await read(piece)
      this.#pieces.push(piece)
      this.#fileSizes.push(size)
      await this.#added(list, offset, piece.length, size)
    }
  }

  /** Waits until everything that was added is in the blob, but for a batch that is not full. */
  async settle(): Promise<void> {
    await this.#dispatch()
    while (this.#running.length > 0) await this.#storeOldest()
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

  async #added(list: number, offset: number, length: number, fileSize: number): Promise<void> {
    this.#parts.push({
      listAt: list + offset / this.#chunkSize,
      chunks: Math.ceil(length / this.#chunkSize),
      single: fileSize <= this.#chunkSize,
    })
    this.#bytes += length
    if (this.#bytes >= JOB_BYTES || this.#parts.length >= JOB_PARTS) await this.#dispatch()
  }

  async #dispatch(): Promise<void> {
    if (this.#parts.length === 0) return
    const done =
      this.#files.length > 0
        ? this.#pool.run({ kind: 'files', parts: packParts(this.#files) })
        : this.#pool.run({
            kind: 'bytes',
            bytes: this.#pieces.length === 1 ? (this.#pieces[0] as Uint8Array) : joined(this.#pieces, this.#bytes),
            lengths: this.#pieces.map(piece => piece.length),
            fileSizes: this.#fileSizes,
          })
    // Its failure is met when its turn comes; until then nobody waits for it.
    done.catch(() => undefined)
    this.#running.push({ parts: this.#parts, done, bytes: this.#bytes })
    this.#parts = []
    this.#files = []
    this.#pieces = []
    this.#fileSizes = []
    this.#bytes = 0
    while (this.#running.length >= this.#pool.depth) await this.#storeOldest()
  }

  async #storeOldest(): Promise<void> {
    const job = this.#running.shift()
    if (job === undefined) return
    const done = await job.done
    let first = 0
    let at = 0
    for (const part of job.parts) {
      at = await this.#writer.store(done, first, part.chunks, at, part.single, part.listAt)
      first += part.chunks
    }
    this.#progress.stored(job.parts.length, job.bytes)
  }
}

/** One buffer of its own (not of Node's pool: it will be transferred). */
function joined(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const all = new Uint8Array(length)
  let at = 0
  for (const piece of pieces) {
    all.set(piece, at)
    at += piece.length
  }
  return all
}
