/**
 * What superblocks and tables of both versions have in common: the facts they give and the checks they must pass.
 */
import { checkBlobId } from '../base/blob-id.js'
import { explain } from '../base/errors.js'
import { BLOB_FEATURE, type BlobInfo, type Compressor, type Digester } from '../cache/cache.js'
import { badImage, type Bootstrap } from './bootstrap.js'
import { MAX_CHUNK_SIZE, MIN_CHUNK_SIZE, RAFS_FLAG, RAFS_FLAGS_COMPATIBLE } from './layout/flags.js'

export interface SuperCommon {
  readonly chunkSize: number
  readonly compressor: Compressor
  readonly digester: Digester
  /** False: owners were not recorded, the daemon's own are shown. */
  readonly ownersKnown: boolean
  /** The image says that some inode has xattrs. */
  readonly hasXattrs: boolean
  readonly rootIno: number
  /** For statfs; informative. */
  readonly inodes: number
  readonly blobs: readonly BlobInfo[]
  /** Array of u32 inode numbers. */
  readonly prefetchOffset: number
  readonly prefetchEntries: number
  readonly facts: SuperblockFacts
}

/** The superblock as `GET /api/v1/daemon/backend` shows it (http-api.md §3): wire names; 0 where a version has no such field. */
export interface SuperblockFacts {
  readonly magic: number
  readonly version: number
  readonly sb_size: number
  readonly root_inode: number
  readonly chunk_size: number
  readonly batch_size: number
  readonly inodes_count: number
  readonly flags: { readonly bits: number }
  readonly inode_table_entries: number
  readonly inode_table_offset: number
  readonly blob_table_size: number
  readonly blob_table_offset: number
  readonly extended_blob_table_offset: number
  readonly extended_blob_table_entries: number
  readonly blob_device_table_count: number
  readonly blob_device_table_offset: number
  readonly prefetch_table_offset: number
  readonly prefetch_table_entries: number
  readonly is_chunk_dict: boolean
  readonly meta_blkaddr: number
  readonly root_nid: number
  readonly chunk_table_offset: number
  readonly chunk_table_size: number
}

/** A u64 field as a number: an offset, size or count beyond 2^53 cannot be right in any file. */
export function exact(value: bigint, boot: Bootstrap, field: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw badImage('RAFS_BAD_SUPERBLOCK', boot, `${field} is ${value}, more than any file can hold`)
  return Number(value)
}

/** The one compressor and one digester of the flags; refuses unknown bits. */
export function decodeFlags(
  flags: number,
  known: number,
  boot: Bootstrap,
): { compressor: Compressor; digester: Digester | undefined } {
  const high = Math.floor(flags / 0x1_0000_0000)
  const unknown = (flags & ~known & ~RAFS_FLAGS_COMPATIBLE) >>> 0
  if (high !== 0 || unknown !== 0)
    throw badImage(
      'RAFS_UNKNOWN_FLAGS',
      boot,
      `superblock flags 0x${flags.toString(16)} hold incompatible bits that this program does not know ` +
        `(0x${(high * 0x1_0000_0000 + unknown).toString(16)}); it needs a newer reader`,
    )
  const compressors = COMPRESSOR_FLAGS.filter(([bit]) => (flags & bit) !== 0)
  const digesters = DIGESTER_FLAGS.filter(([bit]) => (flags & bit) !== 0)
  const [compressor] = compressors
  const [digester] = digesters
  if (compressor === undefined || compressors.length > 1)
    throw badImage(
      'RAFS_BAD_SUPERBLOCK',
      boot,
      `superblock flags 0x${flags.toString(16)} name ${compressors.length} compressors, exactly one is needed`,
    )
  if (digesters.length > 1)
    throw badImage(
      'RAFS_BAD_SUPERBLOCK',
      boot,
      `superblock flags 0x${flags.toString(16)} name both digesters, exactly one is needed`,
    )
  return { compressor: compressor[1], digester: digester?.[1] }
}

const COMPRESSOR_FLAGS: readonly (readonly [number, Compressor])[] = [
  [RAFS_FLAG.COMPRESSION_NONE, 'none'],
  [RAFS_FLAG.COMPRESSION_LZ4, 'lz4_block'],
  [RAFS_FLAG.COMPRESSION_GZIP, 'gzip'],
  [RAFS_FLAG.COMPRESSION_ZSTD, 'zstd'],
]
const DIGESTER_FLAGS: readonly (readonly [number, Digester])[] = [
  [RAFS_FLAG.DIGEST_BLAKE3, 'blake3'],
  [RAFS_FLAG.DIGEST_SHA256, 'sha256'],
]

export function checkChunkSize(size: number, boot: Bootstrap): void {
  if (size < MIN_CHUNK_SIZE || size > MAX_CHUNK_SIZE || (size & (size - 1)) !== 0)
    throw badImage(
      'RAFS_BAD_SUPERBLOCK',
      boot,
      `chunk size ${size} is not a power of two from ${MIN_CHUNK_SIZE} to ${MAX_CHUNK_SIZE}`,
    )
}

/** One part of the file that the superblock points to. `size` 0: absent, its offset means nothing. */
export interface Part {
  readonly name: string
  readonly offset: number
  readonly size: number
  readonly alignment: number
}

/** Every part lies in [`from`, end of file), is aligned, and overlaps no other. */
export function checkParts(parts: readonly Part[], from: number, boot: Bootstrap): void {
  const present = parts.filter(part => part.size > 0)
  for (const { name, offset, size, alignment } of present) {
    if (offset % alignment !== 0)
      throw badImage('RAFS_BAD_TABLE', boot, `${name} starts at ${offset}, not at a multiple of ${alignment}`)
    if (offset < from)
      throw badImage(
        'RAFS_BAD_TABLE',
        boot,
        `${name} starts at ${offset}, inside the superblock area of ${from} bytes`,
      )
    if (!boot.has(offset, size))
      throw badImage(
        'RAFS_TRUNCATED',
        boot,
        `${name} takes ${size} bytes at ${offset}, but the file has only ${boot.length}: it is truncated or damaged`,
      )
  }
  const sorted = present.toSorted((a, b) => a.offset - b.offset)
  for (let i = 1; i < sorted.length; i++) {
    const [before, part] = [sorted[i - 1], sorted[i]]
    if (before !== undefined && part !== undefined && before.offset + before.size > part.offset)
      throw badImage('RAFS_BAD_TABLE', boot, `${before.name} and ${part.name} overlap at ${part.offset}`)
  }
}

/** A blob's id, refused when it could not be a file name in the cache. */
export function checkedId(id: string, blobIndex: number, boot: Bootstrap): string {
  try {
    return checkBlobId(id)
  } catch (error) {
    throw badImage('RAFS_BAD_BLOB', boot, `blob ${blobIndex}: ${explain(error)}`, { cause: error })
  }
}

/** rafs-v6.md §5.2. */
export const MAX_COMPRESSED_SIZE = 2 ** 40
const MAX_UNCOMPRESSED_SIZE = 2 ** 44
const KNOWN_FEATURES = Object.values(BLOB_FEATURE).reduce((all, bit) => all | bit, 0)
/** Unknown bits among these make a blob unreadable; others may be ignored. */
const INCOMPATIBLE_FEATURES = 0xffff

/** Limits and feature bits that hold for blobs of both versions. */
export function checkFeatures(
  features: number,
  blobIndex: number,
  uncompressedSize: number,
  compressedSize: number,
  boot: Bootstrap,
): void {
  const unknown = features & INCOMPATIBLE_FEATURES & ~KNOWN_FEATURES
  if (unknown !== 0)
    throw badImage(
      'RAFS_UNKNOWN_FLAGS',
      boot,
      `blob ${blobIndex} has features 0x${features.toString(16)}, of which 0x${unknown.toString(16)} are unknown; ` +
        'it needs a newer reader',
    )
  if (uncompressedSize > MAX_UNCOMPRESSED_SIZE || compressedSize > MAX_COMPRESSED_SIZE)
    throw badImage(
      'RAFS_BAD_BLOB',
      boot,
      `blob ${blobIndex} claims ${compressedSize} bytes (${uncompressedSize} uncompressed), more than 2^40 (2^44)`,
    )
}
