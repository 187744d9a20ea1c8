/**
 * An image that exists, as a tree to build upon: parent layers, layers to merge, chunk dictionaries.
 *
 *     bootstrap ── RafsImage ──> Tree + rows of Chunks + blobs
 *
 * Several images may be loaded into the same Chunks; each gets blob numbers of its own there.
 */
import { NydusError } from '../base/errors.js'
import type { BlobInfo, ChunkRef } from '../cache/cache.js'
import { ChunkV5, V5_CHUNK_FLAG } from '../rafs/layout/v5.js'
import { BlobEntryV6 } from '../rafs/layout/v6.js'
import { RafsImage, type FileChunk } from '../rafs/image.js'
import { readaheadOf } from './readahead-v5.js'
import { newAttr, type ByteSink, type ExtentSink } from '../vfs/filesystem.js'
import { CHUNK, type Chunks } from './chunks.js'
import type { BuiltBlob } from './image.js'
import { ROOT, Tree, TYPE, type NodeStat, type Xattr } from './tree.js'

export interface LoadedImage {
  readonly path: string
  readonly version: 5 | 6
  readonly chunkSize: number
  readonly tree: Tree
  /** In the order of the image's blob table; the first has number `firstBlob` in Chunks. */
  readonly blobs: readonly BuiltBlob[]
  readonly firstBlob: number
  readonly flags: number
  /** Rows of all chunks that the image's files use. */
  readonly rows: readonly number[]
}

/** Places in the bootstrap of a symlink target or an xattr value. */
export class Pieces implements ExtentSink {
  readonly list: { readonly offset: number; readonly length: number }[] = []
  add(_file: number, offset: number, length: number): boolean {
    this.list.push({ offset, length })
    return true
  }
  want(): boolean {
    return true
  }
}

export class Names implements ByteSink {
  readonly parts: Buffer[] = []
  bytes(from: Uint8Array, start: number, length: number): boolean {
    this.parts.push(Buffer.from(from.subarray(start, start + length)))
    return true
  }
}

function failed(path: string, ino: number, what: string): NydusError {
  return new NydusError('RAFS_BAD_INODE', 'EIO', `${path}: ${what} of inode ${ino} is damaged`)
}

class Loader {
  readonly #path: string
  readonly #image: RafsImage
  readonly #chunks: Chunks
  readonly #firstBlob: number
  /** By blob and chunk number: row + 1. */
  readonly #rows = new Map<number, number>()
  /** v6: records of the chunk table, by blob and chunk number. */
  readonly #records = new Map<number, number>()
  readonly rows: number[] = []

  constructor(path: string, image: RafsImage, chunks: Chunks, firstBlob: number) {
    this.#path = path
    this.#image = image
    this.#chunks = chunks
    this.#firstBlob = firstBlob
    if (image.version === 6) this.#readChunkTable()
  }

  #key(blob: number, index: number): number {
    return blob * 2 ** 24 + index
  }

  #readChunkTable(): void {
    const { chunk_table_offset: start, chunk_table_size: size } = this.#image.facts
    for (let at = start; at + ChunkV5.size <= start + size; at += ChunkV5.size) {
      const { blobIndex, index } = ChunkV5.read(this.#image.bytes(at, ChunkV5.size))
      this.#records.set(this.#key(blobIndex, index), at)
    }
  }

  load(): Tree {
    const root = this.#stat(this.#image.rootIno)
    const tree = new Tree(root)
    tree.setXattrs(ROOT, this.#xattrs(this.#image.rootIno))
    const nodes = new Map<string, number>([['/', ROOT]])
    /** Nodes by inode number, for the other names of an inode. */
    const byIno = new Map<number, number>()
    for (const { path, ino, type } of this.#image.walk()) {
      if (ino === this.#image.rootIno && path.length === 1) continue
      const slash = path.lastIndexOf(0x2f)
      const parent = nodes.get(slash === 0 ? '/' : path.subarray(0, slash).toString('latin1'))
      const name = path.subarray(slash + 1)
      if (parent === undefined) throw failed(this.#path, ino, 'the parent')
      const first = type === TYPE.DIR ? undefined : byIno.get(ino)
      if (first !== undefined) {
        tree.addLink(parent, name, first)
        continue
      }
      const node = tree.add(parent, name, this.#stat(ino))
      if (type === TYPE.DIR) nodes.set(path.toString('latin1'), node)
      else byIno.set(ino, node)
      if (type === TYPE.LNK) tree.setTarget(node, this.#target(ino))
      tree.setXattrs(node, this.#xattrs(ino))
      if (type === TYPE.REG) this.#files(tree, node, ino)
    }
    return tree
  }

  #stat(ino: number): NodeStat {
    const attr = newAttr()
    if (this.#image.reader.getattr(ino, attr) !== 0) throw failed(this.#path, ino, 'the record')
    return {
      mode: attr.mode,
      uid: attr.uid,
      gid: attr.gid,
      mtime: attr.mtime,
      mtimeNs: attr.mtimeNs,
      size: (attr.mode & 0o170000) === TYPE.REG ? attr.size : 0,
      rdev: attr.rdev,
    }
  }

  #gather(pieces: Pieces): Buffer {
    return Buffer.concat(pieces.list.map(({ offset, length }) => this.#image.bytes(offset, length)))
  }

  #target(ino: number): Buffer {
    const pieces = new Pieces()
    if (this.#image.reader.readlink(ino, pieces) < 0) throw failed(this.#path, ino, 'the link target')
    return this.#gather(pieces)
  }

  #xattrs(ino: number): Xattr[] {
    const names = new Names()
    if (this.#image.reader.listxattr(ino, names) < 0) throw failed(this.#path, ino, 'the list of xattrs')
    const out: Xattr[] = []
    for (const name of splitNames(Buffer.concat(names.parts))) {
      const pieces = new Pieces()
      if (this.#image.reader.getxattr(ino, name, 0, name.length, pieces) < 0)
        throw failed(this.#path, ino, `xattr ${name.toString()}`)
      out.push({ name, value: this.#gather(pieces) })
    }
    return out
  }

  #files(tree: Tree, node: number, ino: number): void {
    const list = [...this.#image.chunks(ino)]
    const start = this.#chunks.startList(list.length)
    list.forEach((chunk, i) => this.#chunks.setListed(start + i, this.#row(chunk, ino)))
    tree.setChunks(node, start, list.length)
  }

  #row(chunk: FileChunk, ino: number): number {
    const key = this.#key(chunk.blob, chunk.want.index)
    const known = this.#rows.get(key)
    if (known !== undefined) return known
    const ref = chunk.want.record ?? this.#record(key, ino)
    const row = this.#chunks.add({
      digest: ref.digest ?? new Uint8Array(32),
      blob: this.#firstBlob + chunk.blob,
      index: chunk.want.index,
      flags:
        (ref.compressed ? CHUNK.COMPRESSED : 0) |
        (ref.encrypted ? CHUNK.ENCRYPTED : 0) |
        (ref.crc32 === undefined ? 0 : CHUNK.CRC),
      compressedOffset: ref.compressedOffset,
      compressedSize: ref.compressedSize,
      uncompressedOffset: chunk.want.uncompressedOffset,
      uncompressedSize: chunk.want.uncompressedSize,
      crc32: ref.crc32 ?? 0,
      window: 0,
      windowOffset: 0,
    })
    this.#rows.set(key, row)
    this.rows.push(row)
    return row
  }

  #record(key: number, ino: number): ChunkRef {
    const at = this.#records.get(key)
    if (at === undefined) throw failed(this.#path, ino, 'a chunk (its record is missing in the chunk table)')
    const record = ChunkV5.read(this.#image.bytes(at, ChunkV5.size))
    return {
      index: record.index,
      compressedOffset: Number(record.compressedOffset),
      compressedSize: record.compressedSize,
      uncompressedOffset: Number(record.uncompressedOffset),
      uncompressedSize: record.uncompressedSize,
      compressed: (record.flags & V5_CHUNK_FLAG.COMPRESSED) !== 0,
      encrypted: (record.flags & V5_CHUNK_FLAG.ENCRYPTED) !== 0,
      ...((record.flags & V5_CHUNK_FLAG.CRC) !== 0 ? { crc32: record.crc32 } : {}),
      digest: record.digest,
    }
  }
}

/** NUL-joined names. */
function splitNames(bytes: Buffer): Buffer[] {
  const out: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf(0, at)
    out.push(bytes.subarray(at, end < 0 ? bytes.length : end))
    at = end < 0 ? bytes.length : end + 1
  }
  return out
}

function blobOf(image: RafsImage, info: BlobInfo, readaheadSize: number): BuiltBlob {
  const base = {
    id: info.id,
    chunkCount: info.chunkCount,
    features: info.features,
    compressor: info.compressor,
    digester: info.digester,
    compressedSize: info.compressedSize,
    uncompressedSize: info.uncompressedSize,
    ci: info.ci,
    readaheadSize,
    ...(info.toc === undefined ? {} : { toc: info.toc }),
    ...(info.cipher === undefined ? {} : { cipher: info.cipher }),
  }
  if (image.version === 5 || info.metaBlobId === undefined) return base
  const entry = BlobEntryV6.read(
    image.bytes(image.facts.blob_table_offset + info.blobIndex * BlobEntryV6.size, BlobEntryV6.size),
  )
  const size = new DataView(entry.metaSizeOrIv.buffer, entry.metaSizeOrIv.byteOffset).getBigUint64(0, true)
  return { ...base, meta: { digest: entry.metaDigestOrKey, size: Number(size) } }
}

/** Reads a whole image. `firstBlob`: number that its blob 0 gets among the chunks. Throws NydusError RAFS_*. */
export async function loadImage(path: string, chunks: Chunks, firstBlob: number): Promise<LoadedImage> {
  const image = await RafsImage.open({ path, xattrs: true, validate: false })
  try {
    const loader = new Loader(path, image, chunks, firstBlob)
    const readahead = readaheadOf(image)
    return {
      path,
      version: image.version,
      chunkSize: image.facts.chunk_size,
      flags: image.facts.flags.bits,
      blobs: image.blobs.map((info, i) => blobOf(image, info, readahead[i]?.size ?? 0)),
      firstBlob,
      tree: loader.load(),
      rows: loader.rows,
    }
  } finally {
    await image.close()
  }
}
