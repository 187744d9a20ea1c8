/**
 * The tree that is being built: every source (folder, tar, bootstraps to merge) fills one, every writer reads one.
 *
 *     dir-source, tar-source, overlay ──> Tree ──> chunker ──> writer-v5 | writer-v6
 *
 * Rows of columns, not objects: a node is a number, 0 is the root, and a name is bytes. A hard link is a node of
 * its own that names the node it is a link of (`linkOf`); what belongs to the inode (owner, times, xattrs, chunks)
 * is read from that one (`inodeOf`).
 */
import { ByteArena, Column } from './columns.js'

/** st_mode type bits (POSIX). */
export const S_IFMT = 0o170000
export const TYPE = {
  FIFO: 0o010000,
  CHR: 0o020000,
  DIR: 0o040000,
  BLK: 0o060000,
  REG: 0o100000,
  LNK: 0o120000,
  SOCK: 0o140000,
} as const

/** No node: an absent child, sibling, link. */
export const NONE = 0xffff_ffff
export const ROOT = 0

/** What a source knows of an inode when it adds a node. Times in seconds and nanoseconds; `rdev` Linux 32-bit dev_t. */
export interface NodeStat {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtime: number
  readonly mtimeNs: number
  /** Regular files: bytes. Ignored for all others. */
  readonly size: number
  readonly rdev: number
}

/** What a folder gets that no entry describes. */
export const MISSING_FOLDER: NodeStat = {
  mode: TYPE.DIR | 0o755,
  uid: 0,
  gid: 0,
  mtime: 0,
  mtimeNs: 0,
  size: 0,
  rdev: 0,
}

/** Full name (with namespace) and value, sorted by name when they are written. */
export interface Xattr {
  readonly name: Uint8Array
  readonly value: Uint8Array
}

const NO_XATTRS: readonly Xattr[] = []

export class Tree {
  readonly names = new ByteArena()
  readonly #parent = new Column(Uint32Array)
  readonly #nameOffset = new Column(Uint32Array)
  readonly #nameLength = new Column(Uint16Array)
  readonly #mode = new Column(Uint32Array)
  readonly #uid = new Column(Uint32Array)
  readonly #gid = new Column(Uint32Array)
  readonly #rdev = new Column(Uint32Array)
  readonly #mtime = new Column(Float64Array)
  readonly #mtimeNs = new Column(Uint32Array)
  readonly #size = new Column(Float64Array)
  readonly #firstChild = new Column(Uint32Array)
  readonly #nextSibling = new Column(Uint32Array)
  readonly #linkOf = new Column(Uint32Array)
  /** The other names of an inode, as a list that starts at the node which carries it. */
  readonly #nextLink = new Column(Uint32Array)
  readonly #nlink = new Column(Uint32Array)
  readonly #targetOffset = new Column(Uint32Array)
  readonly #targetLength = new Column(Uint16Array)
  readonly #chunkStart = new Column(Uint32Array)
  readonly #chunkCount = new Column(Uint32Array)
  readonly #dead = new Column(Uint8Array)
  readonly #xattrs = new Map<number, readonly Xattr[]>()
  /** Open addressing over (parent, name); made when the first look-up asks for it. */
  #index: Uint32Array | undefined
  #indexed = 0
  #rows = 0
  #alive = 0

  constructor(root: NodeStat) {
    this.#append(NONE, Buffer.from('/'), root)
  }

  /** Rows ever made; nodes run from 0 to `rows - 1`, removed ones among them. */
  get rows(): number {
    return this.#rows
  }
  /** Nodes that are in the tree: names, hard links counted each, the root too. */
  get count(): number {
    return this.#alive
  }

  #append(parent: number, name: Uint8Array, stat: NodeStat): number {
    const node = this.#rows++
    this.#alive++
    this.#parent.set(node, parent)
    this.#nameOffset.set(node, this.names.add(name))
    this.#nameLength.set(node, name.length)
    this.#mode.set(node, stat.mode)
    this.#firstChild.set(node, NONE)
    this.#nextSibling.set(node, NONE)
    this.#linkOf.set(node, NONE)
    this.#nextLink.set(node, NONE)
    this.#nlink.set(node, 1)
    this.#targetOffset.set(node, 0)
    this.#targetLength.set(node, 0)
    this.#chunkStart.set(node, 0)
    this.#chunkCount.set(node, 0)
    this.#dead.set(node, 0)
    this.setStat(node, stat)
    return node
  }

  /** Adds a child; the caller made sure that the folder has none of that name (`child`). */
  add(parent: number, name: Uint8Array, stat: NodeStat): number {
    const node = this.#append(parent, name, stat)
    this.#nextSibling.set(node, this.#firstChild.get(parent))
    this.#firstChild.set(parent, node)
    if (this.#index !== undefined) this.#remember(node)
    return node
  }

  /** Adds one more name for the inode of `target` (itself possibly a link). */
  addLink(parent: number, name: Uint8Array, target: number): number {
    const inode = this.inodeOf(target)
    const node = this.add(parent, name, this.stat(inode))
    this.#linkOf.set(node, inode)
    this.#nextLink.set(node, this.#nextLink.get(inode))
    this.#nextLink.set(inode, node)
    this.#nlink.set(inode, this.#nlink.get(inode) + 1)
    return node
  }

  setStat(node: number, stat: NodeStat): void {
    this.#mode.set(node, stat.mode)
    this.#uid.set(node, stat.uid)
    this.#gid.set(node, stat.gid)
    this.#rdev.set(node, stat.rdev)
    this.#mtime.set(node, stat.mtime)
    this.#mtimeNs.set(node, stat.mtimeNs)
    this.#size.set(node, stat.size)
  }

  stat(node: number): NodeStat {
    const inode = this.inodeOf(node)
    return {
      mode: this.#mode.get(inode),
      uid: this.#uid.get(inode),
      gid: this.#gid.get(inode),
      mtime: this.#mtime.get(inode),
      mtimeNs: this.#mtimeNs.get(inode),
      size: this.#size.get(inode),
      rdev: this.#rdev.get(inode),
    }
  }

  /** The node that carries the inode: itself, or the one it is a link of. */
  inodeOf(node: number): number {
    const link = this.#linkOf.get(node)
    return link === NONE ? node : link
  }
  isLink(node: number): boolean {
    return this.#linkOf.get(node) !== NONE
  }
  /** Names of the inode in the tree. */
  nlink(node: number): number {
    return this.#nlink.get(this.inodeOf(node))
  }
  parent(node: number): number {
    return this.#parent.get(node)
  }
  mode(node: number): number {
    return this.#mode.get(this.inodeOf(node))
  }
  type(node: number): number {
    return this.mode(node) & S_IFMT
  }
  size(node: number): number {
    return this.#size.get(this.inodeOf(node))
  }
  setSize(node: number, size: number): void {
    this.#size.set(this.inodeOf(node), size)
  }
  nameLength(node: number): number {
    return this.#nameLength.get(node)
  }
  /** Where its name starts in `names`. */
  nameOffset(node: number): number {
    return this.#nameOffset.get(node)
  }
  /** A view that is valid until the next `add`. */
  name(node: number): Uint8Array {
    return this.names.view(this.#nameOffset.get(node), this.#nameLength.get(node))
  }
  setTarget(node: number, target: Uint8Array): void {
    this.#targetOffset.set(node, this.names.add(target))
    this.#targetLength.set(node, target.length)
  }
  /** Target of a symbolic link. */
  target(node: number): Uint8Array {
    const inode = this.inodeOf(node)
    return this.names.view(this.#targetOffset.get(inode), this.#targetLength.get(inode))
  }
  targetLength(node: number): number {
    return this.#targetLength.get(this.inodeOf(node))
  }
  setXattrs(node: number, xattrs: readonly Xattr[]): void {
    const inode = this.inodeOf(node)
    if (xattrs.length === 0) this.#xattrs.delete(inode)
    else
      this.#xattrs.set(
        inode,
        [...xattrs].sort((a, b) => Buffer.compare(a.name, b.name)),
      )
  }
  xattrs(node: number): readonly Xattr[] {
    return this.#xattrs.get(this.inodeOf(node)) ?? NO_XATTRS
  }
  get hasXattrs(): boolean {
    return this.#xattrs.size > 0
  }
  /** The inode's chunks are rows `start … start + count` of the build's chunk table. */
  setChunks(node: number, start: number, count: number): void {
    const inode = this.inodeOf(node)
    this.#chunkStart.set(inode, start)
    this.#chunkCount.set(inode, count)
  }
  chunkStart(node: number): number {
    return this.#chunkStart.get(this.inodeOf(node))
  }
  chunkCount(node: number): number {
    return this.#chunkCount.get(this.inodeOf(node))
  }

  /** Children in no particular order (newest first) until `sortChildren`. */
  *children(node: number): Generator<number> {
    for (let at = this.#firstChild.get(node); at !== NONE; at = this.#nextSibling.get(at)) yield at
  }
  hasChildren(node: number): boolean {
    return this.#firstChild.get(node) !== NONE
  }

  /** Children in the order of their raw name bytes (RAFS v5 §4, v6 §6.4), which is also left in the tree. */
  sortedChildren(node: number): number[] {
    const list = [...this.children(node)]
    list.sort((a, b) =>
      this.names.compare(
        this.#nameOffset.get(a),
        this.#nameLength.get(a),
        this.#nameOffset.get(b),
        this.#nameLength.get(b),
      ),
    )
    let next = NONE
    for (let i = list.length - 1; i >= 0; i--) {
      const child = list[i] as number
      this.#nextSibling.set(child, next)
      next = child
    }
    this.#firstChild.set(node, next)
    return list
  }

  /** The child of that name, or NONE. */
  child(parent: number, name: Uint8Array): number {
    const index = this.#index ?? this.#reindex()
    const mask = index.length - 1
    for (let at = hash(parent, name, 0, name.length) & mask; ; at = (at + 1) & mask) {
      const node = (index[at] as number) - 1
      if (node < 0) return NONE
      if (
        this.#dead.get(node) === 0 &&
        this.#parent.get(node) === parent &&
        this.names.equals(this.#nameOffset.get(node), this.#nameLength.get(node), name, 0, name.length)
      )
        return node
    }
  }

  /**
   * Takes a node out of the tree, with all below it. When it carries an inode that other names share, the first
   * of those takes the inode over.
   */
  remove(node: number): void {
    const parent = this.#parent.get(node)
    let before = NONE
    for (const child of this.children(parent)) {
      if (child === node) break
      before = child
    }
    if (before === NONE) this.#firstChild.set(parent, this.#nextSibling.get(node))
    else this.#nextSibling.set(before, this.#nextSibling.get(node))
    this.#bury(node)
  }

  /** Removes every child of a folder (an opaque folder of an upper layer). */
  removeChildren(node: number): void {
    for (const child of [...this.children(node)]) this.#bury(child)
    this.#firstChild.set(node, NONE)
  }

  #bury(top: number): void {
    const stack = [top]
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      for (const child of this.children(node)) stack.push(child)
      this.#dead.set(node, 1)
      this.#alive--
      const inode = this.inodeOf(node)
      const left = this.#nlink.get(inode) - 1
      this.#nlink.set(inode, left)
      if (node === inode) this.#handOver(node)
    }
  }

  /** Makes the first living other name of a buried inode its new carrier. */
  #handOver(inode: number): void {
    let heir = NONE
    for (let node = this.#nextLink.get(inode); node !== NONE;) {
      const next = this.#nextLink.get(node)
      // A dead name leaves the list.
      if (this.#dead.get(node) === 0 && heir === NONE) {
        heir = node
        this.setStat(heir, this.stat(inode))
        this.#linkOf.set(heir, NONE)
        this.#nextLink.set(heir, NONE)
        this.#nlink.set(heir, this.#nlink.get(inode))
        this.#targetOffset.set(heir, this.#targetOffset.get(inode))
        this.#targetLength.set(heir, this.#targetLength.get(inode))
        this.#chunkStart.set(heir, this.#chunkStart.get(inode))
        this.#chunkCount.set(heir, this.#chunkCount.get(inode))
        const xattrs = this.#xattrs.get(inode)
        if (xattrs !== undefined) this.#xattrs.set(heir, xattrs)
      } else if (this.#dead.get(node) === 0) {
        this.#linkOf.set(node, heir)
        this.#nextLink.set(node, this.#nextLink.get(heir))
        this.#nextLink.set(heir, node)
      }
      node = next
    }
    this.#xattrs.delete(inode)
  }

  /** False for NONE and for nodes that were removed. */
  isNode(node: number): boolean {
    return node !== NONE && this.#dead.get(node) === 0
  }

  /** The node's path from the root, as bytes: `/` for the root. */
  path(node: number): Buffer {
    const parts: Uint8Array[] = []
    for (let at = node; at !== ROOT && at !== NONE; at = this.#parent.get(at))
      parts.push(this.name(at), Buffer.from('/'))
    return parts.length === 0 ? Buffer.from('/') : Buffer.concat(parts.reverse())
  }

  #reindex(): Uint32Array {
    let size = 1024
    while (size < this.#rows * 2) size *= 2
    this.#index = new Uint32Array(size)
    this.#indexed = 0
    for (let node = 1; node < this.#rows; node++)
      if (this.#dead.get(node) === 0) this.#place(this.#index, node)
    return this.#index
  }

  #place(index: Uint32Array, node: number): void {
    const mask = index.length - 1
    const start = this.#nameOffset.get(node)
    let at = hash(this.#parent.get(node), this.names.bytes, start, this.#nameLength.get(node)) & mask
    while (index[at] !== 0) at = (at + 1) & mask
    index[at] = node + 1
    this.#indexed++
  }

  #remember(node: number): void {
    const index = this.#index as Uint32Array
    if (this.#indexed * 2 >= index.length) this.#reindex()
    else this.#place(index, node)
  }
}

/** FNV-1a over the parent's number and the name. */
function hash(parent: number, bytes: Uint8Array, start: number, length: number): number {
  let h = Math.imul(0x811c9dc5 ^ parent, 0x01000193)
  for (let i = 0; i < length; i++) h = Math.imul(h ^ (bytes[start + i] as number), 0x01000193)
  return (h ^ (h >>> 15)) >>> 0
}
