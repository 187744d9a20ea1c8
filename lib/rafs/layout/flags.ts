/**
 * Superblock flags, the same bits in RAFS v5 (superblock, rafs-v5.md §2) and v6 (extended superblock, rafs-v6.md §3),
 * and the small codings that both versions share. Tables only: used by the reader and by the image builder.
 */

/** Bits of the 64-bit flags field; all that are defined lie in its low half. */
export const RAFS_FLAG = {
  COMPRESSION_NONE: 0x1,
  COMPRESSION_LZ4: 0x2,
  DIGEST_BLAKE3: 0x4,
  DIGEST_SHA256: 0x8,
  /** uid and gid fields are meaningful. Clear (`--repeatable`): they are 0 and the daemon reports its own. */
  EXPLICIT_UIDGID: 0x10,
  HAS_XATTR: 0x20,
  COMPRESSION_GZIP: 0x40,
  COMPRESSION_ZSTD: 0x80,
  /** v6: every blob has the feature INLINED_CHUNK_DIGEST. */
  INLINED_CHUNK_DIGEST: 0x100,
  /** v6: blobs are raw tars, 512-byte blocks. */
  TARFS_MODE: 0x200,
  ENCRYPTION_NONE: 0x0100_0000,
  ENCRYPTION_AES_128_XTS: 0x0200_0000,
} as const

/** Bits that a reader may not know and still read the image. */
export const RAFS_FLAGS_COMPATIBLE = 0xfc00_0000
export const RAFS_FLAGS_V5 =
  RAFS_FLAG.COMPRESSION_NONE |
  RAFS_FLAG.COMPRESSION_LZ4 |
  RAFS_FLAG.DIGEST_BLAKE3 |
  RAFS_FLAG.DIGEST_SHA256 |
  RAFS_FLAG.EXPLICIT_UIDGID |
  RAFS_FLAG.HAS_XATTR |
  RAFS_FLAG.COMPRESSION_GZIP |
  RAFS_FLAG.COMPRESSION_ZSTD
export const RAFS_FLAGS_V6 =
  RAFS_FLAGS_V5 |
  RAFS_FLAG.INLINED_CHUNK_DIGEST |
  RAFS_FLAG.TARFS_MODE |
  RAFS_FLAG.ENCRYPTION_NONE |
  RAFS_FLAG.ENCRYPTION_AES_128_XTS

export const MIN_CHUNK_SIZE = 4096
export const MAX_CHUNK_SIZE = 16 << 20
/** Chunk start alignment of v6 blobs and of v5 blobs built with aligned chunks. */
export const BLOB_ALIGNMENT = 4096

/** Longest name of a directory entry, bytes. */
export const NAME_MAX = 255
/** Namespaces that an image may hold (rafs-v5.md §6); the two ACL names are complete. */
export const XATTR_NAME_MAX = 255

/** mode type bits (S_IFMT and friends), part of the FUSE and Linux ABI. */
export const S_IFMT = 0o170000
export const S_IFSOCK = 0o140000
export const S_IFLNK = 0o120000
export const S_IFREG = 0o100000
export const S_IFBLK = 0o060000
export const S_IFDIR = 0o040000
export const S_IFCHR = 0o020000
export const S_IFIFO = 0o010000
