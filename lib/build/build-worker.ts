/** Worker of the build: reads, splits, digests and compresses; all of it synchronous, this thread does nothing else. */
import { parentPort, workerData } from 'node:worker_threads'
import { crc32c } from '@node-rs/crc32'
import { digestOf } from '../base/digest.js'
import { NydusError, explain } from '../base/errors.js'
import { readUnchanged } from './read-part.js'
import { compressInto, compressBound } from './compress.js'
import { unpackParts, type Done, type Failed, type FilePart, type Job, type WorkerOptions } from './job.js'

const port = parentPort
if (port === null) throw new Error('build-worker runs in a Worker only')
const options = workerData as WorkerOptions

class Output {
  readonly counts: number[] = []
  readonly digests: Uint8Array[] = []
  readonly crcs: number[] = []
  readonly plain: number[] = []
  readonly stored: number[] = []
  readonly compressed: number[] = []
  #data = new Uint8Array(0)
  #used = 0

  /** Room for what is to come, so that the buffer grows once. */
  reserve(bytes: number): void {
    if (this.#used + bytes <= this.#data.length) return
    const next = new Uint8Array(this.#used + bytes)
    next.set(this.#data.subarray(0, this.#used))
    this.#data = next
  }

  store(bytes: Uint8Array, compress: boolean): void {
    if (options.discard === true) {
      this.plain.push(bytes.length)
      this.stored.push(0)
      this.compressed.push(0)
      return
    }
    this.reserve(Math.max(bytes.length, compress ? compressBound(options.compressor, bytes.length) : 0))
    const room = this.#data.subarray(this.#used)
    const size = compress ? compressInto(options.compressor, bytes, room) : 0
    // What does not shrink is stored as it is (blobs-and-cache.md §2).
    const kept = size > 0 && size < bytes.length
    if (!kept) room.set(bytes)
    this.#used += kept ? size : bytes.length
    this.plain.push(bytes.length)
    this.stored.push(kept ? size : bytes.length)
    this.compressed.push(kept ? 1 : 0)
  }

  chunk(bytes: Uint8Array, compress: boolean): void {
    this.digests.push(digestOf(options.digester, bytes))
    this.crcs.push(crc32c(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)))
    this.store(bytes, compress)
  }

  chunks(bytes: Uint8Array, single: boolean): void {
    const compress = options.compressor !== 'none' && !(single && bytes.length < options.batchLimit)
    let count = 0
    for (let at = 0; at < bytes.length; at += options.chunkSize, count++)
      this.chunk(bytes.subarray(at, Math.min(bytes.length, at + options.chunkSize)), compress)
    this.counts.push(count)
  }

  done(id: number): Done {
    return {
      id,
      counts: Uint32Array.from(this.counts),
      digests: Buffer.concat(this.digests),
      crcs: Uint32Array.from(this.crcs),
      plainSizes: Uint32Array.from(this.plain),
      storedSizes: Uint32Array.from(this.stored),
      compressed: Uint8Array.from(this.compressed),
      data: this.#data.slice(0, this.#used),
    }
  }
}

let scratch = new Uint8Array(1 << 20)
function readPart(part: FilePart): Uint8Array {
  if (scratch.length < part.length) scratch = new Uint8Array(part.length)
  const into = scratch.subarray(0, part.length)
  readUnchanged(part, into)
  return into
}

function run(job: Job): Done {
  const out = new Output()
  if (job.kind === 'files') {
    const parts = [...unpackParts(job.parts)]
    out.reserve(parts.reduce((sum, part) => sum + part.length, 0))
    for (const part of parts) out.chunks(readPart(part), part.fileSize <= options.chunkSize)
  } else if (job.kind === 'bytes') {
    if (options.discard !== true) out.reserve(job.bytes.length)
    let at = 0
    job.lengths.forEach((length, i) => {
      out.chunks(job.bytes.subarray(at, at + length), (job.fileSizes[i] ?? 0) <= options.chunkSize)
      at += length
    })
  } else {
    out.store(job.bytes, options.compressor !== 'none')
    out.counts.push(1)
  }
  return out.done(job.id)
}

port.on('message', (job: Job) => {
  try {
    const done = run(job)
    port.postMessage(done, [done.data.buffer as ArrayBuffer])
  } catch (error) {
    const failed: Failed = {
      id: job.id,
      code: error instanceof NydusError ? error.code : 'BUILD_WORKER',
      message: explain(error),
    }
    port.postMessage(failed)
  }
})
