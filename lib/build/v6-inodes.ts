/** Writes the inodes of a v6 bootstrap, each with its xattrs, and its directory data, link target or chunk indexes. */
import {
  ChunkIndexV6,
  InodeExtendedV6,
  V6_CHUNK_FORMAT_INDEXES,
  V6_FORMAT_EXTENDED,
  V6_FORMAT_LAYOUT_SHIFT,
  V6_LAYOUT,
  V6_NID_SIZE,
} from '../rafs/layout/v6.js'
import { blockSizeOf, type BuiltImage } from './image.js'
import { isFirstName } from './order.js'
import { setU64 } from '../base/u64.js'
import { NONE, ROOT, TYPE } from './tree.js'
import { DirNames } from './v6-dir.js'
import { writeXattrs, xattrAreaSize, xattrIcount } from './v6-parts.js'
import { Placement } from './v6-placement.js'

const INDEX_ALIGNMENT = 8
const { at: INODE } = InodeExtendedV6
const { at: INDEX } = ChunkIndexV6

/** Where everything lies, by the node that carries an inode; from the start of the metadata area. */
export interface Places {
  readonly nid: Uint32Array
  /** First full data block, in blocks; meaningless when all data stands behind the inode. */
  readonly data: Uint32Array
  /** Bytes of a folder's or symbolic link's data. */
  readonly size: Uint32Array
  /** 1: the last, partial block stands behind the inode. */
  readonly inline: Uint8Array
  /** Bytes, in whole blocks. */
  readonly end: number
}

function isFlat(type: number): boolean {
  return type === TYPE.DIR || type === TYPE.LNK
}

/** Finds all inodes a place, in the order of the reference builder: each folder, then what else is in it. */
export function placeInodes(image: BuiltImage): Places {
  const { tree, order } = image
  const block = blockSizeOf(image)
  const placement = new Placement(block)
  const names = new DirNames(tree, order)
  const nid = new Uint32Array(tree.rows)
  const data = new Uint32Array(tree.rows)
  const sizes = new Uint32Array(tree.rows)
  const inline = new Uint8Array(tree.rows)
  const put = (node: number): void => {
    const inode = tree.inodeOf(node)
    const head = InodeExtendedV6.size + xattrAreaSize(tree.xattrs(node))
    const type = tree.type(node)
    let at: number
    if (isFlat(type)) {
      const size = type === TYPE.DIR ? names.open(node).size(block) : tree.targetLength(node)
      const placed = placement.flat(head, size)
      sizes[inode] = size
      data[inode] = placed.data / block
      inline[inode] = placed.inline ? 1 : 0
      at = placed.inode
    } else if (type === TYPE.REG)
      at = placement.file(
        Math.ceil(head / INDEX_ALIGNMENT) * INDEX_ALIGNMENT + tree.chunkCount(node) * ChunkIndexV6.size,
      )
    else at = placement.special(head)
    nid[inode] = at / V6_NID_SIZE
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
  return { nid, data, size: sizes, inline, end: placement.end }
}

export class InodeWriter {
  readonly #image: BuiltImage
  readonly #places: Places
  readonly #block: number
  /** Where the metadata area starts. */
  readonly #meta: number
  readonly #out: Uint8Array
  readonly #view: DataView
  readonly #names: DirNames
  readonly #nid = (node: number): number => this.#places.nid[this.#image.tree.inodeOf(node)] ?? 0

  /** `out` holds zeros where the inodes will be. */
  constructor(image: BuiltImage, places: Places, meta: number, out: Uint8Array) {
    this.#image = image
    this.#places = places
    this.#block = blockSizeOf(image)
    this.#meta = meta
    this.#out = out
    this.#view = new DataView(out.buffer, out.byteOffset, out.byteLength)
    this.#names = new DirNames(image.tree, image.order)
  }

  writeAll(): void {
    const { tree, order } = this.#image
    for (const node of order.nodes) if (isFirstName(tree, order, node)) this.#write(node)
  }

  #write(node: number): void {
    const { tree, order } = this.#image
    const view = this.#view
    const inode = tree.inodeOf(node)
    const at = this.#meta + (this.#places.nid[inode] ?? 0) * V6_NID_SIZE
    const stat = tree.stat(node)
    const type = tree.type(node)
    const xattrs = tree.xattrs(node)
    const area = xattrAreaSize(xattrs)
    const flat = isFlat(type)
    const inline = flat && this.#places.inline[inode] === 1
    const layout = type === TYPE.REG ? V6_LAYOUT.CHUNKED : inline ? V6_LAYOUT.INLINE : V6_LAYOUT.PLAIN
    const size = flat ? (this.#places.size[inode] ?? 0) : type === TYPE.REG ? stat.size : 0
    const dataBlock = this.#meta / this.#block + (this.#places.data[inode] ?? 0)
    view.setUint16(at + INODE.format, V6_FORMAT_EXTENDED | (layout << V6_FORMAT_LAYOUT_SHIFT), true)
    view.setUint16(at + INODE.xattrIcount, xattrIcount(area), true)
    view.setUint16(at + INODE.mode, stat.mode, true)
    setU64(view, at + INODE.size, size)
    view.setUint32(
      at + INODE.u,
      flat ? dataBlock : type === TYPE.REG ? this.#chunkFormat(node) : stat.rdev,
      true,
    )
    view.setUint32(at + INODE.ino, order.firstName[inode] ?? 0, true)
    view.setUint32(at + INODE.uid, stat.uid, true)
    view.setUint32(at + INODE.gid, stat.gid, true)
    setU64(view, at + INODE.mtime, stat.mtime)
    view.setUint32(at + INODE.mtimeNs, stat.mtimeNs, true)
    view.setUint32(at + INODE.nlink, type === TYPE.DIR ? this.#folderLinks(node) : tree.nlink(node), true)
    writeXattrs(this.#out, at + InodeExtendedV6.size, xattrs)
    const behind = at + InodeExtendedV6.size + area
    if (flat) {
      const bytes =
        type === TYPE.LNK ? tree.target(node) : this.#names.open(node).write(size, this.#block, this.#nid)
      const tail = inline ? size % this.#block : 0
      if (size > tail) this.#out.set(bytes.subarray(0, size - tail), dataBlock * this.#block)
      if (tail > 0) this.#out.set(bytes.subarray(size - tail), behind)
    } else if (type === TYPE.REG)
      this.#writeIndexes(node, Math.ceil(behind / INDEX_ALIGNMENT) * INDEX_ALIGNMENT)
  }

  #folderLinks(folder: number): number {
    const { tree, order } = this.#image
    let links = 2
    const first = (order.childIndex[folder] ?? 0) - 1
    for (let i = 0; i < (order.childCount[folder] ?? 0); i++)
      if (tree.type(order.nodes[first + i] ?? NONE) === TYPE.DIR) links++
    return links
  }

  /**
   * i_u of a regular file. When the chunks of a file lie one behind the other, it says one chunk that holds them all, so
   * that a kernel maps a single extent; the index array keeps one entry for each real chunk (rafs-v6.md §6.5).
   */
  #chunkFormat(node: number): number {
    const { tree, chunks, chunkSize } = this.#image
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
    return V6_CHUNK_FORMAT_INDEXES | Math.log2(size / this.#block)
  }

  #writeIndexes(node: number, start: number): void {
    const { tree, chunks } = this.#image
    const list = tree.chunkStart(node)
    const count = tree.chunkCount(node)
    let at = start
    for (let i = 0; i < count; i++, at += ChunkIndexV6.size) {
      const row = chunks.listed(list + i)
      const index = chunks.index(row)
      this.#view.setUint16(at + INDEX.ciIndexLow, index % 0x10000, true)
      this.#out[at + INDEX.blob] = chunks.blob(row) + 1
      this.#out[at + INDEX.ciIndexHigh] = Math.floor(index / 0x10000)
      this.#view.setUint32(at + INDEX.blkaddr, chunks.uncompressedOffset(row) / this.#block, true)
    }
  }
}
