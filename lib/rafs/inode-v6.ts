/** RAFS v6 inode, read in place (rafs-v6.md §6.1–§6.3, §6.5). */
import { ERRNO } from '../base/errors.js'
import type { Attr, ExtentSink } from '../vfs/filesystem.js'
import { u64 } from '../base/u64.js'
import { seconds, type Bootstrap } from './bootstrap.js'
import type { Blobs } from './blobs.js'
import type { ChunkPlace } from './chunks.js'
import type { FlatData } from './dir-v6.js'
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from './layout/flags.js'
import {
  ChunkIndexV6,
  InodeCompactV6,
  InodeExtendedV6,
  V6_CHUNK_FORMAT_BITS,
  V6_CHUNK_FORMAT_INDEXES,
  V6_FORMAT_EXTENDED,
  V6_FORMAT_LAYOUT_SHIFT,
  V6_LAYOUT,
  V6_NID_SIZE,
  V6_SYMLINK_MAX,
  XattrEntryV6,
  XattrHeaderV6,
} from './layout/v6.js'
import type { ImageInode } from './reader.js'
import { packRefV6 } from './ref-v6.js'
import type { SuperV6 } from './super-v6.js'

const EXTENDED = InodeExtendedV6.at
const COMPACT = InodeCompactV6.at
const INDEX = ChunkIndexV6.at
const MAX_NSEC = 999_999_999

/** One per reader: `load` points it at an inode; every other member is about the inode loaded last. */
export class InodeV6 implements ImageInode, FlatData {
  nid = 0
  mode = 0
  size = 0
  /** Where the xattr area starts, and its bytes (0 = none). */
  xattrOffset = 0
  xattrSize = 0
  chunkCount = 0
  readonly #boot: Bootstrap
  readonly #sb: SuperV6
  readonly #blobs: Blobs
  #at = 0
  #extended = true
  /** i_u. */
  #union = 0
  /** Flat data: where its full blocks start, and how many bytes they hold. */
  #flat = 0
  #flatSize = 0
  /** End of inode and xattrs: inline tail or (8-aligned) chunk indexes. */
  #tail = 0

  constructor(boot: Bootstrap, sb: SuperV6, blobs: Blobs) {
    this.#boot = boot
    this.#sb = sb
    this.#blobs = blobs
  }

  /** 0, or -EIO when no sound inode is there. */
  load(nid: number): number {
    const boot = this.#boot
    const view = boot.view
    const at = this.#sb.metaOffset + nid * V6_NID_SIZE
    if (!boot.has(at, InodeCompactV6.size) || !Number.isInteger(nid)) return -ERRNO.EIO
    const format = view.getUint16(at + COMPACT.format, true)
    const dataLayout = format >>> V6_FORMAT_LAYOUT_SHIFT
    const extended = (format & V6_FORMAT_EXTENDED) !== 0
    if (extended && !boot.has(at, InodeExtendedV6.size)) return -ERRNO.EIO
    this.nid = nid
    this.#at = at
    this.#extended = extended
    this.mode = view.getUint16(at + COMPACT.mode, true)
    this.size = extended ? u64(view, at + EXTENDED.size) : view.getUint32(at + COMPACT.size, true)
    this.#union = view.getUint32(at + COMPACT.u, true)
    if (this.size > Number.MAX_SAFE_INTEGER) return -ERRNO.EIO

    const icount = view.getUint16(at + COMPACT.xattrIcount, true)
    this.xattrOffset = at + (extended ? InodeExtendedV6.size : InodeCompactV6.size)
    this.xattrSize = icount === 0 ? 0 : XattrHeaderV6.size + XattrEntryV6.size * (icount - 1)
    this.#tail = this.xattrOffset + this.xattrSize
    if (this.#tail > boot.length) return -ERRNO.EIO
    this.chunkCount = 0

    const type = this.mode & S_IFMT
    if (type === S_IFREG) return dataLayout === V6_LAYOUT.CHUNKED ? this.#loadChunks() : -ERRNO.EIO
    if (type === S_IFDIR || type === S_IFLNK) return this.#loadFlat(type, dataLayout)
    if (type === S_IFCHR || type === S_IFBLK || type === S_IFIFO || type === S_IFSOCK)
      return dataLayout === V6_LAYOUT.PLAIN ? 0 : -ERRNO.EIO
    return -ERRNO.EIO
  }

  #loadChunks(): number {
    if (this.size === 0) return 0
    if ((this.#union & ~V6_CHUNK_FORMAT_BITS) !== V6_CHUNK_FORMAT_INDEXES) return -ERRNO.EIO
    // Bits 0–4 may tell a bigger chunk than the image has (§6.5, trap): the superblock's counts.
    this.chunkCount = Math.ceil(this.size / this.#sb.chunkSize)
    this.#tail = Math.ceil(this.#tail / ChunkIndexV6.size) * ChunkIndexV6.size
    return this.#boot.has(this.#tail, this.chunkCount * ChunkIndexV6.size) ? 0 : -ERRNO.EIO
  }

  #loadFlat(type: number, dataLayout: number): number {
    if (type === S_IFLNK && (this.size === 0 || this.size > V6_SYMLINK_MAX)) return -ERRNO.EIO
    const blockSize = this.#sb.blockSize
    const tail = this.size % blockSize
    this.#flat = this.#union * blockSize
    if (dataLayout === V6_LAYOUT.PLAIN) {
      this.#flatSize = this.size
    } else if (dataLayout === V6_LAYOUT.INLINE) {
      // The tail is never empty and never crosses a block boundary.
      if (tail === 0 || (this.#tail % blockSize) + tail > blockSize || this.#tail + tail > this.#boot.length)
        return -ERRNO.EIO
      this.#flatSize = this.size - tail
    } else return -ERRNO.EIO
    return this.#flatSize === 0 || this.#boot.has(this.#flat, this.#flatSize) ? 0 : -ERRNO.EIO
  }

  /** Where byte `offset` (a multiple of the block size, below `size`) of a folder is in the bootstrap. */
  flatAt(offset: number): number {
    return offset < this.#flatSize ? this.#flat + offset : this.#tail + (offset - this.#flatSize)
  }

  target(file: number, out: ExtentSink): number {
    const full = this.#flatSize
    if (full > 0 && !out.add(file, this.#flat, full)) return -ERRNO.EIO
    if (full < this.size && !out.add(file, this.#tail, this.size - full)) return -ERRNO.EIO
    return this.size
  }

  attr(out: Attr, uid: number, gid: number): void {
    const view = this.#boot.view
    const at = this.#at
    const type = this.mode & S_IFMT
    out.ino = this.nid
    out.size = this.size
    out.blocks = Math.ceil(this.size / 512)
    out.mode = this.mode
    out.rdev = type === S_IFCHR || type === S_IFBLK ? this.#union : 0
    if (this.#extended) {
      out.nlink = view.getUint32(at + EXTENDED.nlink, true)
      out.uid = view.getUint32(at + EXTENDED.uid, true)
      out.gid = view.getUint32(at + EXTENDED.gid, true)
      out.mtime = seconds(view, at + EXTENDED.mtime)
      out.mtimeNs = Math.min(view.getUint32(at + EXTENDED.mtimeNs, true), MAX_NSEC)
    } else {
      out.nlink = view.getUint16(at + COMPACT.nlink, true)
      out.uid = view.getUint16(at + COMPACT.uid, true)
      out.gid = view.getUint16(at + COMPACT.gid, true)
      out.mtime = 0
      out.mtimeNs = 0
    }
    if (!this.#sb.ownersKnown) {
      out.uid = uid
      out.gid = gid
    }
  }

  chunkAt(offset: number): number {
    return Math.floor(offset / this.#sb.chunkSize)
  }

  chunk(k: number, place: ChunkPlace): number {
    const view = this.#boot.view
    const { chunkSize, blockSize, tarfs } = this.#sb
    const at = this.#tail + k * ChunkIndexV6.size
    const blob = view.getUint8(at + INDEX.blob) - 1
    if (blob < 0 || blob >= this.#blobs.count) return -ERRNO.EIO
    const index = view.getUint16(at + INDEX.ciIndexLow, true) | (view.getUint8(at + INDEX.ciIndexHigh) << 16)
    const offset = view.getUint32(at + INDEX.blkaddr, true) * blockSize
    const fileOffset = k * chunkSize
    const length = Math.min(chunkSize, this.size - fileOffset)
    if (offset + length > (this.#blobs.sizes[blob] ?? 0)) return -ERRNO.EIO
    if (index >= (this.#blobs.chunkCounts[blob] ?? 0)) return -ERRNO.EIO
    place.blob = blob
    place.index = tarfs ? -1 : index
    place.ref = packRefV6(at, length)
    place.fileOffset = fileOffset
    place.length = length
    place.offset = offset
    place.hole = false
    return 0
  }
}
