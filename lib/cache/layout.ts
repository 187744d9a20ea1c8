/**
 * Structures of blob files and of the cache's own files (rafs-v6.md §7, §9; blobs-and-cache.md §6). Tables only:
 * the chunk cache reads them, lib/rafs/layout/v6.ts hands them on to the image builder.
 *
 *     blob:       chunks · [tar header] · CI table · CI header · [tar header] · [digests …] · [bootstrap …] · [TOC …]
 *     blob.meta:  CI table, plain, padded to 4096 · CI header
 *     chunk_map:  header · one bit per chunk
 */
import { layout } from '../base/layout.js'
import { bitField } from '../base/u64.js'

/** Numbers of the compressors in blob tables and CI headers. */
export const V6_COMPRESSOR = ['none', 'lz4_block', 'gzip', 'zstd'] as const

/** RAFS v6 §7: 4096 bytes directly behind the (compressed) CI table; repeats the blob table entry. */
export const CiHeaderV6 = layout('blob_meta_header', 4096, {
  magic: 'u32',
  /** BLOB_FEATURE bits. */
  features: 'u32',
  /** V6_COMPRESSOR. */
  ciCompressor: 'u32',
  entries: 'u32',
  ciOffset: 'u64',
  ciCompressedSize: 'u64',
  ciUncompressedSize: 'u64',
  /** Inside the uncompressed table. */
  windowOffset: 'u64',
  /** Records and dictionaries. */
  windowBytes: 'u64',
  windowCount: 'u32',
  reserved: [4032],
  magic2: 'u32',
})
export const CI_MAGIC = 0xb10b_b10b

/** Of both words the bits are in CI_V1. */
export const CiRecordV1 = layout('blob_chunk_info_v1', 16, { uncompressed: 'u64', compressed: 'u64' })
/** rafs-v6.md §7, "v1 record". Sizes are those of the chunk minus 1, 24 bits each, `sizeTop` the upper four. */
export const CI_V1 = {
  uncompressed: {
    sizeTop: bitField(8, 4),
    /** The offset in blocks. */
    block: bitField(12, 32),
    size: bitField(44, 20),
  },
  compressed: { offset: bitField(0, 40), sizeTop: bitField(40, 4), size: bitField(44, 20) },
  /** Bits of `size`. */
  sizeBits: 20,
} as const
/** Of the first two words the bits are in CI_V2. */
export const CiRecordV2 = layout('blob_chunk_info_v2', 24, {
  uncompressed: 'u64',
  compressed: 'u64',
  /** CRC-32C of the plain chunk, or where it is in the output of its window. */
  value: 'u32',
  window: 'u32',
})
/** rafs-v6.md §7, "v2 record". The uncompressed size is that of the chunk minus 1, the compressed one is not. */
export const CI_V2 = {
  uncompressed: {
    /** The offset in blocks. */
    block: bitField(0, 32),
    size: bitField(32, 24),
    /** CI_V2_FLAG. */
    flags: bitField(56, 8),
  },
  compressed: { offset: bitField(0, 40), size: bitField(40, 24) },
} as const
export const CI_V2_FLAG = { COMPRESSED: 0x01, ZRAN: 0x02, BATCH: 0x04, ENCRYPTED: 0x08, CRC: 0x10 } as const

export const BatchWindowV6 = layout('batch_window', 40, {
  compressedSize: 'u32',
  uncompressedSize: 'u32',
  reserved: [32],
})
export const ZranWindowV6 = layout('zran_window', 40, {
  inOffset: 'u64',
  outOffset: 'u64',
  /** Among the dictionaries behind the window array. */
  dictionaryOffset: 'u64',
  inLength: 'u32',
  outLength: 'u32',
  dictionaryLength: 'u32',
  /** The byte in front of `inOffset`, and how many of its top bits are still unread. */
  byte: 'u8',
  bits: 'u8',
  reserved: [2],
})

/** RAFS v6 §9: entry of a blob's table of contents. */
export const TocEntry = layout('toc_entry', 128, {
  /** Low nibble: TOC_COMPRESSION. */
  flags: 'u32',
  reserved: 'u32',
  /** TOC_NAME, zero padded. */
  name: [16],
  /** sha256 of the uncompressed content. */
  digest: [32],
  offset: 'u64',
  storedSize: 'u64',
  uncompressedSize: 'u64',
  /** Old builders leave garbage. */
  reserved2: [48],
})
export const TOC_COMPRESSION = { NONE: 1, ZSTD: 2, LZ4_BLOCK: 4 } as const
export const TOC_NAME = {
  BLOB_DATA: 'image.blob',
  BLOB_META: 'blob.meta',
  BLOB_META_HEADER: 'blob.meta.header',
  BLOB_DIGEST: 'blob.digest',
  BOOTSTRAP: 'image.boot',
  /** Name in the tar header behind the entries; not an entry itself. */
  TOC: 'rafs.blob.toc',
} as const

/** GNU tar header; those of blob sections stand behind their content (§9). */
export const TarHeader = layout('gnu_tar_header', 512, {
  name: [100],
  mode: [8],
  uid: [8],
  gid: [8],
  /** Octal digits, NUL. */
  size: [12],
  mtime: [12],
  /** Sum of all bytes with this field as spaces. */
  checksum: [8],
  typeflag: 'u8',
  linkname: [100],
  /** `ustar  \0`. */
  magic: [8],
  uname: [32],
  gname: [32],
  devmajor: [8],
  devminor: [8],
  prefix: [155],
  padding: [12],
})

/** blobs-and-cache.md §6: first block of a chunk map; the bits follow, most significant bit of a byte first. */
export const ChunkMapHeader = layout('chunk_map_header', 4096, {
  /** CHUNK_MAP_MAGIC. */
  magic: 'u32',
  /** 1; 0 in maps that have no further fields. */
  version: 'u32',
  /** CHUNK_MAP_MAGIC2. */
  magic2: 'u32',
  /** CHUNK_MAP_ALL_READY once a full map was opened again; bits count all the same. */
  allReady: 'u32',
  reserved: [4080],
})
/** Bytes `50 41 4d 42`. */
export const CHUNK_MAP_MAGIC = 0x424d_4150
/** Bytes `50 41 4d 43`. */
export const CHUNK_MAP_MAGIC2 = 0x434d_4150
export const CHUNK_MAP_ALL_READY = 0x4d4d_4150
export const CHUNK_MAP_VERSION = 1
