/**
 * Writes v6 bootstraps of any number of files, fast and in little memory: `folders` folders below the root, each with
 * the same number of files of one chunk. Sizes are the same everywhere, so every place can be calculated.
 *
 *     superblocks · device slot · blob table · root · folder 0 · folder 1 · … · chunk table
 *     folder: dirent blocks · its inode · inodes of its files
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import { BLOB_FEATURE } from '../../cache/cache.js'
import { RAFS_FLAG, S_IFDIR, S_IFREG } from '../layout/flags.js'
import { ChunkV5 } from '../layout/v5.js'
import {
  BlobEntryV6,
  ChunkIndexV6,
  CiRecordV1,
  DeviceSlotV6,
  DirentV6,
  ExtSuperblockV6,
  InodeExtendedV6,
  SuperblockV6,
  V6_BLKSZBITS,
  V6_BLOCK_SIZE,
  V6_CHUNK_FORMAT_INDEXES,
  V6_COMPAT_RAFS,
  V6_DEVICE_TABLE_OFFSET,
  V6_EXT_SUPERBLOCK_OFFSET,
  V6_FILE_TYPE,
  V6_FORMAT_EXTENDED,
  V6_FORMAT_LAYOUT_SHIFT,
  V6_INCOMPAT,
  V6_LAYOUT,
  V6_MAGIC,
  V6_NID_SIZE,
  V6_SUPERBLOCK_OFFSET,
} from '../layout/v6.js'
import { latin1 } from './sinks.js'

export interface LargeImage {
  readonly folders: number
  readonly filesPerFolder: number
  /** With a digest for every chunk. */
  readonly chunkTable?: boolean
}

const BLOB_ID = 'ab'.repeat(32)
const CHUNK_SIZE = 1 << 20
const FILE_SIZE = 1000
/** Inode, chunk index, rounded up to where the next nid can be. */
const FILE_STRIDE = 96
const META_BLOCK = 2
const ROOT_OFFSET = 3 * V6_BLOCK_SIZE
const RECORDS_PER_WRITE = 8192

export function folderName(i: number): string {
  return `folder-${String(i).padStart(7, '0')}`
}

export function fileName(i: number): string {
  return `file-${String(i).padStart(9, '0')}`
}

/** Returns the file's length in bytes. */
export function writeLargeV6(
  path: string,
  { folders, filesPerFolder, chunkTable = false }: LargeImage,
): number {
  const rootBytes = direntBytes(folders, folderName(0).length)
  const rootSpace = round(InodeExtendedV6.size) + round(rootBytes)
  const folderDirents = round(direntBytes(filesPerFolder, fileName(0).length))
  const folderSpace = folderDirents + round(InodeExtendedV6.size + filesPerFolder * FILE_STRIDE)
  const firstFolder = ROOT_OFFSET + rootSpace
  const files = folders * filesPerFolder
  const tableOffset = firstFolder + folders * folderSpace
  const tableSize = chunkTable ? files * ChunkV5.size : 0
  const folderInode = (i: number) => firstFolder + i * folderSpace + folderDirents
  const fileInode = (folder: number, i: number) =>
    folderInode(folder) + InodeExtendedV6.size + i * FILE_STRIDE

  const fd = openSync(path, 'w')
  try {
    const head = new Uint8Array(firstFolder)
    writeTables(head, files, folders, tableOffset, tableSize)
    writeInode(head, ROOT_OFFSET, {
      mode: S_IFDIR | 0o755,
      size: rootBytes,
      u: ROOT_OFFSET / V6_BLOCK_SIZE + 1,
      nlink: folders + 2,
    })
    writeDirents(
      head,
      ROOT_OFFSET + V6_BLOCK_SIZE,
      ROOT_OFFSET,
      ROOT_OFFSET,
      folders,
      folderName,
      folderInode,
      V6_FILE_TYPE.DIR,
    )
    writeSync(fd, head)
    const space = new Uint8Array(folderSpace)
    for (let folder = 0; folder < folders; folder++) {
      const start = firstFolder + folder * folderSpace
      space.fill(0)
      const inode = (i: number) => fileInode(folder, i)
      writeDirents(
        space,
        0,
        folderInode(folder),
        ROOT_OFFSET,
        filesPerFolder,
        fileName,
        inode,
        V6_FILE_TYPE.REG,
      )
      const size = direntBytes(filesPerFolder, fileName(0).length)
      writeInode(space, folderDirents, { mode: S_IFDIR | 0o755, size, u: start / V6_BLOCK_SIZE, nlink: 2 })
      for (let i = 0; i < filesPerFolder; i++) {
        const at = inode(i) - start
        writeInode(space, at, {
          mode: S_IFREG | 0o644,
          size: FILE_SIZE,
          u: V6_CHUNK_FORMAT_INDEXES | 8,
          nlink: 1,
        })
        writeChunkIndex(space, at + InodeExtendedV6.size, folder * filesPerFolder + i)
      }
      writeSync(fd, space)
    }
    return tableOffset + (chunkTable ? writeChunkTable(fd, files) : 0)
  } finally {
    closeSync(fd)
  }
}

function round(size: number): number {
  return Math.ceil(size / V6_BLOCK_SIZE) * V6_BLOCK_SIZE
}

/** Entries of a name length that fit into a block; `.` and `..` are counted as if they were as long. */
function perBlock(nameLength: number): number {
  return Math.floor(V6_BLOCK_SIZE / (DirentV6.size + nameLength))
}

/** All blocks but the last count as full. */
function direntBytes(entries: number, nameLength: number): number {
  const blocks = Math.ceil((entries + 2) / perBlock(nameLength))
  const inLast = entries + 2 - (blocks - 1) * perBlock(nameLength)
  const dots = blocks === 1 ? 2 * nameLength - 3 : 0
  return (blocks - 1) * V6_BLOCK_SIZE + inLast * (DirentV6.size + nameLength) - dots
}

function writeTables(
  head: Uint8Array,
  files: number,
  folders: number,
  tableOffset: number,
  tableSize: number,
): void {
  const blobTable = V6_BLOCK_SIZE
  SuperblockV6.write(
    head,
    {
      magic: V6_MAGIC,
      featureCompat: V6_COMPAT_RAFS,
      blkszbits: V6_BLKSZBITS,
      rootNid: (ROOT_OFFSET - META_BLOCK * V6_BLOCK_SIZE) / V6_NID_SIZE,
      inos: BigInt(files + folders + 1),
      blocks: files,
      metaBlkaddr: META_BLOCK,
      featureIncompat: V6_INCOMPAT,
      extraDevices: 1,
      devtSlotoff: V6_DEVICE_TABLE_OFFSET / DeviceSlotV6.size,
    },
    V6_SUPERBLOCK_OFFSET,
  )
  ExtSuperblockV6.write(
    head,
    {
      flags: BigInt(RAFS_FLAG.COMPRESSION_NONE | RAFS_FLAG.DIGEST_SHA256 | RAFS_FLAG.EXPLICIT_UIDGID),
      blobTableOffset: BigInt(blobTable),
      blobTableSize: BlobEntryV6.size,
      chunkSize: CHUNK_SIZE,
      chunkTableOffset: BigInt(tableOffset),
      chunkTableSize: BigInt(tableSize),
    },
    V6_EXT_SUPERBLOCK_OFFSET,
  )
  DeviceSlotV6.write(head, { blobId: latin1(BLOB_ID), blocks: files }, V6_DEVICE_TABLE_OFFSET)
  const ciSize = BigInt(files * CiRecordV1.size)
  BlobEntryV6.write(
    head,
    {
      blobId: latin1(BLOB_ID),
      chunkSize: CHUNK_SIZE,
      chunkCount: files,
      digester: 1,
      features: BLOB_FEATURE.ALIGNED | BLOB_FEATURE.CAP_TAR_TOC,
      compressedSize: BigInt(files * FILE_SIZE),
      uncompressedSize: BigInt(files * V6_BLOCK_SIZE),
      ciOffset: BigInt(files * FILE_SIZE),
      ciCompressedSize: ciSize,
      ciUncompressedSize: ciSize,
    },
    blobTable,
  )
}

interface Inode {
  readonly mode: number
  readonly size: number
  readonly u: number
  readonly nlink: number
}

/** Field by field: a million calls of Layout.write would take most of the time. */
function writeInode(bytes: Uint8Array, at: number, { mode, size, u, nlink }: Inode): void {
  const view = new DataView(bytes.buffer)
  const field = InodeExtendedV6.at
  const dataLayout = (mode & S_IFREG) === S_IFREG ? V6_LAYOUT.CHUNKED : V6_LAYOUT.PLAIN
  view.setUint16(at + field.format, V6_FORMAT_EXTENDED | (dataLayout << V6_FORMAT_LAYOUT_SHIFT), true)
  view.setUint16(at + field.mode, mode, true)
  view.setUint32(at + field.size, size, true)
  view.setUint32(at + field.u, u, true)
  view.setUint32(at + field.mtime, 1_600_000_000, true)
  view.setUint32(at + field.nlink, nlink, true)
}

function writeChunkIndex(bytes: Uint8Array, at: number, index: number): void {
  const view = new DataView(bytes.buffer)
  view.setUint16(at + ChunkIndexV6.at.ciIndexLow, index & 0xffff, true)
  view.setUint8(at + ChunkIndexV6.at.blob, 1)
  view.setUint8(at + ChunkIndexV6.at.ciIndexHigh, index >>> 16)
  view.setUint32(at + ChunkIndexV6.at.blkaddr, index, true)
}

function writeDirents(
  bytes: Uint8Array,
  start: number,
  self: number,
  parent: number,
  entries: number,
  nameOf: (i: number) => string,
  inodeOf: (i: number) => number,
  type: number,
): void {
  const view = new DataView(bytes.buffer)
  const capacity = perBlock(nameOf(0).length)
  for (let i = 0, block = start; i < entries + 2; block += V6_BLOCK_SIZE) {
    const count = Math.min(capacity, entries + 2 - i)
    let name = count * DirentV6.size
    for (let k = 0; k < count; k++, i++) {
      const dots = i < 2
      const text = dots ? '..'.slice(1 - i) : nameOf(i - 2)
      const inode = dots ? [self, parent][i] : inodeOf(i - 2)
      const at = block + k * DirentV6.size
      const nid = ((inode ?? 0) - META_BLOCK * V6_BLOCK_SIZE) / V6_NID_SIZE
      view.setUint32(at + DirentV6.at.nid, nid, true)
      view.setUint16(at + DirentV6.at.nameoff, name, true)
      view.setUint8(at + DirentV6.at.fileType, dots ? V6_FILE_TYPE.DIR : type)
      for (let c = 0; c < text.length; c++) bytes[block + name + c] = text.charCodeAt(c)
      name += text.length
    }
  }
}

/** Records of made-up digests, in digest order; returns the bytes written. */
function writeChunkTable(fd: number, files: number): number {
  const buffer = new Uint8Array(RECORDS_PER_WRITE * ChunkV5.size)
  const view = new DataView(buffer.buffer)
  let written = 0
  for (let i = 0; i < files;) {
    const count = Math.min(RECORDS_PER_WRITE, files - i)
    for (let k = 0; k < count; k++, i++) {
      const at = k * ChunkV5.size
      view.setUint32(at, i, false)
      view.setUint32(at + 28, ~i, false)
      // Sorted by digest, not by number.
      const index = (i * 7919) % files
      view.setUint32(at + ChunkV5.at.compressedSize, FILE_SIZE, true)
      view.setUint32(at + ChunkV5.at.uncompressedSize, FILE_SIZE, true)
      view.setUint32(at + ChunkV5.at.index, index, true)
    }
    written += writeSync(fd, buffer, 0, count * ChunkV5.size)
  }
  return written + writeSync(fd, new Uint8Array(round(written) - written))
}
