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
  DeviceSlotV6,
  ExtSuperblockV6,
  SuperblockV6,
  V6_BLOCK_SIZE,
  V6_CIPHER,
  V6_COMPAT_RAFS,
  V6_COMPRESSOR,
  V6_DEVICE_TABLE_OFFSET,
  V6_DIGESTER,
  V6_EXT_SUPERBLOCK_OFFSET,
  V6_INCOMPAT,
  V6_MAGIC,
  V6_MAX_BLOBS,
  V6_PREFETCH_ENTRY_SIZE,
  V6_SELF_BLOB_BYTE,
  V6_SUPERBLOCK_OFFSET,
} from '../rafs/layout/v6.js'
import { writeChunk } from './chunk-record.js'
import type { Chunks } from './chunks.js'
import { blockSizeOf, commonFlags, hasFeature, type BuiltBlob, type BuiltImage } from './image.js'
import { ROOT, TYPE } from './tree.js'
import { InodeWriter, placeInodes } from './v6-inodes.js'

/** Blobs are mapped behind the bootstrap, each at a multiple of this (rafs-v6.md §4). */
const MAPPED_ALIGNMENT = 0x80000

function toBlock(n: number): number {
  return Math.ceil(n / V6_BLOCK_SIZE) * V6_BLOCK_SIZE
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

export function writeV6(image: BuiltImage): Uint8Array {
  const { tree, order, chunks, blobs } = image
  if (blobs.length > V6_MAX_BLOBS)
    throw new NydusError(
      'BUILD_TOO_MANY_BLOBS',
      'EFBIG',
      `the image would have ${blobs.length} blobs, ${V6_MAX_BLOBS} are the limit`,
    )
  const block = blockSizeOf(image)
  const front = frontOf(image)
  const places = placeInodes(image)
  const chunkTable = toBlock(front.meta + places.end)
  const { rows, fileOffset } = usedChunks(image)
  const size = toBlock(chunkTable + rows.length * ChunkV5.size)
  const out = new Uint8Array(size)
  const nid = (node: number): number => places.nid[tree.inodeOf(node)] ?? 0

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
  new InodeWriter(image, places, front.meta, out).writeAll()
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i] ?? 0
    writeChunk(view, chunkTable + i * ChunkV5.size, chunks, row, fileOffset[row] ?? 0)
  }
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
  const keys = new Float64Array(rows.length)
  for (let i = 0; i < keys.length; i++)
    keys[i] = Math.floor(chunks.digestStart(rows[i] ?? 0) * scale) * places + i
  keys.sort()
  const sorted = new Uint32Array(rows.length)
  for (let i = 0; i < keys.length; i++) sorted[i] = rows[(keys[i] ?? 0) % places] ?? 0
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
    DeviceSlotV6.write(
      out,
      { blobId, blocks, mappedBlkaddr: mapped },
      V6_DEVICE_TABLE_OFFSET + i * DeviceSlotV6.size,
    )
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

/** Features of a blob that this builder writes in any case. */
export const V6_BASE_FEATURES = BLOB_FEATURE.ALIGNED | BLOB_FEATURE.CAP_TAR_TOC
