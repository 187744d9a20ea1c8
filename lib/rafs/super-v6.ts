/** RAFS v6: both superblocks, device slots, and where the tables lie (rafs-v6.md §2–§4). */
import { badImage, type Bootstrap } from './bootstrap.js'
import { readBlobTableV6 } from './blob-table-v6.js'
import { RAFS_FLAG, RAFS_FLAGS_V6 } from './layout/flags.js'
import { ChunkV5 } from './layout/v5.js'
import {
  BlobEntryV6,
  DeviceSlotV6,
  ExtSuperblockV6,
  SuperblockV6,
  V6_BLKSZBITS,
  V6_BLKSZBITS_TARFS,
  V6_BLOCK_SIZE,
  V6_COMPAT_RAFS,
  V6_EXT_SUPERBLOCK_OFFSET,
  V6_INCOMPAT,
  V6_NID_SIZE,
  V6_PREFETCH_ENTRY_SIZE,
  V6_SUPERBLOCK_OFFSET,
} from './layout/v6.js'
import { checkChunkSize, checkParts, decodeFlags, exact, type SuperCommon } from './check.js'

export interface SuperV6 extends SuperCommon {
  readonly version: 6
  readonly blockSize: number
  /** Byte offset that nids count from, in units of 32. */
  readonly metaOffset: number
  readonly tarfs: boolean
  /** ChunkV5 records sorted by digest; size in bytes, 0 = none. */
  readonly chunkTableOffset: number
  readonly chunkTableSize: number
}

export function readSuperV6(boot: Bootstrap, stem: string): SuperV6 {
  if (!boot.has(V6_EXT_SUPERBLOCK_OFFSET, ExtSuperblockV6.size))
    throw badImage('RAFS_TRUNCATED', boot, `ends at ${boot.length}, inside its superblock: it is truncated`)
  const sb = SuperblockV6.read(boot.bytes, V6_SUPERBLOCK_OFFSET)
  if ((sb.featureCompat & V6_COMPAT_RAFS) === 0)
    throw badImage(
      'RAFS_BAD_VERSION',
      boot,
      'is an EROFS image, but not a RAFS v6 one (feature_compat bit 30 is clear)',
    )
  const wanted = (name: string, value: number, want: number) => {
    if (value !== want)
      throw badImage('RAFS_BAD_SUPERBLOCK', boot, `superblock ${name} is ${value}, wanted ${want}`)
  }
  wanted('feature_incompat', sb.featureIncompat, V6_INCOMPAT)
  wanted('checksum', sb.checksum, 0)
  wanted('extslots', sb.extslots, 0)
  wanted('xattr_blkaddr', sb.xattrBlkaddr, 0)

  const ext = ExtSuperblockV6.read(boot.bytes, V6_EXT_SUPERBLOCK_OFFSET)
  const flags = exact(ext.flags, boot, 'flags')
  const { compressor, digester } = decodeFlags(flags, RAFS_FLAGS_V6, boot)
  if (digester === undefined)
    throw badImage('RAFS_BAD_SUPERBLOCK', boot, `superblock flags 0x${flags.toString(16)} name no digester`)
  if ((flags & RAFS_FLAG.ENCRYPTION_NONE) !== 0 && (flags & RAFS_FLAG.ENCRYPTION_AES_128_XTS) !== 0)
    throw badImage('RAFS_BAD_SUPERBLOCK', boot, `superblock flags 0x${flags.toString(16)} name two ciphers`)
  const tarfs = (flags & RAFS_FLAG.TARFS_MODE) !== 0
  wanted('blkszbits', sb.blkszbits, tarfs ? V6_BLKSZBITS_TARFS : V6_BLKSZBITS)
  const blockSize = 2 ** sb.blkszbits
  if (boot.length % blockSize !== 0)
    throw badImage(
      'RAFS_TRUNCATED',
      boot,
      `has ${boot.length} bytes, not a multiple of its block size ${blockSize}: it is truncated`,
    )
  checkChunkSize(ext.chunkSize, boot)
  const inodes = exact(sb.inos, boot, 'inos')
  if (inodes === 0)
    throw badImage('RAFS_BAD_SUPERBLOCK', boot, 'superblock inos is 0, there is at least a root')

  const blobTable = exact(ext.blobTableOffset, boot, 'blob table offset')
  const chunkTable = exact(ext.chunkTableOffset, boot, 'chunk table offset')
  const chunkTableSize = exact(ext.chunkTableSize, boot, 'chunk table size')
  const prefetchTable = exact(ext.prefetchTableOffset, boot, 'prefetch table offset')
  wholeEntries('blob table', ext.blobTableSize, BlobEntryV6.size, boot)
  wholeEntries('chunk table', chunkTableSize, ChunkV5.size, boot)
  wholeEntries('prefetch table', ext.prefetchTableSize, V6_PREFETCH_ENTRY_SIZE, boot)
  const blobCount = ext.blobTableSize / BlobEntryV6.size
  wanted('extra_devices (one per entry of the blob table)', sb.extraDevices, blobCount)
  const deviceTable = sb.devtSlotoff * DeviceSlotV6.size
  const metaOffset = sb.metaBlkaddr * blockSize
  const rootOffset = metaOffset + sb.rootNid * V6_NID_SIZE
  checkParts(
    [
      {
        name: 'device table',
        offset: deviceTable,
        size: blobCount * DeviceSlotV6.size,
        alignment: DeviceSlotV6.size,
      },
      { name: 'blob table', offset: blobTable, size: ext.blobTableSize, alignment: V6_BLOCK_SIZE },
      { name: 'prefetch table', offset: prefetchTable, size: ext.prefetchTableSize, alignment: 1 },
      { name: 'chunk table', offset: chunkTable, size: chunkTableSize, alignment: V6_BLOCK_SIZE },
      { name: 'root inode', offset: rootOffset, size: V6_NID_SIZE, alignment: V6_NID_SIZE },
    ],
    V6_EXT_SUPERBLOCK_OFFSET + ExtSuperblockV6.size,
    boot,
  )

  return {
    version: 6,
    chunkSize: ext.chunkSize,
    compressor,
    digester,
    ownersKnown: (flags & RAFS_FLAG.EXPLICIT_UIDGID) !== 0,
    hasXattrs: (flags & RAFS_FLAG.HAS_XATTR) !== 0,
    rootIno: sb.rootNid,
    inodes,
    blobs: readBlobTableV6(boot, {
      offset: blobTable,
      count: blobCount,
      chunkSize: ext.chunkSize,
      tarfs,
      stem,
    }),
    prefetchOffset: prefetchTable,
    prefetchEntries: ext.prefetchTableSize / V6_PREFETCH_ENTRY_SIZE,
    blockSize,
    metaOffset,
    tarfs,
    chunkTableOffset: chunkTable,
    chunkTableSize,
    facts: {
      magic: sb.magic,
      version: V6_VERSION,
      sb_size: V6_EXT_SUPERBLOCK_OFFSET + ExtSuperblockV6.size,
      root_inode: sb.rootNid,
      chunk_size: ext.chunkSize,
      batch_size: 0,
      inodes_count: inodes,
      flags: { bits: flags },
      inode_table_entries: 0,
      inode_table_offset: 0,
      blob_table_size: ext.blobTableSize,
      blob_table_offset: blobTable,
      extended_blob_table_offset: 0,
      extended_blob_table_entries: 0,
      blob_device_table_count: sb.extraDevices,
      blob_device_table_offset: deviceTable,
      prefetch_table_offset: prefetchTable,
      prefetch_table_entries: ext.prefetchTableSize / V6_PREFETCH_ENTRY_SIZE,
      is_chunk_dict: false,
      meta_blkaddr: sb.metaBlkaddr,
      root_nid: sb.rootNid,
      chunk_table_offset: chunkTable,
      chunk_table_size: chunkTableSize,
    },
  }
}

/** How the API calls this format. */
const V6_VERSION = 0x600

function wholeEntries(name: string, size: number, entry: number, boot: Bootstrap): void {
  if (size % entry !== 0)
    throw badImage(
      'RAFS_BAD_TABLE',
      boot,
      `${name} has ${size} bytes, not a multiple of its entries' ${entry}`,
    )
}
