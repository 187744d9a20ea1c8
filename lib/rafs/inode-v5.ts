/** RAFS v5 inode record, read in place (rafs-v5.md §3–§5, §7, §10). */
import { ERRNO } from '../base/errors.js'
import type { Attr, ExtentSink } from '../vfs/filesystem.js'
import { u64 } from '../base/u64.js'
import { seconds, type Bootstrap } from './bootstrap.js'
import type { Blobs } from './blobs.js'
import type { ChunkPlace } from './chunks.js'
import type { DigestsV5 } from './digests-v5.js'
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from './layout/flags.js'
import {
  ChunkV5,
  InodeV5 as Record,
  InodeV5Early as EarlyRecord,
  V5_ALIGNMENT,
  V5_CHUNK_FLAG,
  V5_INODE_FLAG,
  V5_NAME_MAX,
  V5_SLOT_SIZE,
  V5_SLOT_SHIFT,
  V5_SUPERBLOCK_SIZE,
  XattrAreaV5,
} from './layout/v5.js'
import type { ImageInode } from './reader.js'
import type { SuperV5 } from './super-v5.js'

const CHUNK = ChunkV5.at
/** Multiplied, not shifted: the product may have more than 32 bits. */
const SLOT_UNIT = 2 ** V5_SLOT_SHIFT
const MAX_NSEC = 999_999_999
/** Far more xattrs than any file system keeps for one inode; bounds the work that one request can cause. */
const MAX_XATTR_SIZE = 16 << 20

/** One per reader: `load` points it at an inode; every other member is about the record looked at last. */
export class InodeV5 implements ImageInode {
  ino = 0
  mode = 0
  size = 0
  childIndex = 0
  childCount = 0
  /** Name of the record that `openName` or `load` looked at. */
  name = 0
  nameLength = 0
  symlink = 0
  symlinkLength = 0
  /** Pairs of the xattr area; size 0 = none. */
  xattrOffset = 0
  xattrSize = 0
  /** Offset of the chunk records. */
  chunks = 0
  readonly #boot: Bootstrap
  readonly #sb: SuperV5
  readonly #blobs: Blobs
  readonly #digests: DigestsV5 | undefined
  readonly #at: Readonly<{ [field in keyof typeof EarlyRecord.at & keyof typeof Record.at]: number }>
  #record = 0
  /** Chunk k starts at k × chunk size, without exception. */
  #dense = true

  constructor(boot: Bootstrap, sb: SuperV5, blobs: Blobs, digests: DigestsV5 | undefined) {
    this.#boot = boot
    this.#sb = sb
    this.#blobs = blobs
    this.#digests = digests
    this.#at = sb.early ? EarlyRecord.at : Record.at
  }

  /** Offset of the record of a child index; -EIO. */
  record(index: number): number {
    if (!(index >= 1 && index <= this.#sb.inodeTableEntries) || !Number.isInteger(index)) return -ERRNO.EIO
    const slot = this.#boot.view.getUint32(this.#sb.inodeTableOffset + (index - 1) * V5_SLOT_SIZE, true)
    const at = slot * SLOT_UNIT
    return at > V5_SUPERBLOCK_SIZE && this.#boot.has(at, Record.size) ? at : -ERRNO.EIO
  }

  /** The inode number in a record: of a further hard link, the first one's. -EIO when there can be no such inode. */
  inoOf(record: number): number {
    const ino = u64(this.#boot.view, record + this.#at.ino)
    return ino >= 1 && ino <= this.#sb.inodeTableEntries ? ino : -ERRNO.EIO
  }

  /** Inode number of the folder that holds the loaded one (of the root: the root), which is numbered before it. */
  get parent(): number {
    if (this.ino === this.#sb.rootIno) return this.ino
    const parent = u64(this.#boot.view, this.#record + this.#at.parent)
    return parent >= this.#sb.rootIno && parent < this.ino ? parent : -ERRNO.EIO
  }

  modeOf(record: number): number {
    return this.#boot.view.getUint32(record + this.#at.mode, true)
  }

  /** Sets `name` and `nameLength`; false when they are damaged. */
  openName(record: number): boolean {
    const size = this.#boot.view.getUint16(record + this.#at.nameSize, true)
    this.name = record + Record.size
    if (size === 0 || size > V5_NAME_MAX || !this.#boot.has(this.name, align8(size))) return false
    this.nameLength = this.#unpadded(this.name, size)
    return this.nameLength > 0
  }

  /** 0, or -EIO when no sound inode is there. */
  load(ino: number): number {
    const boot = this.#boot
    const view = boot.view
    const at = this.#at
    const record = this.record(ino)
    if (record < 0) return record
    if (u64(view, record + at.ino) !== ino || !this.openName(record)) return -ERRNO.EIO
    this.#record = record
    this.ino = ino
    this.mode = view.getUint32(record + at.mode, true)
    this.size = u64(view, record + at.size)
    this.childIndex = view.getUint32(record + at.childIndex, true)
    this.childCount = view.getUint32(record + at.childCount, true)
    if (this.size > Number.MAX_SAFE_INTEGER) return -ERRNO.EIO

    const symlinkSize = view.getUint16(record + at.symlinkSize, true)
    this.symlink = this.name + align8(view.getUint16(record + at.nameSize, true))
    let end = this.symlink + align8(symlinkSize)
    if (end > boot.length) return -ERRNO.EIO
    this.symlinkLength = symlinkSize === 0 ? 0 : this.#unpadded(this.symlink, symlinkSize)
    const flags = view.getUint32(record + at.flags, true)
    this.xattrSize = 0
    if ((flags & V5_INODE_FLAG.XATTR) !== 0) {
      if (!boot.has(end, XattrAreaV5.size)) return -ERRNO.EIO
      this.xattrSize = u64(view, end)
      this.xattrOffset = end + XattrAreaV5.size
      end = this.xattrOffset + align8(this.xattrSize)
      if (this.xattrSize > MAX_XATTR_SIZE || end > boot.length) return -ERRNO.EIO
    }
    this.chunks = end

    const type = this.mode & S_IFMT
    if (!this.#checkType(type, flags)) return -ERRNO.EIO
    return this.#digests === undefined || this.#digests.check(this, record) ? 0 : -ERRNO.EIO
  }

  #checkType(type: number, flags: number): boolean {
    if (type === S_IFREG) {
      const full = Math.ceil(this.size / this.#sb.chunkSize)
      this.#dense = this.childCount === full
      const countRight = this.#dense || ((flags & V5_INODE_FLAG.HAS_HOLE) !== 0 && this.childCount < full)
      return countRight && this.#boot.has(this.chunks, this.childCount * ChunkV5.size)
    }
    if (type === S_IFDIR)
      // Children are numbered after their folder (§4), so no folder can contain itself.
      return (
        this.childCount === 0 ||
        (this.childIndex > this.ino && this.childIndex + this.childCount - 1 <= this.#sb.inodeTableEntries)
      )
    if (type === S_IFLNK) return this.symlinkLength > 0
    return type === S_IFCHR || type === S_IFBLK || type === S_IFIFO || type === S_IFSOCK
  }

  /** Images of mid 2020 store sizes rounded up to 8. */
  #unpadded(at: number, size: number): number {
    let length = size
    if (this.#sb.early) while (length > 0 && this.#boot.view.getUint8(at + length - 1) === 0) length--
    return length
  }

  attr(out: Attr, uid: number, gid: number): void {
    const view = this.#boot.view
    const record = this.#record
    const type = this.mode & S_IFMT
    out.ino = this.ino
    out.size = this.size
    out.blocks = Math.min(u64(view, record + this.#at.blocks), Number.MAX_SAFE_INTEGER)
    out.mode = this.mode & MODE_MASK
    out.nlink = view.getUint32(record + this.#at.nlink, true)
    const early = this.#sb.early
    const owners = this.#sb.ownersKnown && !early
    out.uid = owners ? view.getUint32(record + Record.at.uid, true) : uid
    out.gid = owners ? view.getUint32(record + Record.at.gid, true) : gid
    const device = !early && (type === S_IFCHR || type === S_IFBLK)
    out.rdev = device ? view.getUint32(record + Record.at.rdev, true) : 0
    const mtime = record + Record.at.mtime
    out.mtime = early ? 0 : seconds(view.getUint32(mtime, true), view.getUint32(mtime + 4, true))
    out.mtimeNs = early ? 0 : Math.min(view.getUint32(record + Record.at.mtimeNs, true), MAX_NSEC)
  }

  target(file: number, out: ExtentSink): number {
    return out.add(file, this.symlink, this.symlinkLength) ? this.symlinkLength : -ERRNO.EIO
  }

  get chunkCount(): number {
    return this.childCount
  }

  chunkAt(offset: number): number {
    if (this.#dense) return Math.floor(offset / this.#sb.chunkSize)
    let low = 0
    let high = this.childCount - 1
    while (low < high) {
      const middle = low + Math.ceil((high - low) / 2)
      if (u64(this.#boot.view, this.chunks + middle * ChunkV5.size + CHUNK.fileOffset) <= offset) low = middle
      else high = middle - 1
    }
    return low
  }

  chunk(k: number, place: ChunkPlace): number {
    const view = this.#boot.view
    const chunkSize = this.#sb.chunkSize
    const at = this.chunks + k * ChunkV5.size
    const fileOffset = u64(view, at + CHUNK.fileOffset)
    const length = view.getUint32(at + CHUNK.uncompressedSize, true)
    const room = Math.min(chunkSize, this.size - fileOffset)
    if (this.#dense ? fileOffset !== k * chunkSize || length !== room : fileOffset % chunkSize !== 0)
      return -ERRNO.EIO
    if (length === 0 || length > room) return -ERRNO.EIO
    const blob = view.getUint32(at + CHUNK.blobIndex, true)
    const index = view.getUint32(at + CHUNK.index, true)
    const offset = u64(view, at + CHUNK.uncompressedOffset)
    place.hole = (view.getUint32(at + CHUNK.flags, true) & V5_CHUNK_FLAG.HOLE) !== 0
    if (!place.hole) {
      if (blob >= this.#blobs.count || offset + length > (this.#blobs.sizes[blob] ?? 0)) return -ERRNO.EIO
      if (offset > Number.MAX_SAFE_INTEGER || index >= (this.#blobs.chunkCounts[blob] ?? 0)) return -ERRNO.EIO
    }
    place.blob = blob
    place.index = this.#sb.chunksNumbered ? index : -1
    place.ref = at
    place.fileOffset = fileOffset
    place.length = length
    place.offset = offset
    return 0
  }
}

/** st_mode has 16 bits. */
const MODE_MASK = 0xffff

function align8(size: number): number {
  return Math.ceil(size / V5_ALIGNMENT) * V5_ALIGNMENT
}
