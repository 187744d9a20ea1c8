/** RAFS v6 inode, read in place (rafs-v6.md §6.1–§6.3, §6.5). */
import { ERRNO } from '../base/errors.js'
import type { Attr, ExtentSink } from '../vfs/filesystem.js'
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

const INDEX = ChunkIndexV6.at
const MAX_NSEC = 999_999_999
const HIGH = 2 ** 32

/*
 * An inode is read by 32-bit words, at places that are constants of their own: both is what V8 makes integer instructions
 * of. By bytes, a bootstrap of up to 4 GiB needs doubles (docs/performance.md).
 */
const WORD = Uint32Array.BYTES_PER_ELEMENT
const NID_WORDS_SHIFT = Math.log2(V6_NID_SIZE / WORD)
const COMPACT_WORDS = InodeCompactV6.size / WORD
const EXTENDED_WORDS = InodeExtendedV6.size / WORD
const XATTR_HEADER_WORDS = XattrHeaderV6.size / WORD
const XATTR_ENTRY_WORDS = XattrEntryV6.size / WORD
const INDEX_WORDS = ChunkIndexV6.size / WORD
const HALF = 0xffff
const word = (byte: number): number => Math.floor(byte / WORD)
const shift = (byte: number): number => (byte % WORD) * 8

// The same in both forms.
const FORMAT = word(InodeCompactV6.at.format)
const FORMAT_SHIFT = shift(InodeCompactV6.at.format)
const XATTR_ICOUNT = word(InodeCompactV6.at.xattrIcount)
const XATTR_ICOUNT_SHIFT = shift(InodeCompactV6.at.xattrIcount)
const MODE = word(InodeCompactV6.at.mode)
const MODE_SHIFT = shift(InodeCompactV6.at.mode)
const SIZE = word(InodeCompactV6.at.size)
const UNION = word(InodeCompactV6.at.u)
// Extended ones.
const UID = word(InodeExtendedV6.at.uid)
const GID = word(InodeExtendedV6.at.gid)
const MTIME = word(InodeExtendedV6.at.mtime)
const MTIME_NS = word(InodeExtendedV6.at.mtimeNs)
const NLINK = word(InodeExtendedV6.at.nlink)
// Compact ones.
const COMPACT_NLINK = word(InodeCompactV6.at.nlink)
const COMPACT_NLINK_SHIFT = shift(InodeCompactV6.at.nlink)
const COMPACT_UID = word(InodeCompactV6.at.uid)
const COMPACT_UID_SHIFT = shift(InodeCompactV6.at.uid)
const COMPACT_GID = word(InodeCompactV6.at.gid)
const COMPACT_GID_SHIFT = shift(InodeCompactV6.at.gid)

/** One per reader: `load` points it at an inode; every other member is about the inode loaded last. */
export class InodeV6 implements ImageInode, FlatData {
  nid = 0
  mode = 0
  size = 0
  /** Bytes of the xattr area (0 = none). */
  xattrSize = 0
  chunkCount = 0
  readonly #boot: Bootstrap
  readonly #words: Uint32Array
  readonly #sb: SuperV6
  readonly #blobs: Blobs
  /** Where nids count from, in units of V6_NID_SIZE; and how many such units and blocks the bootstrap has. */
  readonly #firstCell: number
  readonly #cells: number
  readonly #blocks: number
  readonly #blockShift: number
  readonly #chunksPerByte: number
  /** First word of the inode. */
  #at = 0
  #extended = true
  /** i_u. */
  #union = 0
  /** Bytes of flat data that lie in full blocks. */
  #flatSize = 0
  /** First word behind inode and xattrs: inline tail or (8-aligned) chunk indexes. */
  #tail = 0

  constructor(boot: Bootstrap, sb: SuperV6, blobs: Blobs) {
    this.#boot = boot
    this.#words = boot.words
    this.#sb = sb
    this.#blobs = blobs
    this.#firstCell = sb.metaOffset / V6_NID_SIZE
    this.#cells = Math.floor(boot.length / V6_NID_SIZE)
    this.#blocks = boot.length / sb.blockSize
    this.#blockShift = Math.log2(sb.blockSize)
    this.#chunksPerByte = 1 / sb.chunkSize
  }

  /** 0, or -EIO when no sound inode is there. */
  load(nid: number): number {
    const words = this.#words
    const cell = (this.#firstCell + nid) | 0
    if (cell !== this.#firstCell + nid || cell < 0 || cell >= this.#cells) return -ERRNO.EIO
    const at = cell << NID_WORDS_SHIFT
    const format = ((words[at + FORMAT] as number) >>> FORMAT_SHIFT) & HALF
    const dataLayout = format >>> V6_FORMAT_LAYOUT_SHIFT
    const extended = (format & V6_FORMAT_EXTENDED) !== 0
    let tail = at + (extended ? EXTENDED_WORDS : COMPACT_WORDS)
    const icount = ((words[at + XATTR_ICOUNT] as number) >>> XATTR_ICOUNT_SHIFT) & HALF
    const xattrWords = icount === 0 ? 0 : XATTR_HEADER_WORDS + XATTR_ENTRY_WORDS * (icount - 1)
    tail += xattrWords
    if (tail > words.length) return -ERRNO.EIO
    const mode = ((words[at + MODE] as number) >>> MODE_SHIFT) & HALF
    const sizeLow = words[at + SIZE] as number
    const sizeHigh = extended ? (words[at + SIZE + 1] as number) : 0
    this.nid = nid
    this.mode = mode
    this.size = sizeLow + sizeHigh * HIGH
    this.xattrSize = xattrWords * WORD
    this.chunkCount = 0
    this.#at = at
    this.#extended = extended
    this.#union = words[at + UNION] as number
    this.#tail = tail

    const type = mode & S_IFMT
    if (type === S_IFREG) return dataLayout === V6_LAYOUT.CHUNKED ? this.#loadChunks() : -ERRNO.EIO
    if (type === S_IFDIR) return sizeHigh === 0 ? this.#loadFlat(sizeLow, dataLayout) : -ERRNO.EIO
    if (this.size > Number.MAX_SAFE_INTEGER) return -ERRNO.EIO
    if (type === S_IFLNK)
      return this.size > 0 && this.size <= V6_SYMLINK_MAX ? this.#loadFlat(sizeLow, dataLayout) : -ERRNO.EIO
    if (type === S_IFCHR || type === S_IFBLK || type === S_IFIFO || type === S_IFSOCK)
      return dataLayout === V6_LAYOUT.PLAIN ? 0 : -ERRNO.EIO
    return -ERRNO.EIO
  }

  #loadChunks(): number {
    const { size } = this
    if (size === 0) return 0
    if (size > Number.MAX_SAFE_INTEGER) return -ERRNO.EIO
    if ((this.#union & ~V6_CHUNK_FORMAT_BITS) !== V6_CHUNK_FORMAT_INDEXES) return -ERRNO.EIO
    // Bits 0–4 may tell a bigger chunk than the image has (§6.5, trap): the superblock's counts.
    const count = Math.ceil(size * this.#chunksPerByte)
    const tail = (this.#tail + INDEX_WORDS - 1) & -INDEX_WORDS
    this.chunkCount = count
    this.#tail = tail
    return tail + count * INDEX_WORDS <= this.#words.length ? 0 : -ERRNO.EIO
  }

  /** `size` is below 2^32, as all of it lies in the bootstrap. */
  #loadFlat(size: number, dataLayout: number): number {
    let blocks = size >>> this.#blockShift
    const rest = size & (this.#sb.blockSize - 1)
    this.#flatSize = size
    if (dataLayout === V6_LAYOUT.INLINE) {
      // The tail is never empty and never crosses a block boundary.
      const first = this.#tail * WORD
      if (rest === 0 || (first & (this.#sb.blockSize - 1)) + rest > this.#sb.blockSize) return -ERRNO.EIO
      if (first + rest > this.#boot.length) return -ERRNO.EIO
      this.#flatSize = size - rest
    } else if (dataLayout !== V6_LAYOUT.PLAIN) return -ERRNO.EIO
    else if (rest !== 0) blocks++
    return blocks === 0 || this.#union + blocks <= this.#blocks ? 0 : -ERRNO.EIO
  }

  /** Where the xattr area starts. */
  get xattrOffset(): number {
    return this.#at * WORD + (this.#extended ? InodeExtendedV6.size : InodeCompactV6.size)
  }

  /** Where byte `offset` (a multiple of the block size, below `size`) of a folder is in the bootstrap. */
  flatAt(offset: number): number {
    if (offset < this.#flatSize) return this.#union * this.#sb.blockSize + offset
    return this.#tail * WORD + (offset - this.#flatSize)
  }

  target(file: number, out: ExtentSink): number {
    const full = this.#flatSize
    if (full > 0 && !out.add(file, this.flatAt(0), full)) return -ERRNO.EIO
    if (full < this.size && !out.add(file, this.#tail * WORD, this.size - full)) return -ERRNO.EIO
    return this.size
  }

  attr(out: Attr, uid: number, gid: number): void {
    const words = this.#words
    const at = this.#at
    const type = this.mode & S_IFMT
    out.ino = this.nid
    out.size = this.size
    out.blocks = Math.ceil(this.size / 512)
    out.mode = this.mode
    out.rdev = type === S_IFCHR || type === S_IFBLK ? this.#union : 0
    if (this.#extended) {
      out.nlink = words[at + NLINK] as number
      out.uid = words[at + UID] as number
      out.gid = words[at + GID] as number
      out.mtime = seconds(words[at + MTIME] as number, words[at + MTIME + 1] as number)
      out.mtimeNs = Math.min(words[at + MTIME_NS] as number, MAX_NSEC)
    } else {
      out.nlink = ((words[at + COMPACT_NLINK] as number) >>> COMPACT_NLINK_SHIFT) & HALF
      out.uid = ((words[at + COMPACT_UID] as number) >>> COMPACT_UID_SHIFT) & HALF
      out.gid = ((words[at + COMPACT_GID] as number) >>> COMPACT_GID_SHIFT) & HALF
      out.mtime = 0
      out.mtimeNs = 0
    }
    if (!this.#sb.ownersKnown) {
      out.uid = uid
      out.gid = gid
    }
  }

  chunkAt(offset: number): number {
    return Math.floor(offset * this.#chunksPerByte)
  }

  chunk(k: number, place: ChunkPlace): number {
    const view = this.#boot.view
    const { chunkSize, blockSize, tarfs } = this.#sb
    const at = this.#tail * WORD + k * ChunkIndexV6.size
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
