/**
 * The chunk cache: chunks in, bytes of a local file out.
 *
 *     RAFS (lane) ── ready? ──> BlobHandle   (a mapped bitmap and a file id: no call, no promise)
 *     RAFS (yard) ── fetch ──> BlobCache ── backend ranges ── threads: decode, verify, store ── set bit
 *
 * It knows blobs and chunks, not inodes or images. On disk it is Nydus's `blobcache` (one sparse data file and
 * one chunk map per blob, uncompressed chunks at their uncompressed offsets). Rule: data is written and
 * verified before its ready bit is set.
 */

export type Compressor = 'none' | 'lz4_block' | 'gzip' | 'zstd'
export type Digester = 'blake3' | 'sha256'

/** The cache section of a configuration (design: nydusd.md 2.3); prefetch is read by lib/cache/prefetch.ts. */
export interface CacheConfig {
  /** 'blobcache' and 'filecache' are one; '' and 'dummycache' mean no cache. */
  readonly type: '' | 'dummycache' | 'blobcache' | 'filecache' | 'fscache'
  readonly compressed: boolean
  /**
   * Every chunk must match its digest, also one that lies in the cache already (checked at its first use in this
   * process). Without it a fetched chunk is checked against its CRC, or its digest when it has no CRC.
   */
  readonly validate: boolean
  readonly prefetch: PrefetchConfig
  readonly filecache?: {
    readonly work_dir: string
    readonly disable_indexed_map: boolean
    /** Bytes that the folder may take; 0 or none: no limit (cache-folder.ts). */
    readonly size_limit?: number
  }
}

export interface PrefetchConfig {
  readonly enable: boolean
  readonly threads: number
  /** Bytes of one merged backend request. */
  readonly batch_size: number
  /** Bytes a second, 0 = no limit. */
  readonly bandwidth_limit: number
  readonly prefetch_all: boolean
}

/** Where and how one chunk lies in its blob. */
export interface ChunkRef {
  /** Number of the chunk in its blob; -1 in 2020 images, whose chunks have none (they go by uncompressed offset). */
  readonly index: number
  readonly compressedOffset: number
  readonly compressedSize: number
  readonly uncompressedOffset: number
  readonly uncompressedSize: number
  readonly compressed: boolean
  readonly encrypted: boolean
  /** CRC-32C of the plain chunk, when the image carries one. */
  readonly crc32?: number
  /** Digest of the plain chunk, 32 bytes, when the image carries one. */
  readonly digest?: Uint8Array
}

/**
 * A chunk that somebody wants. A v5 image knows everything (`record`); a v6 image knows the number, offset and
 * size, and the cache takes the rest from the blob's own chunk table (`blob.meta`).
 */
export interface ChunkWant {
  readonly index: number
  readonly uncompressedOffset: number
  readonly uncompressedSize: number
  readonly record?: ChunkRef
  /** Digest from the bootstrap's chunk table (v6), when the caller has it. */
  readonly digest?: Uint8Array
}

/** Feature bits of a blob (design: rafs-v6.md 5.3); v5 blobs use a few of them. */
export const BLOB_FEATURE = {
  ALIGNED: 0x1,
  INLINED_FS_META: 0x2,
  CHUNK_INFO_V2: 0x4,
  ZRAN: 0x8,
  SEPARATE: 0x10,
  INLINED_CHUNK_DIGEST: 0x20,
  TARFS: 0x40,
  BATCH: 0x80,
  ENCRYPTED: 0x100,
  CHUNK_DICT_GENERATED: 0x200,
  SEPARATED_PREFETCH: 0x400,
  EXTERNAL: 0x800,
  HAS_TAR_HEADER: 0x1000_0000,
  HAS_TOC: 0x2000_0000,
  CAP_TAR_TOC: 0x4000_0000,
} as const

/** What an image says of one of its blobs: the blob table entry, decoded. Sizes and offsets in bytes. */
export interface BlobInfo {
  readonly id: string
  /** Position in the image's blob table. */
  readonly blobIndex: number
  /** 5: chunk records are in the bootstrap. 6: chunk table in the blob (`ci`), unless TARFS. */
  readonly rafsVersion: 5 | 6
  readonly features: number
  readonly compressor: Compressor
  readonly digester: Digester
  readonly chunkSize: number
  /** 0 in 2020 images: unknown. */
  readonly chunkCount: number
  /** 0 in 2020 images: unknown. */
  readonly compressedSize: number
  readonly uncompressedSize: number
  /** Where the compression information (blob.meta) lies; for SEPARATE blobs in the blob `metaBlobId`. */
  readonly ci: {
    readonly compressor: Compressor
    readonly offset: number
    readonly compressedSize: number
    readonly uncompressedSize: number
  }
  readonly metaBlobId?: string
  /** AES-128-XTS key (32 bytes) and IV (16 bytes) of an encrypted blob. */
  readonly cipher?: { readonly key: Uint8Array; readonly iv: Uint8Array }
  /** Table of contents at the end of the blob, when HAS_TOC. */
  readonly toc?: { readonly size: number; readonly digest: Uint8Array }
}

/**
 * What a lane needs of a blob: structured-cloneable, small. The lane maps the chunk map itself.
 * `fileId` 0: nothing can be read without the yard (no cache); every read is deferred.
 */
export interface BlobHandle {
  /** Registered file with the plain chunks at their uncompressed offsets; 0 = none. */
  readonly fileId: number
  /** Path and length in bytes of the chunk map to map ('rw' is not needed), or '' when readiness is only known to the yard. */
  readonly mapPath: string
  readonly mapLength: number
  /** Byte of the map where the bits start (MSB first), and number of bits. */
  readonly bitsOffset: number
  readonly chunkCount: number
  /** A byte for each 2 MiB of the file, which a lane that reads there sets to 1; only where somebody wants to know. */
  readonly marks?: SharedArrayBuffer
}

/** Those who read data files without asking the cache: lanes, and replies that wait for other chunks. */
export interface Readers {
  /** Resolves when all replies that lanes had begun before have been copied. */
  settled(): Promise<void>
  /** A reply that was not copied yet points into these bytes of a registered file. */
  holds(fileId: number, offset: number, length: number): boolean
}

/** Where the bytes of a fetched chunk are, when they are not at their place in the blob's data file. */
export interface Placement {
  readonly fileId: number
  /** Byte offset of the chunk's first byte in that file. */
  readonly offset: number
}

/** Result of a fetch: `placements[i]` belongs to `wants[i]`; undefined = in the data file, at its uncompressed offset. */
export interface Fetched {
  readonly placements: readonly (Placement | undefined)[]
  /** Bytes that this call made the backend send; 0 when others had asked for them already. */
  readonly backendBytes: number
  /** Gives temporary places back; call it when the bytes have been copied. Idempotent. */
  release(): void
}

export interface FetchOptions {
  readonly signal?: AbortSignal
  readonly priority?: 'demand' | 'prefetch'
  /** For counting: the reader found other chunks of its read in the cache. */
  readonly partly?: boolean
  /** Upper bound in bytes of one merged backend request; the default is the larger of `amplify` and 1 MiB. */
  readonly mergeSize?: number
}

/** What the image that opens a blob adds to its blob table entry. */
export interface OpenOptions {
  /** `device.id` (v1) or `id` (v2): blob cache metrics are kept under it. */
  readonly id?: string
  /** `amplify_io` (v1) or `rafs.batch_size` (v2): neighbours that a demand read brings along, in bytes; 0 = none. */
  readonly amplify?: number
  /** `threads` of the prefetch settings: so many prefetch requests at once; without it only the cache's own limit counts. */
  readonly prefetchRequests?: number
  /** All chunks that the image has in this blob, for blobs without a table of their own (v5); asked for at most once. */
  readonly chunks?: () => AsyncIterable<ChunkWant>
  /** Digest of a chunk by its number, when the bootstrap has one; asked for chunks that come along unasked. */
  readonly digestOf?: (index: number) => Uint8Array | undefined
}

/** One blob in the cache; shared by all mounts of a daemon that use the same blob and work_dir. */
export interface BlobCache {
  readonly info: BlobInfo
  readonly handle: BlobHandle
  /** Makes the chunks available: one backend request per chunk at most, however many callers want it at once. */
  fetch(wants: readonly ChunkWant[], options?: FetchOptions): Promise<Fetched>
  isReady(index: number): boolean
  /** Fetches what the first read would need besides its chunks: the blob's chunk table. Rejects with NydusError. */
  prepare(): Promise<void>
  /** All chunks that the blob's own table names, in blob order; none for blobs without a table (v5, tarfs). */
  wants(options?: FetchOptions): AsyncGenerator<ChunkWant>
  /** One reference less: what this user waits for is rejected; the last closes files. Idempotent. */
  close(): Promise<void>
}
