/**
 * Writes a RAFS v5 bootstrap (rafs-v5.md): superblock, inode table, prefetch table, blob tables, then the inode
 * records in depth-first order, each with name, link target, xattrs and chunk records behind it.
 */
import { NydusError } from '../base/errors.js'
import {
  BlobEntryV5,
  ChunkV5,
  ExtBlobEntryV5,
  InodeV5,
  SuperblockV5,
  V5_ALIGNMENT,
  V5_INODE_FLAG,
  V5_MAGIC,
  V5_SLOT_SHIFT,
  V5_SLOT_SIZE,
  V5_SUPERBLOCK_SIZE,
  V5_VERSION,
  XattrAreaV5,
  XattrPairV5,
} from '../rafs/layout/v5.js'
import { writeChunk } from './chunk-record.js'
import { DIGEST_SIZE } from './chunks.js'
import { DIGESTER_NUMBER, native } from '../native.js'
import { V6_SELF_BLOB_BYTE } from '../rafs/layout/v6.js'
import { commonFlags, type BuiltBlob, type BuiltImage } from './image.js'
import { depthFirst } from './order.js'
import { setU64 } from '../base/u64.js'
import { NONE, ROOT, TYPE, type Tree, type Xattr } from './tree.js'

const { at: INODE } = InodeV5
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
  const { tree, order, chunks } = image
  const digester = DIGESTER_NUMBER[image.digester]
  const digests = new Uint8Array(tree.rows * DIGEST_SIZE)
  const empty = new Uint8Array(DIGEST_SIZE)
  native.digestInto(digester, new Uint8Array(0), empty)
  /** What is digested next: digests of chunks or children, one behind the other. */
  let parts = new Uint8Array(1024 * DIGEST_SIZE)
  const room = (count: number): void => {
    if (count * DIGEST_SIZE > parts.length) parts = new Uint8Array(count * 2 * DIGEST_SIZE)
  }
  // Children have higher numbers than their folder, so they come first.
  for (let i = order.nodes.length - 1; i >= 0; i--) {
    const node = order.nodes[i] ?? ROOT
    const type = tree.type(node)
    const into = digests.subarray(node * DIGEST_SIZE, (node + 1) * DIGEST_SIZE)
    if (type === TYPE.LNK) native.digestInto(digester, tree.target(node), into)
    else if (type === TYPE.REG) {
      const start = tree.chunkStart(node)
      const count = tree.chunkCount(node)
      room(count)
      for (let k = 0; k < count; k++) chunks.copyDigest(chunks.listed(start + k), parts, k * DIGEST_SIZE)
      native.digestInto(digester, parts.subarray(0, count * DIGEST_SIZE), into)
    } else if (type === TYPE.DIR) {
      const first = (order.childIndex[node] ?? 0) - 1
      const count = order.childCount[node] ?? 0
      room(count)
      for (let k = 0; k < count; k++) {
        const child = (order.nodes[first + k] ?? ROOT) * DIGEST_SIZE
        for (let b = 0; b < DIGEST_SIZE; b++) parts[k * DIGEST_SIZE + b] = digests[child + b] as number
      }
      native.digestInto(digester, parts.subarray(0, count * DIGEST_SIZE), into)
    } else into.set(empty)
  }
  return digests
}

function recordSize(tree: Tree, node: number): number {
  const xattrs = tree.xattrs(node)
  return (
    InodeV5.size +
    align(tree.nameLength(node)) +
    (tree.type(node) === TYPE.LNK ? align(tree.targetLength(node)) : 0) +
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
    throw new NydusError(
      'BUILD_TOO_BIG',
      'EFBIG',
      `the v5 bootstrap would have ${end} bytes, 4 GiB are the limit: use --fs-version 6`,
    )

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
  for (const node of order.nodes) writeRecord(image, node, digests, out, view, recordAt[node] ?? 0)
  return out
}

function writeRecord(
  image: BuiltImage,
  node: number,
  digests: Uint8Array,
  out: Uint8Array,
  view: DataView,
  start: number,
): void {
  const { tree, order, chunks } = image
  const stat = tree.stat(node)
  const type = tree.type(node)
  const targetLength = type === TYPE.LNK ? tree.targetLength(node) : 0
  const nameLength = tree.nameLength(node)
  const xattrs = tree.xattrs(node)
  const content = xattrBytes(xattrs)
  const folder = type === TYPE.DIR ? folderFacts(image, node) : undefined
  const size = folder?.size ?? (type === TYPE.LNK ? targetLength : type === TYPE.REG ? stat.size : 0)
  const chunkCount = type === TYPE.REG ? tree.chunkCount(node) : 0
  const isDevice = type === TYPE.CHR || type === TYPE.BLK
  const parent = tree.parent(node)
  const from = node * DIGEST_SIZE
  for (let i = 0; i < DIGEST_SIZE; i++) out[start + INODE.digest + i] = digests[from + i] as number
  view.setUint32(start + INODE.parent, parent === NONE ? 0 : (order.number[parent] ?? 0), true)
  view.setUint32(start + INODE.ino, order.firstName[tree.inodeOf(node)] ?? 0, true)
  view.setUint32(start + INODE.uid, stat.uid, true)
  view.setUint32(start + INODE.gid, stat.gid, true)
  view.setUint32(start + INODE.mode, stat.mode, true)
  setU64(view, start + INODE.size, size)
  setU64(view, start + INODE.blocks, Math.ceil((size + align(content)) / SECTOR))
  view.setUint32(
    start + INODE.flags,
    (type === TYPE.LNK ? V5_INODE_FLAG.SYMLINK : 0) | (xattrs.length > 0 ? V5_INODE_FLAG.XATTR : 0),
    true,
  )
  view.setUint32(start + INODE.nlink, folder?.nlink ?? tree.nlink(node), true)
  view.setUint32(start + INODE.childIndex, folder === undefined ? 0 : (order.childIndex[node] ?? 0), true)
  view.setUint32(
    start + INODE.childCount,
    folder === undefined ? chunkCount : (order.childCount[node] ?? 0),
    true,
  )
  view.setUint16(start + INODE.nameSize, nameLength, true)
  view.setUint16(start + INODE.symlinkSize, targetLength, true)
  view.setUint32(start + INODE.rdev, isDevice ? stat.rdev : 0, true)
  view.setUint32(start + INODE.mtimeNs, stat.mtimeNs, true)
  setU64(view, start + INODE.mtime, stat.mtime)
  let at = start + InodeV5.size
  const name = tree.nameOffset(node)
  for (let i = 0; i < nameLength; i++) out[at + i] = tree.names.bytes[name + i] as number
  at += align(nameLength)
  if (type === TYPE.LNK) {
    out.set(tree.target(node), at)
    at += align(targetLength)
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
  const list = tree.chunkStart(node)
  for (let i = 0; i < chunkCount; i++, at += ChunkV5.size)
    writeChunk(view, at, chunks, chunks.listed(list + i), i * image.chunkSize)
}
