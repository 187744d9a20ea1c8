/**
 * Fills a tree from a folder on disk. Paths and names are bytes throughout; an order of the folder's own does not
 * matter (order.ts sorts); what cannot be read ends the build with its path, nothing is left out in silence.
 */
import { lstatSync, type BigIntStats } from 'node:fs'
import { NydusError, explain } from '../base/errors.js'
import { i64, u64 } from '../base/u64.js'
import { native } from '../native.js'
import { deviceNumber32 } from './device.js'
import { ScanHead, ScanXattr } from './scan-record.js'
import { ROOT, S_IFMT, Tree, TYPE, type NodeStat, type Xattr } from './tree.js'
import { splitXattrName } from './v6-parts.js'
import { isMarker, type WhiteoutSpec } from './whiteout.js'

const NO_XATTRS: readonly Xattr[] = []
const NS = 1_000_000_000n

function statOf(st: BigIntStats): NodeStat {
  const ns = ((st.mtimeNs % NS) + NS) % NS
  return {
    mode: Number(st.mode),
    uid: Number(st.uid),
    gid: Number(st.gid),
    mtime: Number((st.mtimeNs - ns) / NS),
    mtimeNs: Number(ns),
    size: Number(st.size),
    rdev: 0,
  }
}

function failed(path: Buffer, error: unknown): NydusError {
  return new NydusError(
    'BUILD_SOURCE_UNREADABLE',
    'EIO',
    `cannot read ${path.toString()}: ${explain(error)}`,
    {
      cause: error,
    },
  )
}

/** Xattrs that an image has a place for; others (nfs4 ACLs and the like) mean something on their own file system only. */
function rootXattrs(path: Buffer): Xattr[] {
  const out: Xattr[] = []
  let names: Uint8Array
  try {
    names = native.llistxattr(path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'SYS_EOPNOTSUPP') return out
    throw error
  }
  for (let at = 0; at < names.length;) {
    const end = names.indexOf(0, at)
    const name = names.slice(at, end < 0 ? names.length : end)
    at += name.length + 1
    if (name.length > 0 && splitXattrName(name) !== undefined)
      out.push({ name, value: native.lgetxattr(path, name) })
  }
  return out
}

/** The entries of one folder, as `native.scanFolder` packs them. */
class Scanned {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get ended(): boolean {
    return this.#at >= this.#bytes.length
  }

  #u32(field: keyof typeof ScanHead.at): number {
    return this.#view.getUint32(this.#at + ScanHead.at[field], true)
  }

  get stat(): NodeStat {
    const view = this.#view
    const at = this.#at
    const { mtime, size } = ScanHead.at
    return {
      mode: this.#u32('mode'),
      uid: this.#u32('uid'),
      gid: this.#u32('gid'),
      mtime: i64(view, at + mtime),
      mtimeNs: this.#u32('mtimeNs'),
      size: u64(view, at + size),
      rdev: deviceNumber32(this.#u32('major'), this.#u32('minor')),
    }
  }

  get nlink(): number {
    return this.#u32('nlink')
  }

  /** The same for all names of an inode. */
  get identity(): string {
    const device = this.#view.getBigUint64(this.#at + ScanHead.at.device, true)
    return `${device}:${this.#view.getBigUint64(this.#at + ScanHead.at.inode, true)}`
  }

  get name(): Uint8Array {
    const start = this.#at + ScanHead.size
    return this.#bytes.subarray(start, start + this.#u32('nameLength'))
  }

  get target(): Uint8Array {
    const start = this.#at + ScanHead.size + this.#u32('nameLength')
    return this.#bytes.subarray(start, start + this.#u32('targetLength'))
  }

  get xattrs(): readonly Xattr[] {
    const length = this.#u32('xattrBytes')
    if (length === 0) return NO_XATTRS
    const out: Xattr[] = []
    let at = this.#at + ScanHead.size + this.#u32('nameLength') + this.#u32('targetLength')
    for (const end = at + length; at < end;) {
      const head = ScanXattr.read(this.#bytes, at)
      const nameAt = at + ScanXattr.size
      const valueAt = nameAt + head.nameLength
      at = valueAt + head.valueLength
      // Copies: the folder's bytes shall not live as long as the tree.
      const name = this.#bytes.slice(nameAt, valueAt)
      if (splitXattrName(name) !== undefined) out.push({ name, value: this.#bytes.slice(valueAt, at) })
    }
    return out
  }

  next(): void {
    this.#at += ScanHead.size + this.#u32('nameLength') + this.#u32('targetLength') + this.#u32('xattrBytes')
  }
}

/** A folder on disk that a tree is filled from. */
export class DirSource {
  readonly tree: Tree
  readonly #root: Buffer
  readonly #whiteouts: WhiteoutSpec
  /** Nodes of inodes with several names. */
  readonly #linked = new Map<string, number>()

  /** `whiteouts`: markers of that kind are dropped (a single layer hides nothing). */
  constructor(root: string, whiteouts: WhiteoutSpec) {
    this.#root = Buffer.from(root)
    this.#whiteouts = whiteouts
    let top: BigIntStats
    try {
      top = lstatSync(this.#root, { bigint: true })
    } catch (error) {
      throw failed(this.#root, error)
    }
    if (!top.isDirectory())
      throw new NydusError(
        'BUILD_SOURCE',
        'ENOTDIR',
        `${root} is not a folder; for an archive use --type tar-rafs or targz-rafs`,
      )
    this.tree = new Tree(statOf(top))
    try {
      this.tree.setXattrs(ROOT, rootXattrs(this.#root))
    } catch (error) {
      throw failed(this.#root, error)
    }
  }

  /** Path on disk of a node, as bytes. */
  path(node: number): Buffer {
    return node === ROOT ? this.#root : Buffer.concat([this.#root, this.tree.path(node)])
  }

  /**
   * Walks the folder and all below it in the order of an image (order.ts), and fills the tree. Yields each folder when
   * its children are in the tree, so that their data can be worked on while the walk goes on.
   */
  *walk(): Generator<ScannedFolder> {
    const folders = [ROOT]
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      const path = this.path(folder)
      let entries: Scanned
      try {
        entries = new Scanned(native.scanFolder(path))
      } catch (error) {
        throw failed(path, error)
      }
      const first = this.tree.rows
      let count = 0
      for (; !entries.ended; entries.next(), count++) this.#add(folder, entries)
      const end = this.tree.rows
      yield { count, first, end }
      for (let node = end - 1; node >= first; node--)
        if (this.tree.type(node) === TYPE.DIR) folders.push(node)
    }
  }

  #add(folder: number, entry: Scanned): void {
    const { tree } = this
    const { stat, name } = entry
    if (isMarker(this.#whiteouts, name, stat)) return
    const type = stat.mode & S_IFMT
    const identity = type !== TYPE.DIR && entry.nlink > 1 ? entry.identity : undefined
    const known = identity === undefined ? undefined : this.#linked.get(identity)
    if (known !== undefined) {
      tree.addLink(folder, name, known)
      return
    }
    const node = tree.add(folder, name, stat)
    if (type === TYPE.LNK) tree.setTarget(node, entry.target)
    const { xattrs } = entry
    if (xattrs.length > 0) tree.setXattrs(node, xattrs)
    if (identity !== undefined) this.#linked.set(identity, node)
  }
}

/** A folder that was read. */
export interface ScannedFolder {
  /** Entries that it has. */
  readonly count: number
  /** Its children are the nodes `first … end - 1`, in the order of their names. */
  readonly first: number
  readonly end: number
}
