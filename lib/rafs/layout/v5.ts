/**
 * RAFS v5 on-disk structures (rafs-v5.md). Tables only: the reader and the image builder share them.
 *
 *     superblock ─┬─ inode table (u32 slots) ──> inode record: header · name · symlink · xattrs · chunk records
 *                 ├─ prefetch table (u32 inode numbers)
 *                 ├─ blob table (entry header · id · NUL …)
 *                 └─ extended blob table
 */
import { layout } from '../../base/layout.js'

/** Bytes `53 46 41 52`. */
export const V5_MAGIC = 0x5241_4653
export const V5_VERSION = 0x500
export const V5_SUPERBLOCK_SIZE = 8192
/** Every part of the file starts on such a boundary, and so does every part of an inode record. */
export const V5_ALIGNMENT = 8

/** RAFS v5 §2. In images of 2020 the extended blob table fields are reserved and zero. */
export const SuperblockV5 = layout('rafs_v5_super_block', V5_SUPERBLOCK_SIZE, {
  magic: 'u32',
  version: 'u32',
  superblockSize: 'u32',
  /** Block size = chunk size: a power of two, 4 KiB to 16 MiB. */
  blockSize: 'u32',
  flags: 'u64',
  /** Unique inodes; builders of 2020 to 2022 leave the root out. Informative. */
  inodeCount: 'u64',
  inodeTableOffset: 'u64',
  prefetchTableOffset: 'u64',
  blobTableOffset: 'u64',
  /** Slots of the inode table: names, hard links counted each. */
  inodeTableEntries: 'u32',
  prefetchTableEntries: 'u32',
  /** Bytes, padding included. */
  blobTableSize: 'u32',
  extBlobTableEntries: 'u32',
  extBlobTableOffset: 'u64',
  reserved: [8112],
})

/** An inode table slot is a u32: record offset >> V5_SLOT_SHIFT. The first slot belongs to child index 1, the root. */
export const V5_SLOT_SIZE = 4
export const V5_SLOT_SHIFT = 3
export const V5_ROOT_INDEX = 1

/** RAFS v5 §5: header of an inode record; its tail follows (name, symlink target, xattrs, chunk records). */
export const InodeV5 = layout('rafs_v5_inode', 128, {
  digest: [32],
  /** ino of the folder this name is in; 0 for the root. */
  parent: 'u64',
  ino: 'u64',
  uid: 'u32',
  gid: 'u32',
  projid: 'u32',
  /** st_mode with type bits. */
  mode: 'u32',
  size: 'u64',
  /** 512-byte units, xattrs counted in. */
  blocks: 'u64',
  /** V5_INODE_FLAG. */
  flags: 'u64',
  nlink: 'u32',
  /** Folders: child index of the first child. */
  childIndex: 'u32',
  /** Folders: children. Regular files: chunk records. */
  childCount: 'u32',
  /** Bytes without padding; the root has 1, `/`. */
  nameSize: 'u16',
  symlinkSize: 'u16',
  /** Linux 32-bit dev_t; meaningless except for devices. From here on zero in images of 2020. */
  rdev: 'u32',
  mtimeNs: 'u32',
  /** Two's complement. */
  mtime: 'u64',
  reserved: [8],
})

/**
 * RAFS v5 §10: the record before uid and gid were there (mid 2020; no digest flag in the superblock). Name and
 * symlink sizes are rounded up to 8: strip trailing zeros.
 */
export const InodeV5Early = layout('rafs_v5_inode_2020', 128, {
  digest: [32],
  parent: 'u64',
  ino: 'u64',
  projid: 'u32',
  mode: 'u32',
  size: 'u64',
  nlink: 'u64',
  blocks: 'u64',
  flags: 'u64',
  childIndex: 'u32',
  childCount: 'u32',
  nameSize: 'u16',
  symlinkSize: 'u16',
  reserved: [28],
})

export const V5_INODE_FLAG = { SYMLINK: 1, HARDLINK: 2, XATTR: 4, HAS_HOLE: 8 } as const

/** Xattrs of an inode: u64 length of all pairs, the pairs, padding to 8. A pair: u32 n, then n bytes name NUL value. */
export const XattrAreaV5 = layout('rafs_v5_xattr_area', 8, { total: 'u64' })
export const XattrPairV5 = layout('rafs_v5_xattr_pair', 4, { size: 'u32' })

/** RAFS v5 §7: chunk record, also the element of the v6 chunk table. */
export const ChunkV5 = layout('rafs_v5_chunk_info', 80, {
  /** Of the uncompressed chunk. */
  digest: [32],
  blobIndex: 'u32',
  /** V5_CHUNK_FLAG. */
  flags: 'u32',
  /** Bytes that it takes in the blob. */
  compressedSize: 'u32',
  uncompressedSize: 'u32',
  /** In the blob file. */
  compressedOffset: 'u64',
  /** In the virtual uncompressed blob = in the cache's data file. */
  uncompressedOffset: 'u64',
  fileOffset: 'u64',
  /** Number of the chunk in its blob; always 0 in images of 2020. */
  index: 'u32',
  /** CRC-32C of the uncompressed chunk, when the CRC flag is set. */
  crc32: 'u32',
})

export const V5_CHUNK_FLAG = { COMPRESSED: 1, HOLE: 2, ENCRYPTED: 4, BATCH: 8, CRC: 0x10 } as const

/** RAFS v5 §9: in front of a blob id (ASCII, NUL behind all but the last). */
export const BlobEntryV5 = layout('rafs_v5_blob_entry', 8, {
  readaheadOffset: 'u32',
  readaheadSize: 'u32',
})

/** RAFS v5 §9; absent in images of 2020. */
export const ExtBlobEntryV5 = layout('rafs_v5_ext_blob_entry', 64, {
  chunkCount: 'u32',
  /** BLOB_FEATURE bits (lib/cache/cache.ts). */
  features: 'u32',
  uncompressedSize: 'u64',
  compressedSize: 'u64',
  reserved: [40],
})

/** Blobs of one image at most. */
export const V5_MAX_BLOBS = 256
/** Longest name a reader accepts (256; builders stop at 255). */
export const V5_NAME_MAX = 256
