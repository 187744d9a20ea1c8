/**
 * A blob as one user of the cache reads it: its backend, its settings. Carries out the requests that the backend's
 * queue put together.
 *
 *     jobs of one request ── backend read ── chunk Worker ──> data file or temporary pool, ready bits, waiters
 */
import type { Backend, BlobReader } from '../backend/backend.js'
import { NydusError } from '../base/errors.js'
import type { BlobStore } from './blob-store.js'
import type { CacheServices } from './services.js'
import type { FetchQueue, QueueLane } from './fetch-queue.js'
import { Job, type Outcome } from './job.js'
import type { MemberResult, MemberTask, UnitTask, WorkerReply } from './worker-protocol.js'

/** Largest hole that is read along to save a request; only with amplification, which asks for such a trade. */
const MAX_GAP = 32 << 10

/** Bytes [start, end) of a blob, at the front of `buffer`. */
interface Stored {
  readonly buffer: ArrayBuffer
  readonly start: number
  readonly end: number
}

export interface LaneOptions {
  readonly amplify: number
  readonly digestOf: ((index: number) => Uint8Array | undefined) | undefined
}

export class BlobLane implements QueueLane {
  readonly store: BlobStore
  readonly queue: FetchQueue
  readonly reader: BlobReader
  /** Reader of the blob that holds the chunk table. */
  readonly metaReader: BlobReader
  readonly amplify: number
  readonly maxGap: number
  /** The image knows the digests of its chunks. */
  readonly knowsDigests: boolean
  readonly digestOf: (index: number) => Uint8Array | undefined
  readonly #services: CacheServices
  readonly #running = new Set<Promise<void>>()

  constructor(
    store: BlobStore,
    backend: Backend,
    queue: FetchQueue,
    services: CacheServices,
    options: LaneOptions,
  ) {
    this.store = store
    this.queue = queue
    this.#services = services
    this.reader = backend.open(store.info.id)
    const meta = store.info.metaBlobId
    this.metaReader = meta === undefined ? this.reader : backend.open(meta)
    this.amplify = options.amplify
    this.maxGap = Math.min(MAX_GAP, options.amplify >> 3)
    this.knowsDigests = options.digestOf !== undefined
    this.digestOf = options.digestOf ?? (index => store.digests?.of(index))
  }

  riders(last: Job, room: number): readonly Job[] {
    return this.store.riders(last, room)
  }

  async run(jobs: readonly Job[], signal: AbortSignal, onRead: () => void): Promise<void> {
    const work = this.#run(jobs, signal, onRead)
    this.#running.add(work)
    await work
    this.#running.delete(work)
  }

  /** Ends when nothing that this lane started is under way; then closes its readers. */
  async close(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running)
    await this.reader.close()
    if (this.metaReader !== this.reader) await this.metaReader.close()
  }

  async #run(jobs: readonly Job[], signal: AbortSignal, onRead: () => void): Promise<void> {
    const cold = jobs.filter(job => !this.#alreadyThere(job))
    if (cold.length === 0) return
    try {
      const bytes = await this.#read(cold, signal)
      onRead()
      await this.#decode(cold, bytes)
    } catch (error) {
      for (const job of cold) this.store.end(job, () => job.fail(error))
    }
  }

  /** Another daemon may have stored it while the job waited. */
  #alreadyThere(job: Job): boolean {
    const { store } = this
    const there =
      job.entry === undefined &&
      !job.fresh &&
      !store.validates &&
      job.wanted.size > 0 &&
      [...job.wanted.keys()].every(at => store.isMemberStored(job.unit, at))
    if (there) store.end(job, () => job.succeed({ bad: new Map() }))
    return there
  }

  async #read(jobs: readonly Job[], signal: AbortSignal): Promise<Stored> {
    const first = jobs[0]
    const start = Math.min(...jobs.map(job => job.offset))
    let end = Math.max(...jobs.map(job => job.offset + job.size))
    for (const job of jobs) job.ranAs = job.priority
    const options = {
      signal,
      priority: jobs.some(job => job.priority === 'demand') ? 'demand' : 'prefetch',
      fresh: first?.fresh === true,
    } as const
    if (first?.unit.open === true) end = Math.min(end, await this.reader.size(options))
    if (end <= start)
      throw new NydusError('BACKEND_SHORT_READ', 'EIO', `blob ${this.store.info.id} ends before ${start}`)
    const buffer = this.#services.buffers.take(end - start)
    await this.reader.read(new Uint8Array(buffer, 0, end - start), start, options)
    return { buffer, start, end }
  }

  async #decode(jobs: readonly Job[], bytes: Stored): Promise<void> {
    const { buffer } = bytes
    const ordered = [...jobs.filter(job => job.waiters > 0), ...jobs.filter(job => job.waiters === 0)]
    const urgent = jobs.filter(job => job.waiters > 0).length
    for (const job of ordered) job.validate = this.store.validates
    const members = ordered.map(job => this.#membersOf(job))
    const units = ordered.map((job, i) => this.#task(job, members[i] ?? [], bytes))
    const settle = (reply: WorkerReply): void => {
      for (const [i, results] of (reply.results ?? []).entries()) {
        const at = (reply.first ?? 0) + i
        const job = ordered[at]
        if (job !== undefined) this.#settle(job, members[at] ?? [], results)
      }
    }
    const coding = this.store.coding
    const reply = await this.#services.workers.run(
      { kind: 'chunks', coding, buffer, urgent, units },
      [buffer],
      settle,
    )
    settle(reply)
    if (reply.buffer !== undefined) this.#services.buffers.give(reply.buffer)
  }

  /** Members to check (and store): with validation only those of which it is known what they must be. */
  #membersOf(job: Job): readonly number[] {
    const all = job.unit.members.map((_, at) => at)
    if (job.entry !== undefined) return all
    return all.filter(at => {
      if (job.wanted.has(at)) return true
      return this.store.isMemberStored(job.unit, at)
        ? false
        : !job.validate || this.#digest(job, at) !== undefined
    })
  }

  #digest(job: Job, at: number): Uint8Array | undefined {
    const index = job.unit.members[at]?.index ?? -1
    return job.wanted.get(at) ?? (index < 0 ? undefined : this.digestOf(index))
  }

  #task(job: Job, members: readonly number[], stored: Stored): UnitTask {
    const { unit, entry } = job
    const { data } = this.store
    const tasks = members.flatMap((at): MemberTask[] => {
      const member = unit.members[at]
      if (member === undefined) return []
      // A CRC is enough where nobody asked for validation. Digests are copied: they may be views of a mapping.
      const digest = job.validate || member.crc32 === undefined ? this.#digest(job, at)?.slice() : undefined
      return [
        {
          at: member.at,
          size: member.size,
          ...(digest !== undefined && { digest }),
          ...(member.crc32 !== undefined && { crc32: member.crc32 }),
          ...(entry === undefined && { position: member.uncompressedOffset }),
        },
      ]
    })
    return {
      start: unit.offset - stored.start,
      size: Math.min(unit.size, stored.end - unit.offset),
      compressed: unit.compressed,
      encrypted: unit.encrypted,
      outputSize: unit.outputSize,
      ...(unit.zran !== undefined && { zran: unit.zran }),
      members: tasks,
      fd: entry === undefined ? data : this.#services.pool.file.fd,
      ...(entry !== undefined && { position: entry.offset }),
    }
  }

  #settle(job: Job, members: readonly number[], results: readonly MemberResult[]): void {
    const { store } = this
    const bad = new Map<number, NydusError>()
    const unverified = new Set<number>()
    for (const [i, at] of members.entries()) {
      const result = results[i]
      if (result !== undefined) bad.set(at, store.failure(job.unit, at, result))
      else if (job.entry === undefined) store.stored(job.unit, at, job.validate)
      else if (job.validate && !job.wanted.has(at) && this.#digest(job, at) === undefined) unverified.add(at)
    }
    if (job.entry !== undefined) {
      job.entry.bad = new Set([...bad.keys(), ...unverified])
      job.entry.validated = job.validate
    }
    const outcome: Outcome = { bad, ...(job.entry !== undefined && { entry: job.entry }) }
    store.end(job, () => job.succeed(outcome))
  }
}
