/**
 * The VFS of a lane: every mount of the daemon as one tree of node ids.
 *
 *     nodeid ── slot ── FileSystem of an image ── inode
 *                 └──── slot 0: PseudoFs, folders above the mounts
 *
 * A mount point shows its image, whatever lies under it: another image's content, or a pseudo folder. A folder
 * on the way to a mount point shows the content of the image that it lies in, where that has such a folder, and
 * the mount points as well. It knows nothing of FUSE replies, caches or how images are stored.
 */
import { ERRNO } from '../base/errors.js'
import { ROOT_INO, SLOT_STRIDE, type MountChange, type OpenedSlot } from './changes.js'
import type { Attr, DirSink, FileNotes, FileSystem, NodeSink, Nodes, StatFs } from './filesystem.js'
import { newAttr } from './filesystem.js'
import { PseudoFs, type Folder } from './pseudo.js'

const TYPE = 0o170000
const DIRECTORY = 0o040000
const DOT = 0x2e
/** Cookies of mount points within an image's folder lie behind all cookies of the image. */
const GRAFT_COOKIE = 2 ** 52

/** An opened image; two slots share one while a guest still holds nodes of the older slot. */
interface Volume {
  readonly fs: FileSystem
  users: number
  readonly blocks: number
  readonly files: number
  /** Folders of this image with mount points in them: inode number and folder, side by side. */
  readonly graftInos: number[]
  readonly graftFolders: Folder[]
}

class Mounted {
  readonly slot: number
  readonly base: number
  readonly generation: number
  readonly counters: Float64Array
  readonly notes: FileNotes | null
  readonly fs: FileSystem
  readonly volume: Volume
  readonly volumeId: number
  /** Inode number of the folder it is mounted on. */
  readonly folder: number

  constructor(
    opened: Omit<OpenedSlot<unknown>, 'image' | 'counters'>,
    volume: Volume,
    counters: Float64Array,
    notes: FileNotes | null,
  ) {
    this.slot = opened.slot
    this.base = opened.slot * SLOT_STRIDE
    this.generation = opened.generation
    this.counters = counters
    this.notes = notes
    this.fs = volume.fs
    this.volume = volume
    this.volumeId = opened.volume
    this.folder = opened.folder
  }
}

/** An image that could not be opened in this lane. */
export interface OpenFailure {
  readonly slot: number
  readonly error: unknown
}

function isDot(bytes: Uint8Array, start: number, length: number): boolean {
  return length === 1 && bytes[start] === DOT
}

function isDotDot(bytes: Uint8Array, start: number, length: number): boolean {
  return length === 2 && bytes[start] === DOT && bytes[start + 1] === DOT
}

export class Vfs<Image> implements Nodes {
  readonly #open: (image: Image) => FileSystem
  readonly #countersOf: (opened: OpenedSlot<Image>) => Float64Array
  readonly #notesOf: (image: Image) => FileNotes | null
  readonly #pseudo = new PseudoFs()
  readonly #mounts: (Mounted | undefined)[] = []
  readonly #volumes = new Map<number, Volume>()
  /** Folders that are in a volume's list of grafts. */
  readonly #grafted = new Map<Folder, Volume>()
  readonly #attr = newAttr()
  readonly #totals: StatFs = { blocks: 0, files: 0 }
  #version = 0

  /** Slot 0. */
  readonly #own: Mounted

  readonly fixed: boolean
  xattrsPossible = true

  // The cursor.
  #mounted: Mounted
  fs: FileSystem = this.#pseudo
  ino = ROOT_INO
  nodeid = ROOT_INO
  entryFleeting = true

  // What a running readdir works with.
  #sink: NodeSink | undefined
  #graft: Folder | undefined
  #full = false
  readonly #imageEntries: DirSink = {
    entry: (ino, mode, bytes, start, length, next) => this.#imageEntry(ino, mode, bytes, start, length, next),
  }
  readonly #folderEntries: DirSink = {
    entry: (ino, mode, bytes, start, length, next) =>
      this.#folderEntry(ino, mode, bytes, start, length, next),
  }

  /**
   * `countersOf` picks a lane's part of a mount's counters; `counters` is for slot 0. `fixed`: `apply` is called once.
   * `notesOf`: where this lane takes down what happens to an image's files.
   */
  constructor(
    open: (image: Image) => FileSystem,
    countersOf: (opened: OpenedSlot<Image>) => Float64Array,
    counters: Float64Array,
    fixed = false,
    notesOf: (image: Image) => FileNotes | null = () => null,
  ) {
    this.#open = open
    this.#countersOf = countersOf
    this.#notesOf = notesOf
    this.fixed = fixed
    const volume = this.#newVolume(this.#pseudo)
    const self = { slot: 0, generation: 0, volume: 0, folder: ROOT_INO }
    this.#own = new Mounted(self, volume, counters, null)
    this.#mounts.push(this.#own)
    this.#mounted = this.#own
  }

  get version(): number {
    return this.#version
  }
  get slot(): number {
    return this.#mounted.slot
  }
  get base(): number {
    return this.#mounted.base
  }
  get generation(): number {
    return this.#mounted.generation
  }
  get counters(): Float64Array {
    return this.#mounted.counters
  }
  get notes(): FileNotes | null {
    return this.#mounted.notes
  }
  get attrFleeting(): boolean {
    return !this.fixed && (this.#mounted.slot === 0 || this.nodeid === ROOT_INO)
  }
  get childrenFleeting(): boolean {
    return !this.fixed && (this.#mounted.slot === 0 || this.nodeid === ROOT_INO)
  }
  get shifting(): boolean {
    return !this.fixed && (this.childrenFleeting || this.#graftHere() !== undefined)
  }

  select(nodeid: number): number {
    if (nodeid !== ROOT_INO) {
      const slot = Math.floor(nodeid / SLOT_STRIDE)
      const mounted = slot >= 0 && slot < this.#mounts.length ? this.#mounts[slot] : undefined
      if (mounted !== undefined) {
        this.#move(mounted, nodeid, nodeid - mounted.base)
        return 0
      }
    }
    this.#moveTo(this.#pseudo.root)
    return nodeid === ROOT_INO ? 0 : -ERRNO.ESTALE
  }

  enter(bytes: Uint8Array, start: number, length: number): number {
    if (isDot(bytes, start, length)) {
      this.entryFleeting = !this.fixed
      return 0
    }
    if (isDotDot(bytes, start, length)) return this.#up()
    const graft = this.#graftHere()
    const child = graft === undefined ? undefined : this.#pseudo.find(graft, bytes, start, length)
    if (child !== undefined) {
      this.#moveTo(child)
      this.entryFleeting = !this.fixed
      return 0
    }
    const mounted = this.#mounted
    const ino = mounted.fs.lookup(this.ino, bytes, start, length)
    if (ino < 0) return ino
    this.entryFleeting = this.childrenFleeting
    this.#move(mounted, mounted.base + ino, ino)
    return 0
  }

  getattr(out: Attr): number {
    const status = this.fs.getattr(this.ino, out)
    out.ino = this.nodeid
    return status
  }

  readdir(cookie: number, sink: NodeSink): number {
    this.#sink = sink
    if (this.slot === 0) return this.#pseudo.readdir(this.ino, cookie, this.#folderEntries)
    this.#graft = this.#graftHere()
    this.#full = false
    if (cookie < GRAFT_COOKIE) {
      const status = this.fs.readdir(this.ino, cookie, this.#imageEntries)
      if (status < 0 || this.#full || this.#graft === undefined) return status
      return this.#pseudo.children(this.#graft, 0, this.#folderEntries, GRAFT_COOKIE)
    }
    if (this.#graft === undefined) return 0
    return this.#pseudo.children(this.#graft, cookie - GRAFT_COOKIE, this.#folderEntries, GRAFT_COOKIE)
  }

  statfs(out: StatFs): number {
    if (this.slot !== 0) return this.fs.statfs(out)
    out.blocks = this.#totals.blocks
    out.files = this.#totals.files
    return 0
  }

  /** Brings the tree up to a new version; images that can't be opened are left out and named in the result. */
  apply(change: MountChange<Image>): OpenFailure[] {
    const failures: OpenFailure[] = []
    for (const opened of change.opened) {
      try {
        this.#openSlot(opened)
      } catch (error) {
        failures.push({ slot: opened.slot, error })
      }
    }
    for (const record of change.folders) this.#pseudo.put(record)
    for (const ino of change.gone) {
      const folder = this.#pseudo.get(ino)
      if (folder !== undefined) this.#ungraft(folder)
      this.#pseudo.delete(ino)
    }
    for (const slot of change.closed) this.#closeSlot(slot)
    for (const record of change.folders) {
      const folder = this.#pseudo.get(record.ino)
      if (folder !== undefined) this.#settle(folder)
    }
    this.#version = change.version
    this.xattrsPossible = !this.fixed || failures.length > 0 || this.#anyXattrs()
    this.#moveTo(this.#pseudo.root)
    return failures
  }

  #anyXattrs(): boolean {
    for (const { fs } of this.#volumes.values()) if (fs.hasXattrs) return true
    return false
  }

  #newVolume(fs: FileSystem): Volume {
    const size: StatFs = { blocks: 0, files: 0 }
    fs.statfs(size)
    return { fs, users: 0, ...size, graftInos: [], graftFolders: [] }
  }

  #openSlot(opened: OpenedSlot<Image>): void {
    let volume = this.#volumes.get(opened.volume)
    if (volume === undefined) {
      volume = this.#newVolume(this.#open(opened.image))
      this.#volumes.set(opened.volume, volume)
      this.#totals.blocks += volume.blocks
      this.#totals.files += volume.files
    }
    volume.users++
    while (this.#mounts.length <= opened.slot) this.#mounts.push(undefined)
    const notes = this.#notesOf(opened.image)
    this.#mounts[opened.slot] = new Mounted(opened, volume, this.#countersOf(opened), notes)
  }

  #closeSlot(slot: number): void {
    const mounted = this.#mounts[slot]
    if (mounted === undefined || slot === 0) return
    this.#mounts[slot] = undefined
    const { volume } = mounted
    if (--volume.users > 0) return
    this.#volumes.delete(mounted.volumeId)
    this.#totals.blocks -= volume.blocks
    this.#totals.files -= volume.files
  }

  /** Finds out what a folder shows, and what the folders in it show if that has changed. */
  #settle(folder: Folder): void {
    const { contentSlot, contentIno } = folder
    this.#ungraft(folder)
    const mounted = folder.slot === 0 ? undefined : this.#mounts[folder.slot]
    folder.contentSlot = 0
    folder.contentIno = folder.ino
    if (mounted !== undefined) {
      folder.contentSlot = mounted.slot
      folder.contentIno = mounted.fs.rootIno
    } else if (folder !== this.#pseudo.root && folder.parent.contentSlot !== 0) this.#showImageFolder(folder)
    this.#regraft(folder)
    if (folder.contentSlot === contentSlot && folder.contentIno === contentIno) return
    for (const child of folder.children) this.#settle(child)
  }

  #showImageFolder(folder: Folder): void {
    const { contentSlot, contentIno } = folder.parent
    const fs = this.#mounts[contentSlot]?.fs
    if (fs === undefined) return
    try {
      const ino = fs.lookup(contentIno, folder.name, 0, folder.name.length)
      if (ino < 0 || fs.getattr(ino, this.#attr) < 0 || (this.#attr.mode & TYPE) !== DIRECTORY) return
      folder.contentSlot = contentSlot
      folder.contentIno = ino
    } catch {
      // A damaged folder of the image: the pseudo folder in its place still leads to the mount point.
    }
  }

  #regraft(folder: Folder): void {
    if (folder.contentSlot === 0 || folder.children.length === 0) return
    const volume = this.#mounts[folder.contentSlot]?.volume
    if (volume === undefined) return
    volume.graftInos.push(folder.contentIno)
    volume.graftFolders.push(folder)
    this.#grafted.set(folder, volume)
  }

  #ungraft(folder: Folder): void {
    const volume = this.#grafted.get(folder)
    if (volume === undefined) return
    this.#grafted.delete(folder)
    const index = volume.graftFolders.indexOf(folder)
    volume.graftInos.splice(index, 1)
    volume.graftFolders.splice(index, 1)
  }

  /** The folder whose children lie in the folder at the cursor. */
  #graftHere(): Folder | undefined {
    if (this.#mounted.slot === 0) return this.#pseudo.get(this.ino)
    const { graftInos, graftFolders } = this.#mounted.volume
    for (let i = 0; i < graftInos.length; i++) if (graftInos[i] === this.ino) return graftFolders[i]
    return undefined
  }

  #move(mounted: Mounted, nodeid: number, ino: number): void {
    this.#mounted = mounted
    this.fs = mounted.fs
    this.nodeid = nodeid
    this.ino = ino
  }

  #moveTo(folder: Folder): void {
    const mounted = this.#mounts[folder.contentSlot]
    if (mounted === undefined) this.#move(this.#own, folder.ino, folder.ino)
    else this.#move(mounted, this.#nodeidOf(folder), folder.contentIno)
  }

  #nodeidOf(folder: Folder): number {
    return folder === this.#pseudo.root ? ROOT_INO : folder.contentSlot * SLOT_STRIDE + folder.contentIno
  }

  #up(): number {
    const mounted = this.#mounted
    this.entryFleeting = !this.fixed
    if (mounted.slot === 0 || this.ino === mounted.fs.rootIno) {
      const folder = this.#pseudo.get(mounted.slot === 0 ? this.ino : mounted.folder)
      if (folder === undefined) return -ERRNO.ESTALE
      this.#moveTo(folder.parent)
      return 0
    }
    const ino = mounted.fs.parent(this.ino)
    if (ino < 0) return ino
    this.#move(mounted, this.#nodeidIn(mounted, ino), ino)
    return 0
  }

  /** Node id of an inode, where the root of what is mounted at `/` is the root. */
  #nodeidIn(mounted: Mounted, ino: number): number {
    return ino === mounted.fs.rootIno && mounted.folder === ROOT_INO ? ROOT_INO : mounted.base + ino
  }

  #imageEntry(
    ino: number,
    mode: number,
    bytes: Uint8Array,
    start: number,
    length: number,
    next: number,
  ): boolean {
    const mounted = this.#mounted
    const sink = this.#sink as NodeSink
    let nodeid = mounted.base + ino
    let cacheable = true
    if (isDot(bytes, start, length)) {
      nodeid = this.nodeid
      cacheable = false
    } else if (isDotDot(bytes, start, length)) {
      const folder = this.ino === mounted.fs.rootIno ? this.#pseudo.get(mounted.folder) : undefined
      nodeid = folder === undefined ? this.#nodeidIn(mounted, ino) : this.#nodeidOf(folder.parent)
      cacheable = false
    } else if (this.#graft !== undefined) {
      if (this.#pseudo.find(this.#graft, bytes, start, length) !== undefined) return true
    }
    const taken = sink.node(nodeid, mode, bytes, start, length, next, cacheable)
    if (!taken) this.#full = true
    return taken
  }

  #folderEntry(
    ino: number,
    mode: number,
    bytes: Uint8Array,
    start: number,
    length: number,
    next: number,
  ): boolean {
    const folder = this.#pseudo.get(ino)
    const nodeid = folder === undefined ? ino : this.#nodeidOf(folder)
    return (this.#sink as NodeSink).node(nodeid, mode, bytes, start, length, next, false)
  }
}
