/**
 * RAFS v6 on-disk structures (rafs-v6.md): an EROFS image with RAFS's own tables beside it. Tables only: reader and
 * image builder share them. The sections of a blob file (chunk information, table of contents) are declared in
 * lib/cache/layout.ts, where they are read.
 *
 *     bootstrap: 1024 zeros · superblock · extended superblock · device slots · blob table · prefetch table
 *                · inodes, dirent blocks · chunk table
 */
import { layout } from '../../base/layout.js'

export {
  BatchWindowV6,
  CI_MAGIC,
  CI_V1,
  CI_V2,
  CI_V2_FLAG,
  CiHeaderV6,
  CiRecordV1,
  CiRecordV2,
  TOC_COMPRESSION,
  TOC_NAME,
  TarHeader,
  TocEntry,
  V6_COMPRESSOR,
  ZranWindowV6,
} from '../../cache/layout.js'

export const V6_SUPERBLOCK_OFFSET = 1024
/** Bytes `e2 e1 f5 e0`. */
export const V6_MAGIC = 0xe0f5_e1e2
/** feature_compat bit that tells RAFS v6 from any other EROFS. */
export const V6_COMPAT_RAFS = 0x4000_0000
/** feature_incompat: exactly chunked files (4) and device table (8). */
export const V6_INCOMPAT = 0xc
export const V6_BLKSZBITS = 12
export const V6_BLKSZBITS_TARFS = 9
/** A bootstrap's size and its tables are multiples of it, whatever the block size. */
export const V6_BLOCK_SIZE = 4096

/** RAFS v6 §2, at 1024. */
export const SuperblockV6 = layout('erofs_super_block', 128, {
  magic: 'u32',
  /** 0: no checksum. */
  checksum: 'u32',
  featureCompat: 'u32',
  blkszbits: 'u8',
  extslots: 'u8',
  rootNid: 'u16',
  /** Names with the root, hard links counted each. */
  inos: 'u64',
  buildTime: 'u64',
  buildTimeNsec: 'u32',
  /** Σ over blobs of floor(uncompressed size / block size). */
  blocks: 'u32',
  metaBlkaddr: 'u32',
  /** 0: no shared xattrs. */
  xattrBlkaddr: 'u32',
  uuid: [16],
  volumeName: [16],
  featureIncompat: 'u32',
  union: 'u16',
  /** Device slots = blobs. */
  extraDevices: 'u16',
  /** Position of the first device slot, in slots. */
  devtSlotoff: 'u16',
  reserved: [38],
})

/** RAFS v6 §3, behind the superblock. */
export const ExtSuperblockV6 = layout('rafs_v6_super_block_ext', 256, {
  /** RAFS_FLAG bits. */
  flags: 'u64',
  /** Multiple of 4096. */
  blobTableOffset: 'u64',
  /** Bytes. */
  blobTableSize: 'u32',
  chunkSize: 'u32',
  /** Multiple of 4096. */
  chunkTableOffset: 'u64',
  /** Bytes; ChunkV5 records sorted by digest. */
  chunkTableSize: 'u64',
  /** 0 = none. */
  prefetchTableOffset: 'u64',
  /** Bytes; nids of V6_PREFETCH_ENTRY_SIZE. */
  prefetchTableSize: 'u32',
  reserved: [204],
})
export const V6_EXT_SUPERBLOCK_OFFSET = V6_SUPERBLOCK_OFFSET + SuperblockV6.size

/** A u32 nid. */
export const V6_PREFETCH_ENTRY_SIZE = 4

/** RAFS v6 §4: slot i belongs to blob i. */
export const DeviceSlotV6 = layout('erofs_deviceslot', 128, {
  /** ASCII, zero padded. */
  blobId: [64],
  /** floor(uncompressed size / block size). */
  blocks: 'u32',
  mappedBlkaddr: 'u32',
  reserved: [56],
})
export const V6_DEVICE_TABLE_OFFSET = V6_EXT_SUPERBLOCK_OFFSET + ExtSuperblockV6.size

/** RAFS v6 §5. */
export const BlobEntryV6 = layout('rafs_v6_blob', 256, {
  /** ASCII, zero padded; 64 × `x` = the blob that holds this bootstrap. */
  blobId: [64],
  /** Position in the table. */
  blobIndex: 'u32',
  chunkSize: 'u32',
  chunkCount: 'u32',
  /** V6_COMPRESSOR. */
  compressor: 'u32',
  /** V6_DIGESTER. */
  digester: 'u32',
  /** BLOB_FEATURE bits (lib/cache/cache.ts). */
  features: 'u32',
  compressedSize: 'u64',
  uncompressedSize: 'u64',
  /** TOC entries with their 512-byte header; 0 = none. */
  tocSize: 'u32',
  /** V6_COMPRESSOR. */
  ciCompressor: 'u32',
  ciOffset: 'u64',
  ciCompressedSize: 'u64',
  ciUncompressedSize: 'u64',
  tocDigest: [32],
  /** SEPARATE: id of the meta blob. ENCRYPTED: the key. */
  metaDigestOrKey: [32],
  /** SEPARATE: u64 size of the meta blob, then zeros. ENCRYPTED: the 16-byte IV. */
  metaSizeOrIv: [16],
  /** V6_CIPHER. */
  cipher: 'u32',
  reserved: [36],
})

export const V6_DIGESTER = ['blake3', 'sha256'] as const
export const V6_CIPHER = { NONE: 0, AES_128_XTS: 1 } as const
/** Byte that fills the id of the blob that holds this bootstrap. */
export const V6_SELF_BLOB_BYTE = 0x78
export const V6_MAX_BLOBS = 254
export const V6_MAX_CHUNKS = 1 << 24

/** RAFS v6 §6.1: inode number (nid) = (offset - start of the meta area) / V6_NID_SIZE. */
export const V6_NID_SIZE = 32

/** RAFS v6 §6.2: i_format bit 0 set. */
export const InodeExtendedV6 = layout('erofs_inode_extended', 64, {
  /** Bit 0: extended; bits 1–3: V6_LAYOUT; the rest 0. */
  format: 'u16',
  xattrIcount: 'u16',
  /** st_mode with type bits. */
  mode: 'u16',
  reserved: 'u16',
  size: 'u64',
  /** Regular: chunk format. Folder, symlink: first data block. Others: rdev. */
  u: 'u32',
  /** Serial number only: guests see the nid. */
  ino: 'u32',
  uid: 'u32',
  gid: 'u32',
  /** Two's complement. */
  mtime: 'u64',
  mtimeNs: 'u32',
  nlink: 'u32',
  reserved2: [16],
})

/** RAFS v6 §6.2: i_format bit 0 clear; has no mtime. */
export const InodeCompactV6 = layout('erofs_inode_compact', 32, {
  format: 'u16',
  xattrIcount: 'u16',
  mode: 'u16',
  nlink: 'u16',
  size: 'u32',
  reserved: 'u32',
  u: 'u32',
  ino: 'u32',
  uid: 'u16',
  gid: 'u16',
  reserved2: 'u32',
})
export const V6_FORMAT_EXTENDED = 1
export const V6_FORMAT_LAYOUT_SHIFT = 1
export const V6_LAYOUT = { PLAIN: 0, INLINE: 2, CHUNKED: 4 } as const

/** RAFS v6 §6.4: n entries, then their names, in each directory block. */
export const DirentV6 = layout('erofs_dirent', 12, {
  nid: 'u64',
  /** Within the block. */
  nameoff: 'u16',
  /** V6_FILE_TYPE. */
  fileType: 'u8',
  reserved: 'u8',
})
export const V6_FILE_TYPE = { REG: 1, DIR: 2, CHR: 3, BLK: 4, FIFO: 5, SOCK: 6, SYMLINK: 7 } as const

/** RAFS v6 §6.5: one per chunk, in an array behind inode and xattrs (8-aligned). */
export const ChunkIndexV6 = layout('erofs_inode_chunk_index', 8, {
  ciIndexLow: 'u16',
  /** Blob index + 1. */
  blob: 'u8',
  ciIndexHigh: 'u8',
  /** Uncompressed offset / block size, in that blob. */
  blkaddr: 'u32',
})
/** i_u of a regular file: bits 0–4 log2(chunk) - blkszbits (see the trap in §6.5), and this bit always. */
export const V6_CHUNK_FORMAT_INDEXES = 0x20
export const V6_CHUNK_FORMAT_BITS = 0x1f

/** RAFS v6 §6.6: area of 12 + 4 × (icount - 1) bytes behind the inode. */
export const XattrHeaderV6 = layout('erofs_xattr_ibody_header', 12, {
  nameFilter: 'u32',
  sharedCount: 'u8',
  reserved: [7],
})
/** Then name suffix and value, padded to 4. */
export const XattrEntryV6 = layout('erofs_xattr_entry', 4, {
  nameLength: 'u8',
  /** V6_XATTR_PREFIX. */
  nameIndex: 'u8',
  valueSize: 'u16',
})
/** Namespace number → prefix of the full name. */
export const V6_XATTR_PREFIX: Readonly<Record<number, string>> = {
  1: 'user.',
  2: 'system.posix_acl_access',
  3: 'system.posix_acl_default',
  4: 'trusted.',
  6: 'security.',
}
export const V6_XATTR_ALIGNMENT = 4

/** Readers refuse longer targets. */
export const V6_SYMLINK_MAX = 4096
