/** RAFS v6 folders: dirent blocks, searched and listed in place (rafs-v6.md §6.4). */
import { ERRNO } from '../base/errors.js'
import type { DirSink } from '../vfs/filesystem.js'
import { u64 } from '../base/u64.js'
import { orderAt, sharedBytes, type Bootstrap } from './bootstrap.js'
import type { ImageDir } from './reader.js'
import { NAME_MAX, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK } from './layout/flags.js'
import { DirentV6, V6_FILE_TYPE } from './layout/v6.js'
import { NameIndex } from './name-index.js'

const DIRENT = DirentV6.at
const DOT_DOT = Uint8Array.of(0x2e, 0x2e)
/** Bytes of an entry, name and all, as names usually are: how many entries a folder has is guessed by it. */
const USUAL_ENTRY = 32

/** Type bits by V6_FILE_TYPE; 0 = no such type. */
const MODES = new Uint16Array(256)
MODES[V6_FILE_TYPE.REG] = S_IFREG
MODES[V6_FILE_TYPE.DIR] = S_IFDIR
MODES[V6_FILE_TYPE.CHR] = S_IFCHR
MODES[V6_FILE_TYPE.BLK] = S_IFBLK
MODES[V6_FILE_TYPE.FIFO] = S_IFIFO
MODES[V6_FILE_TYPE.SOCK] = S_IFSOCK
MODES[V6_FILE_TYPE.SYMLINK] = S_IFLNK

/** What a folder's blocks lie in: the inode that is loaded. */
export interface FlatData {
  readonly nid: number
  readonly size: number
  /** Where byte `offset` (a multiple of the block size) is in the bootstrap; all of the block up to `size` is there. */
  flatAt(offset: number): number
}

/** One per reader; works on the folder that `inode` holds. `#block…` and `#name…` are the block and name looked at last. */
export class DirV6 implements ImageDir {
  readonly #boot: Bootstrap
  readonly #inode: FlatData
  readonly #blockSize: number
  readonly #index: NameIndex
  #block = 0
  #blockLength = 0
  /** Entries of the block. */
  #entries = 0
  #name = 0
  #nameLength = 0

  constructor(boot: Bootstrap, inode: FlatData, blockSize: number) {
    this.#boot = boot
    this.#inode = inode
    this.#blockSize = blockSize
    this.#index = new NameIndex(boot.bytes)
  }

  known(folder: number, bytes: Uint8Array, start: number, length: number): number {
    return this.#index.find(folder, bytes, start, length)
  }

  /** nid of the entry of that name; -ENOENT, -EIO. */
  find(bytes: Uint8Array, start: number, length: number): number {
    const { nid, size } = this.#inode
    const index = this.#index
    if (index.worthIt(nid, Math.ceil(size / USUAL_ENTRY)) && this.#fillIndex())
      return index.find(nid, bytes, start, length)
    return this.#findSorted(bytes, start, length)
  }

  /** False: the folder is damaged or too big. */
  #fillIndex(): boolean {
    const { nid, size } = this.#inode
    const index = this.#index
    const blocks = Math.ceil(size / this.#blockSize)
    let names = 0
    for (let block = 0; block < blocks; block++, names += this.#entries)
      if (!this.#openBlock(block)) return false
    if (!index.begin(names)) return false
    for (let block = 0; block < blocks; block++) {
      if (!this.#openBlock(block)) return false
      for (let entry = 0; entry < this.#entries; entry++) {
        const child = this.#openName(entry) ? this.#nid(entry) : -ERRNO.EIO
        if (child < 0) return false
        index.add(this.#name, this.#nameLength, child)
      }
    }
    index.finish(nid)
    return true
  }

  #findSorted(bytes: Uint8Array, start: number, length: number): number {
    const boot = this.#boot.bytes
    const blocks = Math.ceil(this.#inode.size / this.#blockSize)
    if (blocks === 0) return -ERRNO.ENOENT
    // Names between two others share the bytes that those share with the wanted one: they are not compared again.
    let lowShared = 0
    let highShared = 0
    // The last block whose first name is not behind the wanted one.
    let low = 0
    let high = blocks - 1
    while (low < high) {
      const middle = low + Math.ceil((high - low) / 2)
      if (!this.#openBlock(middle) || !this.#openName(0)) return -ERRNO.EIO
      const known = lowShared < highShared ? lowShared : highShared
      const shared = sharedBytes(bytes, start, length, boot, this.#name, this.#nameLength, known)
      if (orderAt(shared, bytes, start, length, boot, this.#name, this.#nameLength) >= 0) {
        low = middle
        lowShared = shared
      } else {
        high = middle - 1
        highShared = shared
      }
    }
    if (!this.#openBlock(low)) return -ERRNO.EIO
    return this.#findInBlock(bytes, start, length, lowShared, highShared)
  }

  /** Everything in locals: this loop is most of what a look-up costs. */
  #findInBlock(
    bytes: Uint8Array,
    start: number,
    length: number,
    lowShared: number,
    highShared: number,
  ): number {
    const { view, bytes: boot } = this.#boot
    const block = this.#block
    const blockLength = this.#blockLength
    const names = this.#entries * DirentV6.size
    let first = 0
    let last = this.#entries - 1
    while (first <= last) {
      const middle = (first + last) >>> 1
      const at = block + middle * DirentV6.size + DIRENT.nameoff
      const nameStart = view.getUint16(at, true)
      const nameEnd =
        middle + 1 < this.#entries ? view.getUint16(at + DirentV6.size, true) : this.#endOfLast(nameStart)
      const nameLength = nameEnd - nameStart
      if (nameStart < names || nameEnd > blockLength || nameLength <= 0 || nameLength > NAME_MAX)
        return -ERRNO.EIO
      const name = block + nameStart
      const limit = length < nameLength ? length : nameLength
      let shared = lowShared < highShared ? lowShared : highShared
      while (shared < limit && bytes[start + shared] === boot[name + shared]) shared++
      const order =
        shared < limit ? (bytes[start + shared] ?? 0) - (boot[name + shared] ?? 0) : length - nameLength
      if (order === 0)
        // In a folder that is not sorted, bytes were skipped that differ: no name may pass for another.
        return sharedBytes(bytes, start, length, boot, name, nameLength, 0) === length
          ? this.#nid(middle)
          : -ERRNO.EIO
      if (order > 0) {
        first = middle + 1
        lowShared = shared
      } else {
        last = middle - 1
        highShared = shared
      }
    }
    return -ERRNO.ENOENT
  }

  parent(): number {
    const nid = this.find(DOT_DOT, 0, DOT_DOT.length)
    return nid === -ERRNO.ENOENT ? -ERRNO.EIO : nid
  }

  /**
   * Entries from `cookie` on, which is a position: block × block size + 12 × number in the block. Returns how many
   * the sink took; -EIO when the first is damaged already.
   */
  list(cookie: number, sink: DirSink): number {
    const blockSize = this.#blockSize
    if (!(cookie >= 0)) return -ERRNO.EINVAL
    const blocks = Math.ceil(this.#inode.size / blockSize)
    let block = Math.floor(cookie / blockSize)
    let entry = (cookie - block * blockSize) / DirentV6.size
    if (!Number.isInteger(entry)) return -ERRNO.EINVAL
    let taken = 0
    for (; block < blocks; block++, entry = 0) {
      if (!this.#openBlock(block)) return taken > 0 ? taken : -ERRNO.EIO
      for (; entry < this.#entries; entry++) {
        const nid = this.#openName(entry) ? this.#nid(entry) : -1
        const type =
          MODES[this.#boot.view.getUint8(this.#block + entry * DirentV6.size + DIRENT.fileType)] ?? 0
        if (nid < 0 || type === 0) return taken > 0 ? taken : -ERRNO.EIO
        const next =
          entry + 1 < this.#entries
            ? block * blockSize + (entry + 1) * DirentV6.size
            : (block + 1) * blockSize
        if (!sink.entry(nid, type, this.#boot.bytes, this.#name, this.#nameLength, next)) return taken
        taken++
      }
    }
    return taken
  }

  #openBlock(block: number): boolean {
    const offset = block * this.#blockSize
    this.#block = this.#inode.flatAt(offset)
    this.#blockLength = Math.min(this.#blockSize, this.#inode.size - offset)
    if (this.#blockLength < DirentV6.size) return false
    const names = this.#boot.view.getUint16(this.#block + DIRENT.nameoff, true)
    if (names === 0 || names % DirentV6.size !== 0 || names > this.#blockLength) return false
    this.#entries = names / DirentV6.size
    return true
  }

  /** A name ends where the next begins. */
  #openName(entry: number): boolean {
    const view = this.#boot.view
    const at = this.#block + entry * DirentV6.size + DIRENT.nameoff
    const start = view.getUint16(at, true)
    const end = entry + 1 < this.#entries ? view.getUint16(at + DirentV6.size, true) : this.#endOfLast(start)
    if (start < this.#entries * DirentV6.size || end > this.#blockLength) return false
    this.#name = this.#block + start
    this.#nameLength = end - start
    return this.#nameLength > 0 && this.#nameLength <= NAME_MAX
  }

  /** The last name of a block ends at a NUL or with the block. */
  #endOfLast(start: number): number {
    const bytes = this.#boot.bytes
    let end = start
    while (end < this.#blockLength && end - start <= NAME_MAX && bytes[this.#block + end] !== 0) end++
    return end
  }

  /** -EIO when it cannot be the number of an inode of this file. */
  #nid(entry: number): number {
    const nid = u64(this.#boot.view, this.#block + entry * DirentV6.size + DIRENT.nid)
    return nid < this.#boot.length ? nid : -ERRNO.EIO
  }
}
