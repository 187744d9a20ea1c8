/**
 * What a request that a guest waits for brings along: neighbours in the blob.
 *
 *     behind <── the chunk that is wanted ──────────> ahead
 *
 * Files that are used together lie together, and most of them are read from their start on: so most of it lies ahead. Some
 * lies behind: a guest goes through a folder backwards as often as not, and would wait for each step otherwise.
 */
import type { ChunkTable } from './chunk-table.js'
import { Job } from './job.js'
import type { Unit } from './unit.js'

/** Shares of `amplify`. More ahead brings along more that nobody reads (docs/performance.md). */
const AHEAD = 4 / 5
const ALL = 7 / 8

/** A blob as riders see it. */
export interface RiderSource {
  readonly table: Pick<ChunkTable, 'count' | 'unit' | 'unitKey' | 'after' | 'before'>
  /** Units on their way, by key. */
  readonly jobs: ReadonlyMap<number, Job>
  isStored(index: number): boolean
}

/** Units next to the run from `first` to `last` that are neither there nor on their way. Throws CACHE_BAD_META. */
export function riders(source: RiderSource, first: Job, last: Job): Job[] {
  const { amplify } = first.lane
  const span = last.offset + last.size - first.offset
  const found: Job[] = []
  const taken = collect(source, last, amplify * AHEAD - span, 1, found)
  collect(source, first, amplify * ALL - span - taken, -1, found)
  return found
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
