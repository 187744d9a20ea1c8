/**
 * One request's bytes on their way through the chunk Workers.
 *
 *     bytes arrive ── units that a guest waits for, as soon as they are whole ──> Worker ──> waiters
 *     all are there ── what else a guest waits for ──> Worker, then the rest, when nothing more urgent is to do
 */
import { NydusError } from '../base/errors.js'
import type { BlobStore } from './blob-store.js'
import type { CacheServices } from './services.js'
import type { Job, Outcome } from './job.js'
import type { ChunkJob, MemberResult, MemberTask, UnitTask, WorkerReply } from './worker-protocol.js'

/** Bytes of a blob from `start` on, at the front of `buffer`. */
export interface Stored {
  readonly buffer: ArrayBuffer
  readonly start: number
  readonly end: number
}

export interface DecodingContext {
  readonly store: BlobStore
  readonly services: CacheServices
  readonly digestOf: (index: number) => Uint8Array | undefined
}

function isUrgent(job: Job): boolean {
  return job.waiters > 0 && job.priority === 'demand'
}

export class Decoding {
  readonly #context: DecodingContext
  readonly #stored: Stored
  /** Jobs that no Worker has yet. */
  readonly #left: Set<Job>
  /** Blob offset up to which bytes have come. */
  #arrived = 0
  #early: Promise<void> | undefined

  constructor(jobs: readonly Job[], stored: Stored, context: DecodingContext) {
    this.#context = context
    this.#stored = stored
    this.#left = new Set(jobs)
  }

  /** `count` bytes at the front of the buffer are there, and more will come. */
  arrived(count: number): void {
    this.#arrived = this.#stored.start + count
    // What comes with the last bytes goes the usual way: nothing has to be copied for it.
    if (this.#early !== undefined || this.#arrived >= this.#stored.end) return
    const whole = [...this.#left].filter(job => isUrgent(job) && job.offset + job.size <= this.#arrived)
    if (whole.length > 0)
      this.#early = this.#decodeCopy(whole).finally(() => {
        this.#early = undefined
        this.arrived(this.#arrived - this.#stored.start)
      })
  }

  /** All bytes are there. Resolves when every job has ended, one way or the other. */
  async finish(): Promise<void> {
    this.#arrived = this.#stored.end
    await Promise.all([this.#early, this.#decodeRest()])
  }

  /** No more bytes will come. Resolves when nothing is under way. */
  async fail(error: unknown): Promise<void> {
    this.#arrived = this.#stored.end
    this.#failAll([...this.#left], error)
    this.#left.clear()
    await this.#early
  }

  /** The buffer is still being filled; it cannot be given away. */
  async #decodeCopy(jobs: readonly Job[]): Promise<void> {
    const { buffer, start } = this.#stored
    const from = Math.min(...jobs.map(job => job.offset))
    const to = Math.max(...jobs.map(job => job.offset + job.size))
    const copy = this.#context.services.buffers.take(to - from)
    new Uint8Array(copy).set(new Uint8Array(buffer, from - start, to - from))
    this.#giveBack(await this.#decode(jobs, { buffer: copy, start: from, end: to }, false))
  }

  async #decodeRest(): Promise<void> {
    let { buffer }: { buffer: ArrayBuffer | undefined } = this.#stored
    const urgent = [...this.#left].filter(isUrgent)
    if (urgent.length > 0) buffer = await this.#decode(urgent, this.#stored, false)
    const rest = [...this.#left]
    if (rest.length > 0 && buffer !== undefined)
      buffer = await this.#decode(rest, { ...this.#stored, buffer }, true)
    else this.#failAll(rest, new NydusError('CACHE_WORKER_DIED', 'EIO', 'a chunk Worker died with the bytes'))
    this.#giveBack(buffer)
  }

  #giveBack(buffer: ArrayBuffer | undefined): void {
    if (buffer !== undefined) this.#context.services.buffers.give(buffer)
  }

  #failAll(jobs: readonly Job[], error: unknown): void {
    for (const job of jobs) this.#context.store.end(job, () => job.fail(error))
  }

  /** Never rejects: what fails fails the jobs. Returns the buffer, unless it was lost with a Worker. */
  async #decode(jobs: readonly Job[], stored: Stored, later: boolean): Promise<ArrayBuffer | undefined> {
    for (const job of jobs) this.#left.delete(job)
    let ordered: readonly Job[] = []
    let members: (readonly number[])[] = []
    // Made when its turn has come: by then a guest may wait for other units.
    const make = (): ChunkJob => {
      const urgent = jobs.filter(isUrgent)
      ordered = [...urgent, ...jobs.filter(job => !urgent.includes(job))]
      for (const job of ordered) job.validate = this.#context.store.validates
      members = ordered.map(job => this.#membersOf(job))
      const units = ordered.map((job, i) => this.#task(job, members[i] ?? [], stored))
      const { coding } = this.#context.store
      return { kind: 'chunks', coding, buffer: stored.buffer, urgent: urgent.length, units }
    }
    const settle = (reply: WorkerReply): void => {
      for (const [i, results] of (reply.results ?? []).entries()) {
        const at = (reply.first ?? 0) + i
        const job = ordered[at]
        if (job !== undefined) this.#settle(job, members[at] ?? [], results)
      }
    }
    try {
      const reply = await this.#context.services.workers.run(make, [stored.buffer], {
        onPart: settle,
        ...(later && { wanted: () => jobs.some(isUrgent) }),
      })
      settle(reply)
      return reply.buffer
    } catch (error) {
      this.#failAll(jobs, error)
      return undefined
    }
  }

  /** Members to check (and store): with validation only those of which it is known what they must be. */
  #membersOf(job: Job): readonly number[] {
    const all = job.unit.members.map((_, at) => at)
    if (job.entry !== undefined) return all
    return all.filter(at => {
      if (job.wanted.has(at)) return true
      return this.#context.store.isMemberStored(job.unit, at)
        ? false
        : !job.validate || this.#digest(job, at) !== undefined
    })
  }

  #digest(job: Job, at: number): Uint8Array | undefined {
    const index = job.unit.members[at]?.index ?? -1
    return job.wanted.get(at) ?? (index < 0 ? undefined : this.#context.digestOf(index))
  }

  #task(job: Job, members: readonly number[], stored: Stored): UnitTask {
    const { unit, entry } = job
    const { store, services } = this.#context
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
      fd: entry === undefined ? store.data : services.pool.file.fd,
      ...(entry !== undefined && { position: entry.offset }),
    }
  }

  #settle(job: Job, members: readonly number[], results: readonly MemberResult[]): void {
    const { store } = this.#context
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
