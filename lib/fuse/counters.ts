/**
 * Counters that a lane writes and the yard reads: plain f64 in shared memory, one writer each.
 *
 * A mount has MOUNT_COUNTERS of them per lane (stripes of one SharedArrayBuffer), slot 0 of every lane and the
 * lane itself have theirs. Names and order follow the metrics API (http-api.md 4).
 */
import { METRIC, METRIC_COUNT, OPCODES } from './abi.js'

const SIZE_BUCKETS = 8

/** Calls per operation, METRIC_COUNT of them. */
export const HITS = 0
/** Calls per operation that ended with an errno. */
export const ERRORS = HITS + METRIC_COUNT
/** Bytes handed to readers. */
export const BYTES_READ = ERRORS + METRIC_COUNT
/** Reads by size: below 1 K, 4 K, 16 K, 64 K, 128 K, 512 K, 1 M, more. */
export const READ_SIZES = BYTES_READ + 1
/** Reads that had to wait for the backend. */
export const DEFERRED = READ_SIZES + SIZE_BUCKETS
/** Requests that ended in an exception, and so in EIO. */
export const EXCEPTIONS = DEFERRED + 1
export const MOUNT_COUNTERS = EXCEPTIONS + 1

/** Bytes of one stripe: whole cache lines, so that two lanes don't share one. */
export const STRIPE = Math.ceil((MOUNT_COUNTERS * 8) / 64) * 64

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
