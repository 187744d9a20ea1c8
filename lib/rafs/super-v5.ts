/** RAFS v5: superblock, blob table, extended blob table (rafs-v5.md §2, §9, §10). */
import type { BlobInfo } from '../cache/cache.js'
import { u64 } from '../base/u64.js'
import { badImage, type Bootstrap } from './bootstrap.js'
import { RAFS_FLAG, RAFS_FLAGS_V5 } from './layout/flags.js'
import {
  BlobEntryV5,
  ExtBlobEntryV5,
  SuperblockV5,
  V5_ALIGNMENT,
  V5_MAX_BLOBS,
  V5_ROOT_INDEX,
  V5_SLOT_SIZE,
  V5_SUPERBLOCK_SIZE,
  V5_VERSION,
} from './layout/v5.js'
import { V6_SELF_BLOB_BYTE } from './layout/v6.js'
import {
  checkedId,
  checkChunkSize,
  checkFeatures,
  checkParts,
  decodeFlags,
  exact,
  type SuperCommon,
} from './check.js'

export interface SuperV5 extends SuperCommon {
  readonly version: 5
  readonly inodeTableOffset: number
  /** Slots of the inode table = highest child index. */
  readonly inodeTableEntries: number
  /** Records of mid 2020: without uid, gid, rdev, mtime (§10). */
  readonly early: boolean
  /** Chunks have numbers (false in images of 2020, which have no extended blob table). */
  readonly chunksNumbered: boolean
}

/** Stands for the id of the blob that holds the bootstrap; a file cannot know its own digest. */
const SELF = String.fromCharCode(V6_SELF_BLOB_BYTE).repeat(64)

export function readSuperV5(boot: Bootstrap, stem: string): SuperV5 {
  if (!boot.has(0, V5_SUPERBLOCK_SIZE + 1))
    throw badImage(
      'RAFS_TRUNCATED',
      boot,
      `has ${boot.length} bytes, a RAFS v5 bootstrap has more than ${V5_SUPERBLOCK_SIZE}: it is truncated`,
    )
  const sb = SuperblockV5.read(boot.bytes)
  if (sb.version !== V5_VERSION)
    throw badImage(
      'RAFS_BAD_VERSION',
      boot,
      `superblock version is 0x${sb.version.toString(16)}, wanted 0x${V5_VERSION.toString(16)}; convert the image again`,
    )
  if (sb.superblockSize !== V5_SUPERBLOCK_SIZE)
    throw badImage(
      'RAFS_BAD_SUPERBLOCK',
      boot,
      `superblock size is ${sb.superblockSize}, wanted ${V5_SUPERBLOCK_SIZE}`,
    )
  checkChunkSize(sb.blockSize, boot)
  const flags = exact(sb.flags, boot, 'flags')
  const { compressor, digester } = decodeFlags(flags, RAFS_FLAGS_V5, boot)
  const inodeCount = exact(sb.inodeCount, boot, 'inode count')
  if (sb.inodeTableEntries < 1 || inodeCount > sb.inodeTableEntries)
    throw badImage(
      'RAFS_BAD_SUPERBLOCK',
      boot,
      `${inodeCount} inodes in an inode table of ${sb.inodeTableEntries} entries (at least 1, and not fewer than inodes)`,
    )

  const inodeTable = exact(sb.inodeTableOffset, boot, 'inode table offset')
  const prefetchTable = exact(sb.prefetchTableOffset, boot, 'prefetch table offset')
  const blobTable = exact(sb.blobTableOffset, boot, 'blob table offset')
  const extTable = exact(sb.extBlobTableOffset, boot, 'extended blob table offset')
  const part = (name: string, offset: number, size: number) => ({
    name,
    offset,
    size,
    alignment: V5_ALIGNMENT,
  })
  checkParts(
    [
      part('inode table', inodeTable, sb.inodeTableEntries * V5_SLOT_SIZE),
      part('prefetch table', prefetchTable, sb.prefetchTableEntries * V5_SLOT_SIZE),
      part('blob table', blobTable, sb.blobTableSize),
      part('extended blob table', extTable, sb.extBlobTableEntries * ExtBlobEntryV5.size),
    ],
    V5_SUPERBLOCK_SIZE,
    boot,
  )

  const ids = readBlobIds(boot, blobTable, sb.blobTableSize)
  if (sb.extBlobTableEntries !== 0 && sb.extBlobTableEntries !== ids.length)
    throw badImage(
      'RAFS_BAD_TABLE',
      boot,
      `extended blob table has ${sb.extBlobTableEntries} entries for ${ids.length} blobs (one each, or none)`,
    )
  const chunksNumbered = sb.extBlobTableEntries !== 0
  const blobs = ids.map((id, blobIndex): BlobInfo => {
    const ext = chunksNumbered
      ? readExtEntry(boot, extTable + blobIndex * ExtBlobEntryV5.size, blobIndex)
      : { chunkCount: 0, features: 0, compressedSize: 0, uncompressedSize: 0 }
    return {
      id: id === SELF ? checkedId(stem, blobIndex, boot) : id,
      blobIndex,
      rafsVersion: 5,
      compressor,
      digester: digester ?? 'blake3',
      chunkSize: sb.blockSize,
      ...ext,
      ci: { compressor: 'none', offset: 0, compressedSize: 0, uncompressedSize: 0 },
    }
  })

  return {
    version: 5,
    chunkSize: sb.blockSize,
    compressor,
    digester: digester ?? 'blake3',
    ownersKnown: (flags & RAFS_FLAG.EXPLICIT_UIDGID) !== 0,
    hasXattrs: (flags & RAFS_FLAG.HAS_XATTR) !== 0,
    rootIno: V5_ROOT_INDEX,
    inodes: inodeCount,
    blobs,
    prefetchOffset: prefetchTable,
    prefetchEntries: sb.prefetchTableEntries,
    inodeTableOffset: inodeTable,
    inodeTableEntries: sb.inodeTableEntries,
    early: digester === undefined,
    chunksNumbered,
    facts: {
      magic: sb.magic,
      version: sb.version,
      sb_size: sb.superblockSize,
      root_inode: V5_ROOT_INDEX,
      chunk_size: sb.blockSize,
      batch_size: 0,
      inodes_count: inodeCount,
      flags: { bits: flags },
      inode_table_entries: sb.inodeTableEntries,
      inode_table_offset: inodeTable,
      blob_table_size: sb.blobTableSize,
      blob_table_offset: blobTable,
      extended_blob_table_offset: extTable,
      extended_blob_table_entries: sb.extBlobTableEntries,
      blob_device_table_count: 0,
      blob_device_table_offset: 0,
      prefetch_table_offset: prefetchTable,
      prefetch_table_entries: sb.prefetchTableEntries,
      is_chunk_dict: false,
      meta_blkaddr: 0,
      root_nid: 0,
      chunk_table_offset: 0,
      chunk_table_size: 0,
    },
  }
}

/** Entries until no more than padding is left; an id ends at a NUL or at the end of the table. */
function readBlobIds(boot: Bootstrap, offset: number, size: number): string[] {
  const ids: string[] = []
  const end = offset + size
  let at = offset
  while (end - at > BlobEntryV5.size) {
    at += BlobEntryV5.size
    const nul = boot.bytes.subarray(at, end).indexOf(0)
    const idEnd = nul < 0 ? end : at + nul
    if (ids.length === V5_MAX_BLOBS)
      throw badImage('RAFS_BAD_TABLE', boot, `blob table has more than ${V5_MAX_BLOBS} blobs`)
    ids.push(
      checkedId(
        Buffer.from(boot.bytes.subarray(at, Math.min(idEnd, at + 1025))).toString('latin1'),
        ids.length,
        boot,
      ),
    )
    at = idEnd + 1
  }
  return ids
}

type ExtEntry = Pick<BlobInfo, 'chunkCount' | 'features' | 'compressedSize' | 'uncompressedSize'>

function readExtEntry(boot: Bootstrap, at: number, blobIndex: number): ExtEntry {
  const { view } = boot
  const uncompressedSize = u64(view, at + ExtBlobEntryV5.at.uncompressedSize)
  const compressedSize = u64(view, at + ExtBlobEntryV5.at.compressedSize)
  const features = view.getUint32(at + ExtBlobEntryV5.at.features, true)
  checkFeatures(features, blobIndex, uncompressedSize, compressedSize, boot)
  return {
    chunkCount: view.getUint32(at + ExtBlobEntryV5.at.chunkCount, true),
    features,
    uncompressedSize,
    compressedSize,
  }
}
