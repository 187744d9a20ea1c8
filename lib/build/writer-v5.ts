/**
 * Writes a RAFS v5 bootstrap (rafs-v5.md): superblock, inode table, prefetch table, blob tables, then the inode
 * records in depth-first order, each with name, link target, xattrs and chunk records behind it.
 */
import { startDigest, digestOf } from '../base/digest.js'
import { NydusError } from '../base/errors.js'
import {
  BlobEntryV5,
  ChunkV5,
  ExtBlobEntryV5,
  InodeV5,
  SuperblockV5,
  V5_ALIGNMENT,
  V5_CHUNK_FLAG,
  V5_INODE_FLAG,
  V5_MAGIC,
  V5_SLOT_SHIFT,
  V5_SLOT_SIZE,
  V5_SUPERBLOCK_SIZE,
  V5_VERSION,
  XattrAreaV5,
  XattrPairV5,
} from '../rafs/layout/v5.js'
import { CHUNK, DIGEST_SIZE } from './chunks.js'
import { V6_SELF_BLOB_BYTE } from '../rafs/layout/v6.js'
import { commonFlags, type BuiltBlob, type BuiltImage } from './image.js'
import { depthFirst } from './order.js'
import { NONE, ROOT, TYPE, type Tree, type Xattr } from './tree.js'

const PREFETCH_ENTRY_SIZE = 4
/** Records are named by `offset >> 3` in 29 bits (rafs-v5.md §3). */
const MAX_BOOTSTRAP = 2 ** 32
const SECTOR = 512
const FOLDER_BLOCK = 4096

function align(n: number): number {
  return Math.ceil(n / V5_ALIGNMENT) * V5_ALIGNMENT
}

/** Bytes of all pairs: size prefix, name, NUL, value. */
function xattrBytes(xattrs: readonly Xattr[]): number {
  let sum = 0
  for (const { name, value } of xattrs) sum += XattrPairV5.size + name.length + 1 + value.length
  return sum
}

/** Inode digests (rafs-v5.md §8) by node: a Merkle tree over content and shape. */
function inodeDigests(image: BuiltImage): Uint8Array {
  const { tree, order, chunks, digester } = image
  const digests = new Uint8Array(tree.rows * DIGEST_SIZE)
  const empty = digestOf(digester, new Uint8Array(0))
  for (let i = order.nodes.length - 1; i >= 0; i--) {
    const node = order.nodes[i] ?? ROOT
    const type = tree.type(node)
    let digest: Uint8Array = empty
    if (type === TYPE.LNK) digest = digestOf(digester, tree.target(node))
    else if (type === TYPE.REG || type === TYPE.DIR) {
      const running = startDigest(digester)
      if (type === TYPE.REG) {
        const start = tree.chunkStart(node)
        for (let at = start; at < start + tree.chunkCount(node); at++) running.update(chunks.digest(chunks.listed(at)))
      } else {
        const first = order.childIndex[node] ?? 0
        for (let at = first - 1; at < first - 1 + (order.childCount[node] ?? 0); at++) {
          const child = order.nodes[at] ?? ROOT
          running.update(digests.subarray(child * DIGEST_SIZE, (child + 1) * DIGEST_SIZE))
        }
      }
      digest = running.digest()
    }
    digests.set(digest, node * DIGEST_SIZE)
  }
  return digests
}

function recordSize(tree: Tree, node: number): number {
  const xattrs = tree.xattrs(node)
  return (
    InodeV5.size +
    align(tree.nameLength(node)) +
    (tree.type(node) === TYPE.LNK ? align(tree.target(node).length) : 0) +
    (xattrs.length > 0 ? XattrAreaV5.size + align(xattrBytes(xattrs)) : 0) +
    (tree.type(node) === TYPE.REG ? tree.chunkCount(node) * ChunkV5.size : 0)
  )
}

/** Size and link count of a folder, both made up by the format: v5 §5. */
function folderFacts(image: BuiltImage, node: number): { size: number; nlink: number } {
  const { tree, order } = image
  let bytes = 0
  let nlink = 2
  const first = order.childIndex[node] ?? 0
  for (let at = first - 1; at < first - 1 + (order.childCount[node] ?? 0); at++) {
    const child = order.nodes[at] ?? ROOT
    bytes += tree.nameLength(child) + 8
    if (tree.type(child) === TYPE.DIR) nlink++
  }
  return { size: bytes === 0 ? FOLDER_BLOCK : Math.ceil(bytes / FOLDER_BLOCK) * FOLDER_BLOCK, nlink }
}

/** A bootstrap cannot know the id of the blob that it will be a part of (rafs-v6.md §10). */
function idBytes(blob: BuiltBlob): Uint8Array {
  return blob.id === '' ? Buffer.alloc(64, V6_SELF_BLOB_BYTE) : Buffer.from(blob.id, 'latin1')
}

function blobTable(image: BuiltImage): Uint8Array {
  const parts: Uint8Array[] = []
  for (const [i, blob] of image.blobs.entries()) {
    const entry = new Uint8Array(BlobEntryV5.size)
    BlobEntryV5.write(entry, { readaheadOffset: 0, readaheadSize: blob.readaheadSize })
    parts.push(entry, idBytes(blob))
    if (i + 1 < image.blobs.length) parts.push(Uint8Array.of(0))
  }
  const bytes = Buffer.concat(parts)
  return Buffer.concat([bytes, Buffer.alloc(align(bytes.length) - bytes.length)])
}

export function writeV5(image: BuiltImage): Uint8Array {
  const { tree, order } = image
  const names = order.nodes.length
  const inodeTable = V5_SUPERBLOCK_SIZE
  const prefetchTable = inodeTable + align(names * V5_SLOT_SIZE)
  const blobs = blobTable(image)
  const blobTableOffset = prefetchTable + align(image.prefetch.length * PREFETCH_ENTRY_SIZE)
  const extTable = blobTableOffset + blobs.length
  let end = extTable + image.blobs.length * ExtBlobEntryV5.size
  const recordAt = new Float64Array(tree.rows)
  for (const node of depthFirst(order)) {
    recordAt[node] = end
    end += recordSize(tree, node)
  }
  if (end >= MAX_BOOTSTRAP)
    throw new NydusError('BUILD_TOO_BIG', 'EFBIG', `the v5 bootstrap would have ${end} bytes, 4 GiB are the limit: use --fs-version 6`)

  const out = new Uint8Array(end)
  const view = new DataView(out.buffer)
  let inodes = 0
  for (let i = 0; i < names; i++) {
    const node = order.nodes[i] ?? ROOT
    view.setUint32(inodeTable + i * V5_SLOT_SIZE, (recordAt[node] ?? 0) / 2 ** V5_SLOT_SHIFT, true)
    if (!tree.isLink(node)) inodes++
  }
  SuperblockV5.write(out, {
    magic: V5_MAGIC,
    version: V5_VERSION,
    superblockSize: V5_SUPERBLOCK_SIZE,
    blockSize: image.chunkSize,
    flags: BigInt(commonFlags(image)),
    inodeCount: BigInt(inodes),
    inodeTableOffset: BigInt(inodeTable),
    prefetchTableOffset: BigInt(prefetchTable),
    blobTableOffset: BigInt(blobTableOffset),
    inodeTableEntries: names,
    prefetchTableEntries: image.prefetch.length,
    blobTableSize: blobs.length,
    extBlobTableEntries: image.blobs.length,
    extBlobTableOffset: BigInt(image.blobs.length > 0 ? extTable : 0),
  })
  image.prefetch.forEach((node, i) =>
    view.setUint32(prefetchTable + i * PREFETCH_ENTRY_SIZE, order.firstName[tree.inodeOf(node)] ?? 0, true),
  )
  out.set(blobs, blobTableOffset)
  image.blobs.forEach((blob, i) =>
    ExtBlobEntryV5.write(
      out,
      {
        chunkCount: blob.chunkCount,
        features: blob.features,
        uncompressedSize: BigInt(blob.uncompressedSize),
        compressedSize: BigInt(blob.compressedSize),
      },
      extTable + i * ExtBlobEntryV5.size,
    ),
  )
  const digests = inodeDigests(image)
  for (const node of order.nodes) writeRecord(image, node, digests, out, recordAt[node] ?? 0)
  return out
}

function writeRecord(image: BuiltImage, node: number, digests: Uint8Array, out: Uint8Array, start: number): void {
  const { tree, order, chunks } = image
  const stat = tree.stat(node)
  const type = tree.type(node)
  const target = type === TYPE.LNK ? tree.target(node) : new Uint8Array(0)
  const xattrs = tree.xattrs(node)
  const content = xattrBytes(xattrs)
  const folder = type === TYPE.DIR ? folderFacts(image, node) : undefined
  const size = folder?.size ?? (type === TYPE.LNK ? target.length : type === TYPE.REG ? stat.size : 0)
  const isDevice = type === TYPE.CHR || type === TYPE.BLK
  const parent = tree.parent(node)
  InodeV5.write(
    out,
    {
      digest: digests.subarray(node * DIGEST_SIZE, (node + 1) * DIGEST_SIZE),
      parent: BigInt(parent === NONE ? 0 : (order.number[parent] ?? 0)),
      ino: BigInt(order.firstName[tree.inodeOf(node)] ?? 0),
      uid: stat.uid,
      gid: stat.gid,
      projid: 0,
      mode: stat.mode,
      size: BigInt(size),
      blocks: BigInt(Math.ceil((size + align(content)) / SECTOR)),
      flags: BigInt(
        (type === TYPE.LNK ? V5_INODE_FLAG.SYMLINK : 0) | (xattrs.length > 0 ? V5_INODE_FLAG.XATTR : 0),
      ),
      nlink: folder?.nlink ?? tree.nlink(node),
      childIndex: folder === undefined ? 0 : (order.childIndex[node] ?? 0),
      childCount: folder !== undefined ? (order.childCount[node] ?? 0) : type === TYPE.REG ? tree.chunkCount(node) : 0,
      nameSize: tree.nameLength(node),
      symlinkSize: target.length,
      rdev: isDevice ? stat.rdev : 0,
      mtimeNs: stat.mtimeNs,
      mtime: BigInt.asUintN(64, BigInt(stat.mtime)),
    },
    start,
  )
  let at = start + InodeV5.size
  out.set(tree.name(node), at)
  at += align(tree.nameLength(node))
  if (type === TYPE.LNK) {
    out.set(target, at)
    at += align(target.length)
  }
  if (xattrs.length > 0) {
    XattrAreaV5.write(out, { total: BigInt(content) }, at)
    let pair = at + XattrAreaV5.size
    for (const { name, value } of xattrs) {
      XattrPairV5.write(out, { size: name.length + 1 + value.length }, pair)
      out.set(name, pair + XattrPairV5.size)
      out.set(value, pair + XattrPairV5.size + name.length + 1)
      pair += XattrPairV5.size + name.length + 1 + value.length
    }
    at += XattrAreaV5.size + align(content)
  }
  if (type !== TYPE.REG) return
  const list = tree.chunkStart(node)
  for (let i = 0; i < tree.chunkCount(node); i++, at += ChunkV5.size)
    writeChunk(out, at, chunks.get(chunks.listed(list + i)), i * image.chunkSize)
}

/** The 80-byte record; v6 keeps the same in its chunk table. */
export function writeChunk(out: Uint8Array, at: number, chunk: ReturnType<BuiltImage['chunks']['get']>, fileOffset: number): void {
  const batch = (chunk.flags & CHUNK.BATCH) !== 0
  ChunkV5.write(
    out,
    {
      digest: chunk.digest,
      blobIndex: chunk.blob,
      // Whether a batch is compressed is said by its window in the CI table.
      flags:
        ((chunk.flags & CHUNK.COMPRESSED) !== 0 && !batch ? V5_CHUNK_FLAG.COMPRESSED : 0) |
        ((chunk.flags & CHUNK.ENCRYPTED) !== 0 ? V5_CHUNK_FLAG.ENCRYPTED : 0) |
        ((chunk.flags & CHUNK.CRC) !== 0 ? V5_CHUNK_FLAG.CRC : 0),
      // A chunk in a batch has no place of its own: the CI table of its blob tells where it is.
      compressedSize: batch ? 0 : chunk.compressedSize,
      uncompressedSize: chunk.uncompressedSize,
      compressedOffset: BigInt(batch ? 0 : chunk.compressedOffset),
      uncompressedOffset: BigInt(chunk.uncompressedOffset),
      fileOffset: BigInt(fileOffset),
      index: chunk.index,
      crc32: (chunk.flags & CHUNK.CRC) !== 0 ? chunk.crc32 : 0,
    },
    at,
  )
}
