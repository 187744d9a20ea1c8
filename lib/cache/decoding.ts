/**
 * One request's bytes on their way through the threads that decode.
 *
 *     bytes arrive ── units that a guest waits for, as soon as they are whole ──> thread ──> waiters
 *     all are there ── the rest, a little at a time, when no thread has anything more urgent to do
 *     a guest asks for one of the rest ── that goes ahead of the others
 */
import { NydusError } from '../base/errors.js'
import type { BlobStore } from './blob-store.js'
import type { Bad, MemberPlace, UnitPlace } from './decoder.js'
import type { Job, Outcome } from './job.js'
import type { CacheServices } from './services.js'

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

/** Units that nobody waits for, handed over in one turn of the event loop: what a guest waits for comes in between. */
const AT_ONCE = 64

const ALL_WELL: Outcome = { bad: new Map() }

function isUrgent(job: Job): boolean {
  return job.waiters > 0 && job.priority === 'demand'
}

export class Decoding {
  readonly #context: DecodingContext
  readonly #stored: Stored
  /** In the order of their offsets. */
  readonly #jobs: readonly Job[]
  /** Jobs in front of this one are whole. */
  #whole = 0
  /** Jobs in front of this one have been handed over, whether somebody waited or not. */
  #next = 0
  /** Jobs that were handed over, and the numbers of their units. */
  readonly #given = new Map<Job, number>()
  #left: number
  #failure: { readonly error: unknown } | undefined
  #resolve: () => void = () => {}
  readonly #ended = new Promise<void>(resolve => {
    this.#resolve = resolve
  })

  constructor(jobs: readonly Job[], stored: Stored, context: DecodingContext) {
    this.#context = context
    this.#stored = stored
    this.#jobs = jobs.toSorted((a, b) => a.offset - b.offset)
    this.#left = jobs.length
    for (const job of jobs) job.onWanted = () => this.#want(job)
  }

  /** `count` bytes at the front of the buffer are there, and more will come. */
  arrived(count: number): void {
    this.#take(this.#stored.start + count)
  }

  /** All bytes are there. Resolves when every job has ended, one way or the other. */
  async finish(): Promise<void> {
    this.#take(Infinity)
    this.#goOn()
    await this.#ended
    this.#context.services.buffers.give(this.#stored.buffer)
  }

  /** No more bytes will come. Resolves when nothing is under way. */
  async fail(error: unknown): Promise<void> {
    this.#failure = { error }
    for (const job of this.#jobs) if (!this.#given.has(job)) this.#fail(job, error)
    await this.#ended
    this.#context.services.buffers.give(this.#stored.buffer)
  }

  /** What ends at or before `end` is whole. */
  #take(end: number): void {
    const from = this.#whole
    for (let job = this.#jobs[this.#whole]; job !== undefined && job.offset + job.size <= end;)
      job = this.#jobs[++this.#whole]
    this.#give(this.#jobs.slice(from, this.#whole).filter(isUrgent), true)
  }

  /** Somebody has begun to wait for `job`, or has become a guest who does. */
  #want(job: Job): void {
    if (!isUrgent(job)) return
    const id = this.#given.get(job)
    if (id !== undefined) this.#context.services.decoder.promote(id)
    else if (this.#failure === undefined && this.#jobs.indexOf(job) < this.#whole) this.#give([job], true)
  }

  #goOn(): void {
    const more: Job[] = []
    for (; this.#next < this.#jobs.length && more.length < AT_ONCE; this.#next++) {
      const job = this.#jobs[this.#next]
      if (job !== undefined && !this.#given.has(job)) more.push(job)
    }
    if (more.length === 0) return
    // Not before the answers of threads that are there by now.
    setImmediate(() => {
      this.#give(more, false)
      this.#goOn()
    })
  }

  #give(jobs: readonly Job[], urgent: boolean): void {
    const { store, services } = this.#context
    const batch = services.decoder.batch(store.coding, new Uint8Array(this.#stored.buffer))
    for (const job of jobs) {
      if (this.#given.has(job)) continue
      job.validate = store.validates
      const members = this.#membersOf(job)
      const id = batch.add(this.#place(job), this.#tasks(job, members), (bad, error) => {
        if (error === undefined) this.#settle(job, members, bad)
        else this.#fail(job, error)
      })
      this.#given.set(job, id)
    }
    if (batch.dones.size === 0) return
    try {
      batch.submit(urgent)
    } catch (error) {
      // No thread can be started, for instance: readers hear of it, and nobody else.
      for (const [job, id] of this.#given) if (batch.dones.has(id)) this.#fail(job, error)
    }
  }

  #fail(job: Job, error: unknown): void {
    this.#end(job, () => job.fail(error))
  }

  #end(job: Job, settle: () => void): void {
    job.onWanted = undefined
    this.#context.store.end(job, settle)
    this.#left--
    if (this.#left === 0) this.#resolve()
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

  #tasks(job: Job, members: readonly number[]): MemberPlace[] {
    return members.flatMap((at): MemberPlace[] => {
      const member = job.unit.members[at]
      if (member === undefined) return []
      // A CRC is enough where nobody asked for validation.
      const digest = job.validate || member.crc32 === undefined ? this.#digest(job, at) : undefined
      return [
        {
          at: member.at,
          size: member.size,
          ...(digest !== undefined && { digest }),
          ...(member.crc32 !== undefined && { crc32: member.crc32 }),
          ...(job.entry === undefined && { position: member.uncompressedOffset }),
        },
      ]
    })
  }

  #place({ unit, entry }: Job): UnitPlace {
    const { store, services } = this.#context
    const { start, end } = this.#stored
    return {
      start: unit.offset - start,
      size: Math.min(unit.size, end - unit.offset),
      compressed: unit.compressed,
      encrypted: unit.encrypted,
      outputSize: unit.outputSize,
      ...(unit.zran !== undefined && { zran: unit.zran }),
      fd: entry === undefined ? store.data : services.pool.file.fd,
      ...(entry !== undefined && { position: entry.offset }),
    }
  }

  #settle(job: Job, members: readonly number[], found: ReadonlyMap<number, Bad>): void {
    const { store } = this.#context
    if (found.size === 0 && job.entry === undefined) {
      for (const at of members) store.stored(job.unit, at, job.validate)
      return this.#end(job, () => job.succeed(ALL_WELL))
    }
    const bad = new Map<number, NydusError>()
    const unverified = new Set<number>()
    for (const [i, at] of members.entries()) {
      const result = found.get(i)
      if (result !== undefined) bad.set(at, store.failure(job.unit, at, result))
      else if (job.entry === undefined) store.stored(job.unit, at, job.validate)
      else if (job.validate && !job.wanted.has(at) && this.#digest(job, at) === undefined) unverified.add(at)
    }
    if (job.entry !== undefined) {
      job.entry.bad = new Set([...bad.keys(), ...unverified])
      job.entry.validated = job.validate
    }
    const outcome: Outcome = { bad, ...(job.entry !== undefined && { entry: job.entry }) }
    this.#end(job, () => job.succeed(outcome))
  }
}
