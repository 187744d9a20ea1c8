/** What the writers of both versions need besides the tree: the image's blobs and its settings. */
import { BLOB_FEATURE, type Compressor, type Digester } from '../cache/cache.js'
import type { Chunks } from './chunks.js'
import type { Order } from './order.js'
import { RAFS_FLAG } from '../rafs/layout/flags.js'
import { V6_BLKSZBITS, V6_BLKSZBITS_TARFS } from '../rafs/layout/v6.js'
import type { Tree } from './tree.js'

/** One entry of the blob table. Sizes and offsets in bytes. */
export interface BuiltBlob {
  /** Hex; '' for the blob that will hold this bootstrap. */
  readonly id: string
  readonly chunkCount: number
  /** BLOB_FEATURE bits. */
  readonly features: number
  readonly compressor: Compressor
  readonly digester: Digester
  readonly compressedSize: number
  readonly uncompressedSize: number
  readonly ci: {
    readonly compressor: Compressor
    readonly offset: number
    readonly compressedSize: number
    readonly uncompressedSize: number
  }
  readonly toc?: { readonly size: number; readonly digest: Uint8Array }
  /** The separate blob that holds the chunk information of a SEPARATE one. */
  readonly meta?: { readonly digest: Uint8Array; readonly size: number }
  readonly cipher?: { readonly key: Uint8Array; readonly iv: Uint8Array }
  /** Prefetch policy "blob" (v5): bytes from the start of the blob. */
  readonly readaheadSize: number
}

export interface BuiltImage {
  readonly tree: Tree
  readonly order: Order
  readonly chunks: Chunks
  readonly blobs: readonly BuiltBlob[]
  readonly chunkSize: number
  readonly compressor: Compressor
  readonly digester: Digester
  /** Nodes to be prefetched, in the user's order. */
  readonly prefetch: readonly number[]
  readonly encrypted: boolean
  /** The blob is an untouched tar, chunks are ranges of it, blocks have 512 bytes (v6). */
  readonly tarfs?: boolean
  /** Superblock flag HAS_XATTR. */
  readonly xattrFlag: boolean
}

const COMPRESSOR_FLAG = {
  none: RAFS_FLAG.COMPRESSION_NONE,
  lz4_block: RAFS_FLAG.COMPRESSION_LZ4,
  gzip: RAFS_FLAG.COMPRESSION_GZIP,
  zstd: RAFS_FLAG.COMPRESSION_ZSTD,
} as const

/** The flags that v5 and v6 have in common. */
export function commonFlags(image: BuiltImage): number {
  return (
    COMPRESSOR_FLAG[image.compressor] |
    (image.digester === 'sha256' ? RAFS_FLAG.DIGEST_SHA256 : RAFS_FLAG.DIGEST_BLAKE3) |
    RAFS_FLAG.EXPLICIT_UIDGID |
    (image.xattrFlag ? RAFS_FLAG.HAS_XATTR : 0)
  )
}

export function hasFeature(blob: BuiltBlob, feature: keyof typeof BLOB_FEATURE): boolean {
  return (blob.features & BLOB_FEATURE[feature]) !== 0
}

/** v6: of directories, flat data and device addresses; the bootstrap's own tables are aligned to V6_BLOCK_SIZE in any case. */
export function blockSizeOf(image: BuiltImage): number {
  return 1 << (image.tarfs === true ? V6_BLKSZBITS_TARFS : V6_BLKSZBITS)
}
