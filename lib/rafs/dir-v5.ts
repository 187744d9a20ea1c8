/** RAFS v5 folders: children have consecutive indexes in name order (rafs-v5.md §4). */
import { ERRNO } from '../base/errors.js'
import type { DirSink } from '../vfs/filesystem.js'
import { orderAt, sharedBytes, type Bootstrap } from './bootstrap.js'
import type { InodeV5 } from './inode-v5.js'
import type { ImageDir } from './reader.js'
import { NAME_MAX, S_IFDIR, S_IFMT } from './layout/flags.js'
import { NO_TABLE } from './name-index.js'

const DOTS = Uint8Array.of(0x2e, 0x2e)
/** Cookies: 0 before `.`, 1 before `..`, then child number + 2. */
const DOT_ENTRIES = 2

/** One per reader; works on the folder that `inode` holds. */
export class DirV5 implements ImageDir {
  readonly #boot: Bootstrap
  readonly #inode: InodeV5

  constructor(boot: Bootstrap, inode: InodeV5) {
    this.#boot = boot
    this.#inode = inode
  }

  known(): number {
    return NO_TABLE
  }

  /** Inode number of the child of that name; -ENOENT, -EIO. */
  find(bytes: Uint8Array, start: number, length: number): number {
    const inode = this.#inode
    const boot = this.#boot.bytes
    // Names between two others share the bytes that those share with the wanted one: they are not compared again.
    let lowShared = 0
    let highShared = 0
    let first = 0
    let last = inode.childCount - 1
    while (first <= last) {
      const middle = (first + last) >>> 1
      const record = inode.record(inode.childIndex + middle)
      if (record < 0 || !inode.openName(record)) return -ERRNO.EIO
      const known = lowShared < highShared ? lowShared : highShared
      const shared = sharedBytes(bytes, start, length, boot, inode.name, inode.nameLength, known)
      const order = orderAt(shared, bytes, start, length, boot, inode.name, inode.nameLength)
      if (order === 0)
        // In a folder that is not sorted, bytes were skipped that differ: no name may pass for another.
        return sharedBytes(bytes, start, length, boot, inode.name, inode.nameLength, 0) === length
          ? inode.inoOf(record)
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
    return this.#inode.parent
  }

  /** Entries from `cookie` on; returns how many the sink took, -EIO when the first is damaged already. */
  list(cookie: number, sink: DirSink): number {
    const inode = this.#inode
    const parent = inode.parent
    if (parent < 0) return parent
    if (!(cookie >= 0) || !Number.isInteger(cookie)) return -ERRNO.EINVAL
    const end = inode.childCount + DOT_ENTRIES
    let taken = 0
    for (let at = cookie; at < end; at++) {
      if (at < DOT_ENTRIES) {
        if (!sink.entry(at === 0 ? inode.ino : parent, S_IFDIR, DOTS, 0, at + 1, at + 1)) return taken
      } else {
        const record = inode.record(inode.childIndex + at - DOT_ENTRIES)
        const ino =
          record < 0 || !inode.openName(record) || inode.nameLength > NAME_MAX ? -1 : inode.inoOf(record)
        if (ino < 0) return taken > 0 ? taken : -ERRNO.EIO
        const type = inode.modeOf(record) & S_IFMT
        if (!sink.entry(ino, type, this.#boot.bytes, inode.name, inode.nameLength, at + 1)) return taken
      }
      taken++
    }
    return taken
  }
}
