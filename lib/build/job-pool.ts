/**
 * The build's threads: take jobs in slots, keep every core busy, answer each job with a promise. They read, cut, digest
 * and compress; what becomes of the chunks is the build's to say.
 *
 *     build (order, dedup, layout) ── slot ──> thread (read, cut, digest, compress) ── slot ──> build
 */
import { availableParallelism } from 'node:os'
import type { Compressor, Digester } from '../cache/cache.js'
import { NydusError } from '../base/errors.js'
import { DIGESTER_NUMBER, native, type JobPool as NativePool } from '../native.js'
import { ZSTD_LEVEL } from './compress.js'
import { Slot, type SlotLimits } from './slot.js'

export interface PoolSettings {
  readonly compressor: Compressor
  readonly digester: Digester
  readonly chunkSize: number
  /** Files of one chunk and less than this are left uncompressed, to go into a batch; 0 = none. */
  readonly batchLimit: number
  /** Only digests are wanted: no data comes back. */
  readonly discard?: boolean
}

/** Plain bytes of a job: enough to make its hand-over cheap, little enough to spread over the cores. */
export const JOB_BYTES = 2 << 20
const JOB_PARTS = 256
/** Of folders and names; more than any one path has. */
const JOB_PATHS = 64 << 10
const MAX_THREADS = 8

const COMPRESSORS: Readonly<Record<string, number>> = { none: 0, lz4_block: 1, zstd: 2 }
const KINDS = { files: 0, bytes: 1, batch: 2 } as const

interface Waiting {
  readonly resolve: (slot: Slot) => void
  readonly reject: (error: Error) => void
}

export class JobPool {
  readonly #native: NativePool
  readonly #free: Slot[] = []
  readonly #slots: readonly Slot[]
  readonly #waiting: (Waiting | undefined)[] = []
  /** Jobs that may be under way: four for each thread, so that none waits while the first in order is stored. */
  readonly depth: number
  /** Whole chunks, so that a part never cuts one: bytes of a part at most. */
  readonly partSize: number

  constructor(settings: PoolSettings, threads = Math.max(1, Math.min(MAX_THREADS, availableParallelism()))) {
    const compressor = COMPRESSORS[settings.compressor]
    if (compressor === undefined)
      throw new NydusError(
        'BUILD_COMPRESSOR',
        'EINVAL',
        `${settings.compressor} is read, not written: use zstd or lz4_block`,
      )
    this.depth = threads * 4
    this.partSize = Math.max(1, Math.floor(JOB_BYTES / settings.chunkSize)) * settings.chunkSize
    const limits: SlotLimits = {
      parts: JOB_PARTS,
      // A batch is a job of its own, and smaller than two limits.
      bytes: Math.max(JOB_BYTES + this.partSize, settings.batchLimit * 2),
      paths: JOB_PATHS,
    }
    // Of two chunkers (an external blob has its own) those under way and one that is being filled; one for a batch. What is
    // not used takes no memory.
    const slots = 2 * this.depth + 1
    this.#native = native.createJobPool(
      {
        ...limits,
        threads,
        slots,
        compressor,
        level: ZSTD_LEVEL,
        digester: DIGESTER_NUMBER[settings.digester],
        chunkSize: settings.chunkSize,
        batchLimit: settings.batchLimit,
        discard: settings.discard === true,
      },
      (slot, chunks, part, foundSize, error) => {
        this.#done(slot, chunks, part, foundSize, error)
      },
    )
    this.#slots = Array.from({ length: slots }, (_, i) => new Slot(i, limits, this.#native.memory(i)))
    this.#free.push(...this.#slots)
  }

  /** An empty slot. No more than `depth` may be under way when one is taken. */
  take(): Slot {
    const slot = this.#free.pop()
    if (slot === undefined) throw new Error('more slots are in use than there are jobs under way')
    slot.clear()
    return slot
  }

  /** Gives a slot back when its chunks are stored. */
  release(slot: Slot): void {
    this.#free.push(slot)
  }

  /**
   * Runs what was added to the slot: parts of `files`, or `bytes`; a `batch` is one part that is only compressed. Throws
   * BUILD_SOURCE_UNREADABLE, BUILD_SOURCE_CHANGED.
   */
  run(slot: Slot, kind: keyof typeof KINDS): Promise<Slot> {
    return new Promise((resolve, reject) => {
      this.#waiting[slot.index] = { resolve, reject }
      this.#native.submit(slot.index, KINDS[kind], slot.parts)
    })
  }

  #done(index: number, chunks: number, part: number | undefined, foundSize = 0, error?: NydusError): void {
    const slot = this.#slots[index]
    const waiting = this.#waiting[index]
    this.#waiting[index] = undefined
    if (slot === undefined || waiting === undefined) return
    slot.chunks = chunks
    if (part === undefined) waiting.resolve(slot)
    else waiting.reject(slot.failure(part, foundSize, error))
  }

  /** Ends the threads; jobs under way are never answered. */
  close(): void {
    this.#native.close()
  }
}
