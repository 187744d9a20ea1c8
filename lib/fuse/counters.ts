/**
 * Counters that a lane writes and the yard reads: plain f64 in shared memory, one writer each.
 *
 * A mount has the MountCounters per lane (stripes of one SharedArrayBuffer), slot 0 of every lane and the
 * lane itself have theirs. Names and order follow the metrics API (http-api.md 4).
 */
import { layout } from '../base/layout.js'
import { METRIC, METRIC_COUNT, OPCODES } from './abi.js'

/** What `sizeBucket` tells apart. */
export const SIZE_BUCKETS = 8

const DOUBLE = 8
const CACHE_LINE = 64

const MountCounters = layout('MountCounters', 328, {
  /** Calls per operation. */
  hits: [METRIC_COUNT * DOUBLE],
  /** Calls per operation that ended with an errno. */
  errors: [METRIC_COUNT * DOUBLE],
  /** Bytes handed to readers. */
  bytesRead: 'f64',
  /** Reads by size: below 1 K, 4 K, 16 K, 64 K, 128 K, 512 K, 1 M, more. */
  readSizes: [SIZE_BUCKETS * DOUBLE],
  /** Reads that had to wait for the backend. */
  deferred: 'f64',
  /** Requests that ended in an exception, and so in EIO. */
  exceptions: 'f64',
})
// A lane counts in numbers: indexes, not bytes.
export const HITS = MountCounters.at.hits / DOUBLE
export const ERRORS = MountCounters.at.errors / DOUBLE
export const BYTES_READ = MountCounters.at.bytesRead / DOUBLE
export const READ_SIZES = MountCounters.at.readSizes / DOUBLE
export const DEFERRED = MountCounters.at.deferred / DOUBLE
export const EXCEPTIONS = MountCounters.at.exceptions / DOUBLE
const MOUNT_COUNTERS = MountCounters.size / DOUBLE

/** Bytes of one stripe: whole cache lines, so that two lanes don't share one. */
const STRIPE = Math.ceil(MountCounters.size / CACHE_LINE) * CACHE_LINE

/** Sum of all lanes' stripes. */
export interface MountTotals {
  readonly hits: number[]
  readonly errors: number[]
  readonly bytesRead: number
  readonly readSizes: number[]
  readonly deferred: number
  readonly exceptions: number
}

export function newCounters(lanes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(lanes * STRIPE)
}

export function stripeOf(counters: SharedArrayBuffer, lane: number): Float64Array {
  return new Float64Array(counters, lane * STRIPE, MOUNT_COUNTERS)
}

export function totalsOf(counters: SharedArrayBuffer): MountTotals {
  const sums = new Array<number>(MOUNT_COUNTERS).fill(0)
  for (let lane = 0; lane * STRIPE < counters.byteLength; lane++)
    stripeOf(counters, lane).forEach((value, i) => (sums[i] = (sums[i] ?? 0) + value))
  return {
    hits: sums.slice(HITS, HITS + METRIC_COUNT),
    errors: sums.slice(ERRORS, ERRORS + METRIC_COUNT),
    bytesRead: sums[BYTES_READ] ?? 0,
    readSizes: sums.slice(READ_SIZES, READ_SIZES + SIZE_BUCKETS),
    deferred: sums[DEFERRED] ?? 0,
    exceptions: sums[EXCEPTIONS] ?? 0,
  }
}

/** Metrics index of each opcode below 64; METRIC.NONE for what is not counted. */
export const METRIC_OF_OPCODE = new Int8Array(64).fill(METRIC.NONE)
for (const { code, metric } of OPCODES) METRIC_OF_OPCODE[code] = metric

/** Index of the size bucket of a read. */
export function sizeBucket(bytes: number): number {
  if (bytes < 4096) return bytes < 1024 ? 0 : 1
  if (bytes < 65536) return bytes < 16384 ? 2 : 3
  if (bytes < 524288) return bytes < 131072 ? 4 : 5
  return bytes < 1048576 ? 6 : 7
}
