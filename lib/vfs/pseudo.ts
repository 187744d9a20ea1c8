/**
 * Pseudo folders: the tree above (and between) the mounts, as a lane knows it.
 *
 * As a FileSystem it is slot 0: folders without content of their own. The Vfs puts images on them.
 */
import { ERRNO } from '../base/errors.js'
import { INO_MAX, ROOT_INO, type FolderRecord } from './changes.js'
import type { Attr, DirSink, FileSystem, StatFs } from './filesystem.js'

const DIRECTORY = 0o040755
const DOTS = Uint8Array.of(0x2e, 0x2e)

export class Folder {
  readonly ino: number
  /** The root is its own. */
  readonly parent: Folder
  readonly name: Uint8Array
  readonly hash: number
  /** Ascending by inode number, which is the order of the listing. */
  readonly children: Folder[] = []
  mtime = 0
  mtimeNs = 0
  /** Slot mounted on it, 0 for none. */
  slot = 0
  /** Where what the folder shows comes from: a slot's file system and an inode in it. Kept by the Vfs. */
  contentSlot = 0
  contentIno: number

  constructor(ino: number, parent: Folder | undefined, name: Uint8Array) {
    this.ino = ino
    this.parent = parent ?? this
    this.name = name
    this.hash = hashOf(this.parent.ino, name, 0, name.length)
    this.contentIno = ino
  }
}

function hashOf(parent: number, bytes: Uint8Array, start: number, length: number): number {
  let hash = 0x811c9dc5 ^ parent
  for (let i = start; i < start + length; i++) hash = Math.imul(hash ^ (bytes[i] as number), 0x01000193)
  return hash >>> 0
}

export class PseudoFs implements FileSystem {
  readonly rootIno = ROOT_INO
  readonly hasXattrs = false
  readonly root = new Folder(ROOT_INO, undefined, new Uint8Array(0))
  readonly #byIno = new Map<number, Folder>([[ROOT_INO, this.root]])
  /** Open addressing, linear probing, a power of two in size: (parent, name) to folder. */
  #table: (Folder | undefined)[] = new Array<Folder | undefined>(64).fill(undefined)

  /** By an inode number that may be anything; as a small integer, so that the look-up allocates nothing. */
  get(ino: number): Folder | undefined {
    return ino >= 0 && ino <= INO_MAX ? this.#byIno.get(ino | 0) : undefined
  }

  /** The child of that name, for any folder: also one whose own content is an image's. */
  find(parent: Folder, bytes: Uint8Array, start: number, length: number): Folder | undefined {
    const hash = hashOf(parent.ino, bytes, start, length)
    const table = this.#table
    const mask = table.length - 1
    for (let i = hash & mask; ; i = (i + 1) & mask) {
      const folder = table[i]
      if (folder === undefined) return undefined
      if (folder.hash !== hash || folder.parent !== parent || folder.name.length !== length) continue
      let same = 0
      while (same < length && folder.name[same] === bytes[start + same]) same++
      if (same === length) return folder
    }
  }

  /** First child with an inode number above `ino`: index in `children`. */
  after(parent: Folder, ino: number): number {
    const { children } = parent
    let low = 0
    let high = children.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((children[middle] as Folder).ino > ino) high = middle
      else low = middle + 1
    }
    return low
  }

  /** Creates or updates a folder. */
  put(record: FolderRecord): Folder {
    let folder = this.#byIno.get(record.ino)
    if (folder === undefined) {
      const parent = this.#byIno.get(record.parent)
      if (parent === undefined) throw new RangeError(`folder ${record.ino}: no parent ${record.parent}`)
      folder = new Folder(record.ino, parent, record.name)
      this.#byIno.set(record.ino, folder)
      parent.children.splice(this.after(parent, record.ino), 0, folder)
      if (this.#byIno.size * 2 > this.#table.length) this.#rehash(this.#table.length * 2)
      else this.#insert(folder)
    }
    folder.mtime = record.mtime
    folder.mtimeNs = record.mtimeNs
    folder.slot = record.slot
    return folder
  }

  delete(ino: number): void {
    const folder = this.#byIno.get(ino)
    if (folder === undefined || folder === this.root) return
    this.#byIno.delete(ino)
    folder.parent.children.splice(this.after(folder.parent, ino) - 1, 1)
    this.#remove(folder)
  }

  #insert(folder: Folder): void {
    const mask = this.#table.length - 1
    let i = folder.hash & mask
    while (this.#table[i] !== undefined) i = (i + 1) & mask
    this.#table[i] = folder
  }

  /** Closes the gap that a removed entry leaves, so that no probe ends too early. */
  #remove(folder: Folder): void {
    const table = this.#table
    const mask = table.length - 1
    let gap = folder.hash & mask
    while (table[gap] !== folder) gap = (gap + 1) & mask
    for (let i = (gap + 1) & mask; ; i = (i + 1) & mask) {
      const next = table[i]
      if (next === undefined) break
      const home = next.hash & mask
      if (((i - home) & mask) < ((i - gap) & mask)) continue
      table[gap] = next
      gap = i
    }
    table[gap] = undefined
  }

  #rehash(size: number): void {
    this.#table = new Array<Folder | undefined>(size).fill(undefined)
    for (const folder of this.#byIno.values()) if (folder !== this.root) this.#insert(folder)
  }

  lookup(parent: number, bytes: Uint8Array, start: number, length: number): number {
    const folder = this.get(parent)
    if (folder === undefined) return -ERRNO.ESTALE
    return this.find(folder, bytes, start, length)?.ino ?? -ERRNO.ENOENT
  }

  parent(ino: number): number {
    return this.get(ino)?.parent.ino ?? -ERRNO.ESTALE
  }

  getattr(ino: number, out: Attr): number {
    const folder = this.get(ino)
    if (folder === undefined) return -ERRNO.ESTALE
    out.ino = ino
    out.size = 0
    out.blocks = 0
    out.mode = DIRECTORY
    out.nlink = 2 + folder.children.length
    out.uid = 0
    out.gid = 0
    out.rdev = 0
    out.mtime = folder.mtime
    out.mtimeNs = folder.mtimeNs
    return 0
  }

  /** Cookies: 1 behind `.`, 2 behind `..`, 2 + ino behind a child. */
  readdir(ino: number, cookie: number, sink: DirSink): number {
    const folder = this.get(ino)
    if (folder === undefined) return -ERRNO.ESTALE
    if (cookie < 1 && !sink.entry(ino, DIRECTORY, DOTS, 0, 1, 1)) return 0
    if (cookie < 2 && !sink.entry(folder.parent.ino, DIRECTORY, DOTS, 0, 2, 2)) return 0
    return this.children(folder, Math.max(cookie - 2, 0), sink)
  }

  /** The children above inode number `above`; their cookies are `offset` + ino. */
  children(folder: Folder, above: number, sink: DirSink, offset = 2): number {
    for (let i = this.after(folder, above); i < folder.children.length; i++) {
      const child = folder.children[i] as Folder
      const { name } = child
      if (!sink.entry(child.ino, DIRECTORY, name, 0, name.length, offset + child.ino)) return 0
    }
    return 0
  }

  readlink(ino: number): number {
    return this.#known(ino, -ERRNO.EINVAL)
  }

  getxattr(ino: number): number {
    return this.#known(ino, -ERRNO.ENODATA)
  }

  listxattr(ino: number): number {
    return this.#known(ino, 0)
  }

  read(ino: number): number {
    return this.#known(ino, -ERRNO.EISDIR)
  }

  lseek(ino: number): number {
    return this.#known(ino, -ERRNO.EINVAL)
  }

  #known(ino: number, answer: number): number {
    return this.get(ino) === undefined ? -ERRNO.ESTALE : answer
  }

  /** Its own part: none. The Vfs adds up the images. */
  statfs(out: StatFs): number {
    out.blocks = 0
    out.files = this.#byIno.size
    return 0
  }
}
