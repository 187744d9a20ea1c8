/**
 * Counting for every backend, and the shape that `GET /api/v1/metrics/backend` shows (http-api.md §4).
 */
import type { Backend, BackendMetrics } from './backend.js'

const K = 1024
/** Lower bounds of all but the first size bucket, in bytes. */
const SIZE_BOUNDS = [K, 4 * K, 16 * K, 64 * K, 128 * K, 512 * K, K * K]
/** Upper bounds of all but the last latency bucket, in milliseconds. */
const LATENCY_BOUNDS = [1, 20, 50, 100, 500, 1000, 2000]

function sizeBucket(bytes: number): number {
  const above = SIZE_BOUNDS.findIndex(bound => bytes < bound)
  return above < 0 ? SIZE_BOUNDS.length : above
}

function latencyBucket(ms: number): number {
  const within = LATENCY_BOUNDS.findIndex(bound => ms <= bound)
  return within < 0 ? LATENCY_BOUNDS.length : within
}

function zeros(): number[] {
  return Array.from({ length: SIZE_BOUNDS.length + 1 }, () => 0)
}

export function newBackendMetrics(): BackendMetrics {
  return {
    readCount: 0,
    readErrors: 0,
    readAmountTotal: 0,
    readCumulativeLatencyTotal: 0,
    readCumulativeLatencyDist: zeros(),
    readCountBlockSizeDist: zeros(),
    readLatencySizesDist: Array.from({ length: SIZE_BOUNDS.length + 1 }, () =>
      Array.from({ length: LATENCY_BOUNDS.length + 1 }, () => 0),
    ),
  }
}

/**
 * Runs one read and counts it: `bytes` is what was asked for. An aborted read is neither a success nor the
 * backend's error; it is not counted.
 */
export async function countRead(
  metrics: BackendMetrics,
  bytes: number,
  signal: AbortSignal | undefined,
  read: () => Promise<void>,
): Promise<void> {
  const start = performance.now()
  try {
    await read()
  } catch (error) {
    if (signal?.aborted !== true) {
      metrics.readCount++
      metrics.readErrors++
    }
    throw error
  }
  const ms = performance.now() - start
  const size = sizeBucket(bytes)
  const latency = latencyBucket(ms)
  metrics.readCount++
  metrics.readAmountTotal += bytes
  metrics.readCumulativeLatencyTotal += ms
  metrics.readCumulativeLatencyDist[size] = (metrics.readCumulativeLatencyDist[size] ?? 0) + ms
  metrics.readCountBlockSizeDist[size] = (metrics.readCountBlockSizeDist[size] ?? 0) + 1
  const row = metrics.readLatencySizesDist[size]
  if (row !== undefined) row[latency] = (row[latency] ?? 0) + 1
}

/** The JSON of `GET /api/v1/metrics/backend`: the shape of http-api.md §4, and the backend's own counters. */
export function backendMetricsJson({
  type,
  metrics,
  counters,
}: Pick<Backend, 'type' | 'metrics' | 'counters'>): Record<string, unknown> {
  return {
    backend_type: type,
    read_count: metrics.readCount,
    read_errors: metrics.readErrors,
    read_amount_total: metrics.readAmountTotal,
    read_cumulative_latency_millis_total: Math.round(metrics.readCumulativeLatencyTotal),
    read_cumulative_latency_millis_dist: metrics.readCumulativeLatencyDist.map(Math.round),
    read_count_block_size_dist: metrics.readCountBlockSizeDist,
    read_latency_sizes_dist: metrics.readLatencySizesDist,
    ...counters,
  }
}
