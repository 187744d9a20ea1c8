/**
 * Writes a RAFS v6 bootstrap (rafs-v6.md): superblocks, device slots, blob table and prefetch table, then inodes with
 * their directory blocks, then the chunk table.
 */
import { NydusError } from '../base/errors.js'
import { BLOB_FEATURE } from '../cache/cache.js'
import { ChunkV5 } from '../rafs/layout/v5.js'
import { RAFS_FLAG } from '../rafs/layout/flags.js'
import {
  BlobEntryV6,
  ChunkIndexV6,
  DeviceSlotV6,
  ExtSuperblockV6,
  InodeExtendedV6,
  SuperblockV6,
  V6_BLKSZBITS,
  V6_BLKSZBITS_TARFS,
  V6_BLOCK_SIZE,
  V6_CHUNK_FORMAT_INDEXES,
  V6_CIPHER,
  V6_COMPAT_RAFS,
  V6_COMPRESSOR,
  V6_DEVICE_TABLE_OFFSET,
  V6_DIGESTER,
  V6_EXT_SUPERBLOCK_OFFSET,
  V6_FORMAT_EXTENDED,
  V6_FORMAT_LAYOUT_SHIFT,
  V6_INCOMPAT,
  V6_LAYOUT,
  V6_MAGIC,
  V6_MAX_BLOBS,
  V6_NID_SIZE,
  V6_PREFETCH_ENTRY_SIZE,
  V6_SELF_BLOB_BYTE,
  V6_SUPERBLOCK_OFFSET,
} from '../rafs/layout/v6.js'
import type { Chunks } from './chunks.js'
import { commonFlags, hasFeature, type BuiltBlob, type BuiltImage } from './image.js'
import { isFirstName } from './order.js'
import { NONE, ROOT, TYPE } from './tree.js'
import { dirSize, fileTypeOf, writeDir, writeXattrs, xattrAreaSize, xattrIcount, type DirEntry } from './v6-parts.js'
import { Placement } from './v6-placement.js'
import { writeChunk } from './writer-v5.js'

/** Blobs are mapped behind the bootstrap, each at a multiple of this (rafs-v6.md §4). */
const MAPPED_ALIGNMENT = 0x80000
const DOT = Buffer.from('.')
const DOT_DOT = Buffer.from('..')
const INDEX_ALIGNMENT = 8

function toBlock(n: number): number {
  return Math.ceil(n / V6_BLOCK_SIZE) * V6_BLOCK_SIZE
}

/** Of directories, flat data and device addresses; the bootstrap's own tables are aligned to V6_BLOCK_SIZE in any case. */
function blockSizeOf(image: BuiltImage): number {
  return 1 << (image.tarfs === true ? V6_BLKSZBITS_TARFS : V6_BLKSZBITS)
}

/** Offsets of the parts in front of the inodes. */
interface Front {
  readonly blobTable: number
  readonly prefetchTable: number
  /** Start of the metadata area. */
  readonly meta: number
}

function frontOf(image: BuiltImage): Front {
  const blobTable = toBlock(V6_DEVICE_TABLE_OFFSET + DeviceSlotV6.size * image.blobs.length)
  const prefetchTable = blobTable + BlobEntryV6.size * image.blobs.length
  const end = prefetchTable + image.prefetch.length * V6_PREFETCH_ENTRY_SIZE
  return { blobTable, prefetchTable, meta: image.blobs.length === 0 ? 0 : toBlock(end) }
}

/** Where everything lies, by node; links share the place of their inode. Offsets within the metadata area. */
interface Places {
  readonly inode: Float64Array
  readonly data: Float64Array
  readonly size: Float64Array
  readonly inline: Uint8Array
  readonly end: number
}

function place(image: BuiltImage): Places {
  const { tree, order } = image
  const placement = new Placement(blockSizeOf(image))
  const places = {
    inode: new Float64Array(tree.rows),
    data: new Float64Array(tree.rows),
    size: new Float64Array(tree.rows),
    inline: new Uint8Array(tree.rows),
  }
  const put = (node: number): void => {
    const inode = tree.inodeOf(node)
    const head = InodeExtendedV6.size + xattrAreaSize(tree.xattrs(node))
    const type = tree.type(node)
    if (type === TYPE.DIR || type === TYPE.LNK) {
      const size = type === TYPE.DIR ? dirSize(nameLengths(image, node), blockSizeOf(image)) : tree.target(node).length
      const placed = placement.flat(head, size)
      places.size[inode] = size
      places.inode[inode] = placed.inode
      places.data[inode] = placed.data
      places.inline[inode] = placed.inline ? 1 : 0
    } else if (type === TYPE.REG)
      places.inode[inode] = placement.file(
        Math.ceil(head / INDEX_ALIGNMENT) * INDEX_ALIGNMENT + tree.chunkCount(node) * ChunkIndexV6.size,
      )
    else places.inode[inode] = placement.special(head)
  }
  const folders = [ROOT]
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    put(folder)
    const first = (order.childIndex[folder] ?? 0) - 1
    const count = order.childCount[folder] ?? 0
    for (let i = 0; i < count; i++) {
      const child = order.nodes[first + i] ?? NONE
      if (tree.type(child) !== TYPE.DIR && isFirstName(tree, order, child)) put(child)
    }
    for (let i = count - 1; i >= 0; i--) {
      const child = order.nodes[first + i] ?? NONE
      if (tree.type(child) === TYPE.DIR) folders.push(child)
    }
  }
  return { ...places, end: placement.end }
}

/** Children with `.` and `..` in their places, as [name, node]. */
function* dirNames(image: BuiltImage, folder: number): Generator<[Uint8Array, number]> {
  const { tree, order } = image
  const parent = tree.parent(folder)
  const special: [Uint8Array, number][] = [
    [DOT, folder],
    [DOT_DOT, parent === NONE ? folder : parent],
  ]
  let next = 0
  const first = (order.childIndex[folder] ?? 0) - 1
  for (let i = 0; i < (order.childCount[folder] ?? 0); i++) {
    const child = order.nodes[first + i] ?? NONE
    const name = tree.name(child)
    for (let entry = special[next]; entry !== undefined && Buffer.compare(entry[0], name) < 0; entry = special[next]) {
      yield entry
      next++
    }
    yield [name, child]
  }
  yield* special.slice(next)
}

function* nameLengths(image: BuiltImage, folder: number): Generator<number> {
  for (const [name] of dirNames(image, folder)) yield name.length
}

export function writeV6(image: BuiltImage): Uint8Array {
  const { tree, order, chunks, blobs } = image
  if (blobs.length > V6_MAX_BLOBS)
    throw new NydusError('BUILD_TOO_MANY_BLOBS', 'EFBIG', `the image would have ${blobs.length} blobs, ${V6_MAX_BLOBS} are the limit`)
  const block = blockSizeOf(image)
  const front = frontOf(image)
  const places = place(image)
  const chunkTable = toBlock(front.meta + places.end)
  const { rows, fileOffset } = usedChunks(image)
  const size = toBlock(chunkTable + rows.length * ChunkV5.size)
  const out = new Uint8Array(size)
  const nid = (node: number): number => (places.inode[tree.inodeOf(node)] ?? 0) / V6_NID_SIZE

  SuperblockV6.write(
    out,
    {
      magic: V6_MAGIC,
      featureCompat: V6_COMPAT_RAFS,
      blkszbits: Math.log2(block),
      rootNid: nid(ROOT),
      inos: BigInt(order.nodes.length),
      blocks: blobs.reduce((sum, blob) => sum + Math.floor(blob.uncompressedSize / block), 0),
      metaBlkaddr: front.meta / block,
      featureIncompat: V6_INCOMPAT,
      extraDevices: blobs.length,
      devtSlotoff: V6_DEVICE_TABLE_OFFSET / DeviceSlotV6.size,
    },
    V6_SUPERBLOCK_OFFSET,
  )
  const flags =
    commonFlags(image) |
    (image.tarfs === true ? RAFS_FLAG.TARFS_MODE : 0) |
    (image.encrypted ? RAFS_FLAG.ENCRYPTION_AES_128_XTS : RAFS_FLAG.ENCRYPTION_NONE) |
    (blobs.every(blob => hasFeature(blob, 'INLINED_CHUNK_DIGEST')) ? RAFS_FLAG.INLINED_CHUNK_DIGEST : 0)
  ExtSuperblockV6.write(
    out,
    {
      flags: BigInt(flags >>> 0),
      blobTableOffset: BigInt(front.blobTable),
      blobTableSize: BlobEntryV6.size * blobs.length,
      chunkSize: image.chunkSize,
      chunkTableOffset: BigInt(chunkTable),
      chunkTableSize: BigInt(rows.length * ChunkV5.size),
      prefetchTableOffset: BigInt(image.prefetch.length === 0 ? 0 : front.prefetchTable),
      prefetchTableSize: image.prefetch.length * V6_PREFETCH_ENTRY_SIZE,
    },
    V6_EXT_SUPERBLOCK_OFFSET,
  )
  writeBlobs(image, out, front.blobTable, size)
  const view = new DataView(out.buffer)
  image.prefetch.forEach((node, i) =>
    view.setUint32(front.prefetchTable + i * V6_PREFETCH_ENTRY_SIZE, nid(node), true),
  )
  for (const node of order.nodes) if (isFirstName(tree, order, node)) writeInode(image, places, front.meta, node, out, nid)
  rows.forEach((row, i) =>
    writeChunk(out, chunkTable + i * ChunkV5.size, chunks.get(row), fileOffset[row] ?? 0),
  )
  return out
}

/** Chunk rows that files refer to, sorted by digest and blob, and the file offset at which the last file uses each. */
function usedChunks(image: BuiltImage): { rows: Uint32Array; fileOffset: Float64Array } {
  const { tree, order, chunks, chunkSize } = image
  const used = new Uint8Array(chunks.rows)
  const fileOffset = new Float64Array(chunks.rows)
  let count = 0
  for (const node of order.nodes) {
    if (tree.type(node) !== TYPE.REG) continue
    const start = tree.chunkStart(node)
    for (let i = 0; i < tree.chunkCount(node); i++) {
      const row = chunks.listed(start + i)
      if (used[row] === 0) count++
      used[row] = 1
      fileOffset[row] = i * chunkSize
    }
  }
  const rows = new Uint32Array(count)
  let at = 0
  for (let row = 0; row < used.length; row++) if (used[row] === 1) rows[at++] = row
  const sorted = sortedByDigest(chunks, rows)
  // The chunks of a tarfs image have no digest, so that all are the same to the reference: one record is left.
  return { rows: image.tarfs === true ? sorted.slice(0, 1) : sorted, fileOffset }
}

/**
 * By digest, then by blob. Sorts numbers made of a digest's first bits and the place in `rows`, and looks at whole digests
 * only where those bits are the same: comparing them all takes seconds for a million.
 */
function sortedByDigest(chunks: Chunks, rows: Uint32Array): Uint32Array {
  const places = 2 ** Math.ceil(Math.log2(rows.length + 1))
  /** 32 bits of the digest, or as many as leave room for the place in an exact double. */
  const scale = 2 ** (Math.min(32, 53 - Math.log2(places)) - 32)
  const keys = Float64Array.from(rows, (row, i) => Math.floor(chunks.digestStart(row) * scale) * places + i).sort()
  const sorted = Uint32Array.from(keys, key => rows[key % places] ?? 0)
  const prefix = (i: number): number => Math.floor((keys[i] ?? 0) / places)
  for (let start = 0; start < keys.length;) {
    let end = start + 1
    while (end < keys.length && prefix(end) === prefix(start)) end++
    if (end - start > 1)
      sorted
        .subarray(start, end)
        .sort((a, b) => Buffer.compare(chunks.digest(a), chunks.digest(b)) || chunks.blob(a) - chunks.blob(b))
    start = end
  }
  return sorted
}

function writeBlobs(image: BuiltImage, out: Uint8Array, blobTable: number, bootstrapSize: number): void {
  const block = blockSizeOf(image)
  let position = bootstrapSize
  image.blobs.forEach((blob, i) => {
    const blocks = Math.floor(blob.uncompressedSize / block)
    const mapped = (Math.ceil(position / MAPPED_ALIGNMENT) * MAPPED_ALIGNMENT) / block
    position = (mapped + blocks) * block
    const blobId = idBytes(blob)
    DeviceSlotV6.write(out, { blobId, blocks, mappedBlkaddr: mapped }, V6_DEVICE_TABLE_OFFSET + i * DeviceSlotV6.size)
    const metaSize = Buffer.alloc(16)
    metaSize.writeBigUInt64LE(BigInt(blob.meta?.size ?? 0))
    BlobEntryV6.write(
      out,
      {
        blobId,
        blobIndex: i,
        chunkSize: image.chunkSize,
        chunkCount: blob.chunkCount,
        compressor: V6_COMPRESSOR.indexOf(blob.compressor),
        digester: V6_DIGESTER.indexOf(blob.digester),
        features: blob.features,
        compressedSize: BigInt(blob.compressedSize),
        uncompressedSize: BigInt(blob.uncompressedSize),
        tocSize: blob.toc?.size ?? 0,
        ciCompressor: V6_COMPRESSOR.indexOf(blob.ci.compressor),
        ciOffset: BigInt(blob.ci.offset),
        ciCompressedSize: BigInt(blob.ci.compressedSize),
        ciUncompressedSize: BigInt(blob.ci.uncompressedSize),
        ...(blob.toc === undefined ? {} : { tocDigest: blob.toc.digest }),
        ...(blob.cipher !== undefined
          ? { metaDigestOrKey: blob.cipher.key, metaSizeOrIv: blob.cipher.iv, cipher: V6_CIPHER.AES_128_XTS }
          : blob.meta !== undefined
            ? { metaDigestOrKey: blob.meta.digest, metaSizeOrIv: metaSize }
            : {}),
      },
      blobTable + i * BlobEntryV6.size,
    )
  })
}

function idBytes(blob: BuiltBlob): Uint8Array {
  return blob.id === ''
    ? Buffer.alloc(64, V6_SELF_BLOB_BYTE)
    : Buffer.from(blob.id, 'latin1').subarray(0, DeviceSlotV6.fields.blobId[0])
}

function writeInode(
  image: BuiltImage,
  places: Places,
  meta: number,
  node: number,
  out: Uint8Array,
  nid: (node: number) => number,
): void {
  const { tree, order } = image
  const block = blockSizeOf(image)
  const inode = tree.inodeOf(node)
  const at = meta + (places.inode[inode] ?? 0)
  const stat = tree.stat(node)
  const type = tree.type(node)
  const xattrs = tree.xattrs(node)
  const area = xattrAreaSize(xattrs)
  const flat = type === TYPE.DIR || type === TYPE.LNK
  const layout = type === TYPE.REG ? V6_LAYOUT.CHUNKED : flat && places.inline[inode] === 1 ? V6_LAYOUT.INLINE : V6_LAYOUT.PLAIN
  const size = flat ? (places.size[inode] ?? 0) : type === TYPE.REG ? stat.size : 0
  const data = meta + (places.data[inode] ?? 0)
  InodeExtendedV6.write(
    out,
    {
      format: V6_FORMAT_EXTENDED | (layout << V6_FORMAT_LAYOUT_SHIFT),
      xattrIcount: xattrIcount(area),
      mode: stat.mode,
      size: BigInt(size),
      u: flat ? data / block : type === TYPE.REG ? chunkFormat(image, node) : stat.rdev,
      ino: order.firstName[inode] ?? 0,
      uid: stat.uid,
      gid: stat.gid,
      mtime: BigInt.asUintN(64, BigInt(stat.mtime)),
      mtimeNs: stat.mtimeNs,
      nlink: type === TYPE.DIR ? folderLinks(image, node) : tree.nlink(node),
    },
    at,
  )
  writeXattrs(out, at + InodeExtendedV6.size, xattrs)
  const behind = at + InodeExtendedV6.size + area
  if (flat) {
    const bytes = type === TYPE.LNK ? tree.target(node) : writeDir(dirEntries(image, node, nid), size, block)
    const tail = layout === V6_LAYOUT.INLINE ? size % block : 0
    out.set(bytes.subarray(0, size - tail), data)
    out.set(bytes.subarray(size - tail), behind)
  } else if (type === TYPE.REG) writeIndexes(image, node, out, Math.ceil(behind / INDEX_ALIGNMENT) * INDEX_ALIGNMENT)
}

function dirEntries(image: BuiltImage, folder: number, nid: (node: number) => number): DirEntry[] {
  const entries: DirEntry[] = []
  for (const [name, node] of dirNames(image, folder))
    entries.push({ name, nid: nid(node), type: fileTypeOf(image.tree.type(node)) })
  return entries
}

function folderLinks(image: BuiltImage, folder: number): number {
  let links = 2
  const first = (image.order.childIndex[folder] ?? 0) - 1
  for (let i = 0; i < (image.order.childCount[folder] ?? 0); i++)
    if (image.tree.type(image.order.nodes[first + i] ?? NONE) === TYPE.DIR) links++
  return links
}

/**
 * i_u of a regular file. When the chunks of a file lie one behind the other, it says one chunk that holds them all, so
 * that a kernel maps a single extent; the index array keeps one entry for each real chunk (rafs-v6.md §6.5).
 */
function chunkFormat(image: BuiltImage, node: number): number {
  const { tree, chunks, chunkSize } = image
  let size = chunkSize
  const count = tree.chunkCount(node)
  if (count > 1) {
    const start = tree.chunkStart(node)
    const first = chunks.listed(start)
    let consecutive = true
    for (let i = 1; i < count && consecutive; i++) {
      const row = chunks.listed(start + i)
      consecutive =
        chunks.blob(row) === chunks.blob(first) &&
        chunks.uncompressedOffset(row) === chunks.uncompressedOffset(first) + i * chunkSize
    }
    if (consecutive) size = 2 ** Math.ceil(Math.log2(tree.size(node)))
  }
  return V6_CHUNK_FORMAT_INDEXES | Math.log2(size / blockSizeOf(image))
}

function writeIndexes(image: BuiltImage, node: number, out: Uint8Array, at: number): void {
  const { tree, chunks } = image
  const start = tree.chunkStart(node)
  for (let i = 0; i < tree.chunkCount(node); i++) {
    const row = chunks.listed(start + i)
    const index = chunks.index(row)
    ChunkIndexV6.write(
      out,
      {
        ciIndexLow: index % 0x10000,
        blob: chunks.blob(row) + 1,
        ciIndexHigh: Math.floor(index / 0x10000),
        blkaddr: chunks.uncompressedOffset(row) / blockSizeOf(image),
      },
      at + i * ChunkIndexV6.size,
    )
  }
}

/** Features of a blob that this builder writes in any case. */
export const V6_BASE_FEATURES = BLOB_FEATURE.ALIGNED | BLOB_FEATURE.CAP_TAR_TOC
