/**
 * Counters of the blob cache, kept per factory id (`device.id`), and their shape in `GET /api/v1/metrics/blobcache`
 * (http-api.md §4).
 */
import type { Priority } from '../backend/backend.js'

export interface MeteredBlob {
  /** The same for all users of one blob's files, and of one backend's queue: what belongs to these is counted once. */
  readonly store: object
  readonly queue: object
  readonly blobId: string
  readonly dir: string | undefined
  /** Chunks in the cache, and how many there are (0: unknown). */
  readonly entries: number
  readonly chunkCount: number
  /** Bytes of its data file that were taken away to keep the folder's size_limit. */
  readonly evicted: number
  /** Compressed bytes of the queue being read or decoded. */
  readonly bytesInFlight: number
}

export class BlobCacheMetrics {
  /** What guests' reads found: everything was there, something was; and all. Reads that lanes serve are not among them. */
  total = 0
  wholeHits = 0
  partialHits = 0
  /** Compressed bytes and requests of prefetch that the backend answered, and those of a single chunk (or window). */
  prefetchBytes = 0
  prefetchRequests = 0
  prefetchUnmerged = 0
  /** The same for guests' reads, what comes along included; and how many chunks (or windows) they brought. */
  demandBytes = 0
  demandRequests = 0
  demandUnits = 0
  prefetchWorkers = 0
  /** Sum over fetches, and first start and last end (ms since the epoch; 0 = never). */
  prefetchMillis = 0
  prefetchBegin = 0
  prefetchEnd = 0
  /** Fetches that failed, and chunks that did not match their digest, CRC or codec. */
  errors = 0
  damaged = 0
  readonly blobs = new Set<MeteredBlob>()

  /** A request that the backend answered: its bytes, and the units that it was for. */
  answered(priority: Priority, bytes: number, units: number): void {
    if (priority === 'prefetch') {
      this.prefetchBytes += bytes
      this.prefetchRequests++
      if (units === 1) this.prefetchUnmerged++
    } else {
      this.demandBytes += bytes
      this.demandRequests++
      this.demandUnits += units
    }
  }

  /**
   * The shape of http-api.md §4, and what it has no names for: requests for guests' reads, failures, damaged chunks.
   * `laneReads`: reads that lanes served from the cache without the yard.
   */
  json(laneReads = 0): Record<string, unknown> {
    const blobs = [...this.blobs]
    const stores = [...new Map(blobs.map(blob => [blob.store, blob])).values()]
    const queues = [...new Map(blobs.map(blob => [blob.queue, blob])).values()]
    return {
      underlying_files: [...new Set(blobs.map(blob => blob.blobId))],
      store_path: blobs.find(blob => blob.dir !== undefined)?.dir ?? '',
      partial_hits: this.partialHits,
      whole_hits: this.wholeHits + laneReads,
      total: this.total + laneReads,
      entries_count: sum(stores, blob => blob.entries),
      prefetch_data_amount: this.prefetchBytes,
      prefetch_requests_count: this.prefetchRequests,
      prefetch_workers: this.prefetchWorkers,
      prefetch_unmerged_chunks: this.prefetchUnmerged,
      prefetch_cumulative_time_millis: Math.round(this.prefetchMillis),
      prefetch_begin_time_secs: Math.floor(this.prefetchBegin / 1000),
      prefetch_begin_time_millis: Math.floor(this.prefetchBegin % 1000),
      prefetch_end_time_secs: Math.floor(this.prefetchEnd / 1000),
      prefetch_end_time_millis: Math.floor(this.prefetchEnd % 1000),
      buffered_backend_size: sum(queues, blob => blob.bytesInFlight),
      data_all_ready:
        blobs.length > 0 && blobs.every(blob => blob.chunkCount > 0 && blob.entries >= blob.chunkCount),
      demand_data_amount: this.demandBytes,
      demand_requests_count: this.demandRequests,
      demand_chunks: this.demandUnits,
      evicted_data_amount: sum(stores, blob => blob.evicted),
      failed_reads: this.errors,
      damaged_chunks: this.damaged,
    }
  }
}

function sum(blobs: readonly MeteredBlob[], of: (blob: MeteredBlob) => number): number {
  return blobs.reduce((all, blob) => all + of(blob), 0)
}
