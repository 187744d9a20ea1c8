/**
 * Storage backends: where blobs come from.
 *
 *     chunk cache ── Backend ── BlobReader ── localfs | registry | oss | s3 | http-proxy | localdisk
 *
 * A backend knows blob ids and byte ranges; it does not know chunks, images or mounts. All of it runs in the
 * yard (the main thread), never in a lane. Names of configuration keys are Nydus's own (design: nydusd.md 2.5).
 */

/** Keys that every HTTP backend understands. Times in seconds, 0 = none. */
export interface HttpOptions {
  readonly skip_verify: boolean
  readonly ca_cert_files: readonly string[]
  readonly timeout: number
  readonly connect_timeout: number
  readonly retry_limit: number
  readonly proxy: ProxyOptions
  readonly mirrors: readonly MirrorOptions[]
}

export interface ProxyOptions {
  readonly url: string
  readonly ping_url: string
  readonly fallback: boolean
  /** Seconds between health checks. */
  readonly check_interval: number
  /** Seconds without traffic after which health checks pause. */
  readonly check_pause_elapsed: number
  readonly use_http: boolean
  readonly dragonfly_scheduler_endpoint: string
}

export interface MirrorOptions {
  readonly host: string
  readonly headers: Readonly<Record<string, string>>
  readonly auth_through: boolean
  readonly ping_url: string
  /** Seconds. */
  readonly health_check_interval: number
  readonly failure_limit: number
}

export interface LocalfsOptions {
  readonly blob_file: string
  readonly dir: string
  readonly alt_dirs: readonly string[]
}
export interface LocaldiskOptions {
  readonly device_path: string
  readonly disable_gpt: boolean
}
export interface OssOptions extends HttpOptions {
  readonly scheme: string
  readonly endpoint: string
  readonly bucket_name: string
  readonly object_prefix: string
  readonly access_key_id: string
  readonly access_key_secret: string
}
export interface S3Options extends OssOptions {
  readonly region: string
}
export interface RegistryOptions extends HttpOptions {
  readonly scheme: string
  readonly host: string
  readonly repo: string
  /** base64 of `user:password`, or null. */
  readonly auth: string | null
  readonly registry_token: string | null
  readonly blob_url_scheme: string
  readonly blob_redirected_host: string
}
export interface HttpProxyOptions extends HttpOptions {
  readonly addr: string
  readonly path: string
}

export type BackendConfig =
  | { readonly type: 'localfs'; readonly localfs: LocalfsOptions }
  | { readonly type: 'localdisk'; readonly localdisk: LocaldiskOptions }
  | { readonly type: 'oss'; readonly oss: OssOptions }
  | { readonly type: 's3'; readonly s3: S3Options }
  | { readonly type: 'registry'; readonly registry: RegistryOptions }
  | { readonly type: 'http-proxy'; readonly 'http-proxy': HttpProxyOptions }

/** How urgent a read is: a guest waits for `demand`; `prefetch` gives way and is retried less. */
export type Priority = 'demand' | 'prefetch'

export interface ReadOptions {
  readonly signal?: AbortSignal
  readonly priority?: Priority
  /**
   * What came last time was wrong (a chunk failed its digest): open, resolve or choose the source anew, where one
   * was remembered (file descriptor, redirect, mirror, proxy).
   */
  readonly fresh?: boolean
  /**
   * Called as bytes come: the first `count` bytes of `into` are there for good. Only by backends to which a range takes
   * its time; not necessarily for the last bytes.
   */
  readonly onProgress?: (count: number) => void
}

export interface BlobReader {
  readonly blobId: string
  /** Bytes of the blob in the backend; asked once, then remembered (a failure is not). */
  size(options?: ReadOptions): Promise<number>
  /**
   * Fills `into` with the blob's bytes from `offset` on: all of them, or it rejects with a NydusError
   * (BACKEND_*, EIO). Retries and deadlines are the backend's; the caller only aborts.
   */
  read(into: Uint8Array, offset: number, options?: ReadOptions): Promise<void>
  /** Releases what belongs to this blob alone (a file descriptor, a cached redirect). */
  close(): Promise<void>
}

export interface Backend {
  /** The configuration's `type`. */
  readonly type: BackendConfig['type']
  /** Cheap and synchronous: nothing is opened or asked before the first use. */
  open(blobId: string): BlobReader
  /** Metrics in the shape of `GET /api/v1/metrics/backend`. */
  readonly metrics: BackendMetrics
  /**
   * More counters, of backends that have them, which `metrics/backend` shows as well: requests, retries, detours (past a proxy or mirror
   * that failed), given_up (reads), and as they are at the moment in_flight, waiting, circuit_open.
   */
  readonly counters?: Readonly<Record<string, number>>
  /** Settings that change while the daemon runs (`PUT /api/v1/config`); unknown keys are ignored. */
  reconfigure(settings: Readonly<Record<string, string>>): void
  close(): Promise<void>
}

/** Counters of one backend (http-api.md 4, metrics/backend). */
export interface BackendMetrics {
  readCount: number
  readErrors: number
  readAmountTotal: number
  /** Milliseconds. */
  readCumulativeLatencyTotal: number
  /** Indexed by size bucket: below 1 K, 4 K, 16 K, 64 K, 128 K, 512 K, 1 M, more. */
  readCumulativeLatencyDist: number[]
  readCountBlockSizeDist: number[]
  /** [size bucket][latency bucket: 1, 20, 50, 100, 500, 1000, 2000 ms, more] */
  readLatencySizesDist: number[][]
}
