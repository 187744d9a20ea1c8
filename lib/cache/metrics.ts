/**
 * Counters of the blob cache, kept per factory id (`device.id`), and their shape in `GET /api/v1/metrics/blobcache`
 * (http-api.md §4).
 */
export interface MeteredBlob {
  readonly blobId: string
  readonly dir: string | undefined
  /** Chunks in the cache, and how many there are (0: unknown). */
  readonly entries: number
  readonly chunkCount: number
  /** Compressed bytes being read or decoded. */
  readonly bytesInFlight: number
}

export class BlobCacheMetrics {
  /** Fetches by the yard: everything was there, something was, all. Reads that lanes serve are not among them. */
  total = 0
  wholeHits = 0
  partialHits = 0
  /** Compressed bytes, requests and chunks that prefetch asked for. */
  prefetchBytes = 0
  prefetchRequests = 0
  prefetchUnmerged = 0
  prefetchWorkers = 0
  /** Sum over requests, and first start and last end (ms since the epoch; 0 = never). */
  prefetchMillis = 0
  prefetchBegin = 0
  prefetchEnd = 0
  /** Fetches that failed, and chunks that did not match their digest, CRC or codec. */
  errors = 0
  damaged = 0
  readonly blobs = new Set<MeteredBlob>()

  /** `laneReads`: reads that lanes served from the cache without the yard. */
  json(laneReads = 0): Record<string, unknown> {
    const blobs = [...this.blobs]
    const sum = (of: (blob: MeteredBlob) => number): number => blobs.reduce((all, blob) => all + of(blob), 0)
    return {
      underlying_files: [...new Set(blobs.map(blob => blob.blobId))],
      store_path: blobs.find(blob => blob.dir !== undefined)?.dir ?? '',
      partial_hits: this.partialHits,
      whole_hits: this.wholeHits + laneReads,
      total: this.total + laneReads,
      entries_count: sum(blob => blob.entries),
      prefetch_data_amount: this.prefetchBytes,
      prefetch_requests_count: this.prefetchRequests,
      prefetch_workers: this.prefetchWorkers,
      prefetch_unmerged_chunks: this.prefetchUnmerged,
      prefetch_cumulative_time_millis: Math.round(this.prefetchMillis),
      prefetch_begin_time_secs: Math.floor(this.prefetchBegin / 1000),
      prefetch_begin_time_millis: Math.floor(this.prefetchBegin % 1000),
      prefetch_end_time_secs: Math.floor(this.prefetchEnd / 1000),
      prefetch_end_time_millis: Math.floor(this.prefetchEnd % 1000),
      buffered_backend_size: sum(blob => blob.bytesInFlight),
      data_all_ready:
        blobs.length > 0 && blobs.every(blob => blob.chunkCount > 0 && blob.entries >= blob.chunkCount),
    }
  }
}
