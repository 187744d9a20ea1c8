/**
 * What a guest that waits for a chunk gets along with it: neighbours in the blob.
 *
 *     another request │ behind <── the chunk that is wanted ──────────> ahead │ another request
 *
 * Files that are used together lie together, and most of them are read from their start on: so most of it lies ahead. Some
 * lies behind: a guest goes through a folder backwards as often as not, and would wait for each step otherwise. Where a guest
 * has missed much lately it will miss more: there, more is fetched on both sides, in requests of their own, so that what it
 * waits for is not late.
 */
import type { ChunkTable } from './chunk-table.js'
import { Job } from './job.js'
import type { Unit } from './unit.js'

/** Shares of `amplify` in the request itself. More brings along more that nobody reads (docs/performance.md). */
interface Shares {
  readonly ahead: number
  readonly all: number
}
const SMALL: Shares = { ahead: 3 / 5, all: 2 / 3 }
/** Where there are no others: fewer requests. */
const LARGE: Shares = { ahead: 4 / 5, all: 7 / 8 }
/** Much is missed where so many of the last misses lie within so many times `amplify`. */
const MANY = 3
const REMEMBERED = 16
const NEAR = 8

/** A blob as riders see it. */
export interface RiderSource {
  readonly table: Pick<ChunkTable, 'count' | 'unit' | 'unitKey' | 'after' | 'before'>
  /** Units on their way, by key. */
  readonly jobs: ReadonlyMap<number, Job>
  readonly misses: Misses
  isStored(index: number): boolean
}

/** See QueueLane.riders. */
export interface Riders {
  /** In the request for what is wanted. */
  readonly along: readonly Job[]
  /** In requests of their own, at most `amplify` each; none of them is empty. */
  readonly others: readonly (readonly Job[])[]
}

export const NO_RIDERS: Riders = { along: [], others: [] }

/** Where guests have missed something lately. */
export class Misses {
  /** Offsets in the blob; the oldest is overwritten. */
  readonly #offsets: number[] = []
  #next = 0

  /** Returns whether much was missed within `distance` bytes of it before. */
  add(offset: number, distance: number): boolean {
    const near = this.#offsets.filter(other => Math.abs(other - offset) < distance).length
    this.#offsets[this.#next] = offset
    this.#next = (this.#next + 1) % REMEMBERED
    return near >= MANY
  }
}

/**
 * Units next to the run from `first` to `last` that are neither there nor on their way. `room`: bytes of the requests of
 * their own, all together. Throws CACHE_BAD_META.
 */
export function riders(source: RiderSource, first: Job, last: Job, room: number): Riders {
  const { amplify } = first.lane
  const span = last.offset + last.size - first.offset
  const ahead: Job[] = []
  const behind: Job[] = []
  const share = room > 0 ? SMALL : LARGE
  const taken = collect(source, last, amplify * share.ahead - span, 1, ahead)
  collect(source, first, amplify * share.all - span - taken, -1, behind)
  const more: Job[] = []
  const back: Job[] = []
  if (source.misses.add(first.offset, amplify * NEAR)) {
    const size = Math.min(amplify, room / 2)
    collect(source, ahead.at(-1) ?? last, size, 1, more)
    collect(source, behind.at(-1) ?? first, size, -1, back)
  }
  return { along: [...ahead, ...behind], others: [more, back].filter(({ length }) => length > 0) }
}

/** In one direction, up to `room` bytes, gaps included; returns how many that are. */
function collect(source: RiderSource, from: Job, room: number, step: 1 | -1, found: Job[]): number {
  const { table, jobs } = source
  const { lane } = from
  let { unit } = from
  let taken = 0
  for (;;) {
    const index = step > 0 ? table.after(unit) : table.before(unit)
    if (index < 0 || index >= table.count) return taken
    const waiting = jobs.get(table.unitKey(index))
    if (waiting === undefined && source.isStored(index)) return taken
    const next = waiting?.unit ?? table.unit(index)
    const [low, high] = step > 0 ? [unit, next] : [next, unit]
    const gap = high.offset - (low.offset + low.size)
    if (gap < 0 || gap > lane.maxGap || taken + gap + next.size > room) return taken
    const rider = waiting ?? riderFor(from, next)
    if (rider.lane !== lane || rider.alone || lane.queue.isUnderWay(rider)) return taken
    found.push(rider)
    taken += gap + next.size
    unit = next
  }
}

function riderFor({ lane, mergeSize }: Job, unit: Unit): Job {
  return new Job(lane, unit, { priority: 'demand', mergeSize })
}
