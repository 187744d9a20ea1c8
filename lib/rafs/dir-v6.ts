/** RAFS v6 folders: dirent blocks, searched and listed in place (rafs-v6.md §6.4). */
import { ERRNO } from '../base/errors.js'
import type { DirSink } from '../vfs/filesystem.js'
import { compareNames, u64, type Bootstrap } from './bootstrap.js'
import type { InodeV6 } from './inode-v6.js'
import type { ImageDir } from './reader.js'
import { NAME_MAX, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK } from './layout/flags.js'
import { DirentV6, V6_FILE_TYPE } from './layout/v6.js'

const DIRENT = DirentV6.at
const DOT_DOT = Uint8Array.of(0x2e, 0x2e)

/** Type bits by V6_FILE_TYPE; 0 = no such type. */
const MODES = new Uint16Array(256)
MODES[V6_FILE_TYPE.REG] = S_IFREG
MODES[V6_FILE_TYPE.DIR] = S_IFDIR
MODES[V6_FILE_TYPE.CHR] = S_IFCHR
MODES[V6_FILE_TYPE.BLK] = S_IFBLK
MODES[V6_FILE_TYPE.FIFO] = S_IFIFO
MODES[V6_FILE_TYPE.SOCK] = S_IFSOCK
MODES[V6_FILE_TYPE.SYMLINK] = S_IFLNK

/** One per reader; works on the folder that `inode` holds. `#block…` and `#name…` are the block and name looked at last. */
export class DirV6 implements ImageDir {
  readonly #boot: Bootstrap
  readonly #inode: InodeV6
  readonly #blockSize: number
  #block = 0
  #blockLength = 0
  /** Entries of the block. */
  #entries = 0
  #name = 0
  #nameLength = 0

  constructor(boot: Bootstrap, inode: InodeV6, blockSize: number) {
    this.#boot = boot
    this.#inode = inode
    this.#blockSize = blockSize
  }

  /** nid of the entry of that name; -ENOENT, -EIO. */
  find(bytes: Uint8Array, start: number, length: number): number {
    const blocks = Math.ceil(this.#inode.size / this.#blockSize)
    if (blocks === 0) return -ERRNO.ENOENT
    // The last block whose first name is not behind the wanted one.
    let low = 0
    let high = blocks - 1
    while (low < high) {
      const middle = low + Math.ceil((high - low) / 2)
      if (!this.#openBlock(middle) || !this.#openName(0)) return -ERRNO.EIO
      if (this.#compare(bytes, start, length) >= 0) low = middle
      else high = middle - 1
    }
    if (!this.#openBlock(low)) return -ERRNO.EIO
    let first = 0
    let last = this.#entries - 1
    while (first <= last) {
      const middle = (first + last) >>> 1
      if (!this.#openName(middle)) return -ERRNO.EIO
      const order = this.#compare(bytes, start, length)
      if (order === 0) return this.#nid(middle)
      if (order > 0) first = middle + 1
      else last = middle - 1
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

  #compare(bytes: Uint8Array, start: number, length: number): number {
    return compareNames(bytes, start, length, this.#boot.bytes, this.#name, this.#nameLength)
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

  /** A name ends where the next begins; the last one at a NUL or at the end of the block. */
  #openName(entry: number): boolean {
    const view = this.#boot.view
    const at = this.#block + entry * DirentV6.size + DIRENT.nameoff
    const start = view.getUint16(at, true)
    let end: number
    if (entry + 1 < this.#entries) {
      end = view.getUint16(at + DirentV6.size, true)
    } else {
      end = start
      while (end < this.#blockLength && end - start <= NAME_MAX && view.getUint8(this.#block + end) !== 0)
        end++
    }
    if (start < this.#entries * DirentV6.size || end > this.#blockLength) return false
    this.#name = this.#block + start
    this.#nameLength = end - start
    return this.#nameLength > 0 && this.#nameLength <= NAME_MAX
  }

  /** -EIO when it cannot be the number of an inode of this file. */
  #nid(entry: number): number {
    const nid = u64(this.#boot.view, this.#block + entry * DirentV6.size + DIRENT.nid)
    return nid < this.#boot.length ? nid : -ERRNO.EIO
  }
}
