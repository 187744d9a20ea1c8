/**
 * Fills a tree from a folder on disk. Paths and names are bytes throughout; an order of the folder's own does not
 * matter (order.ts sorts); what cannot be read ends the build with its path, nothing is left out in silence.
 */
import { lstatSync, type BigIntStats } from 'node:fs'
import { NydusError, explain } from '../base/errors.js'
import { native } from '../native.js'
import { deviceNumber32 } from './device.js'
import { ScanHead, ScanXattr } from './scan-record.js'
import { ROOT, S_IFMT, Tree, TYPE, type NodeStat, type Xattr } from './tree.js'
import { splitXattrName } from './v6-parts.js'
import { isMarker, type WhiteoutSpec } from './whiteout.js'

export interface DirSource {
  readonly tree: Tree
  /** Path on disk of a node, as bytes. */
  path(node: number): Buffer
}

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
  return new NydusError('BUILD_SOURCE_UNREADABLE', 'EIO', `cannot read ${path.toString()}: ${explain(error)}`, {
    cause: error,
  })
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
    return {
      mode: this.#u32('mode'),
      uid: this.#u32('uid'),
      gid: this.#u32('gid'),
      mtime: Number(this.#view.getBigInt64(this.#at + ScanHead.at.mtime, true)),
      mtimeNs: this.#u32('mtimeNs'),
      size: Number(this.#view.getBigUint64(this.#at + ScanHead.at.size, true)),
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

/** Walks `root`. `whiteouts`: markers of that kind are dropped (a single layer hides nothing). */
export function readDirSource(
  root: string,
  whiteouts: WhiteoutSpec,
  found: (entries: number) => void,
): DirSource {
  const rootPath = Buffer.from(root)
  let top: BigIntStats
  try {
    top = lstatSync(rootPath, { bigint: true })
  } catch (error) {
    throw failed(rootPath, error)
  }
  if (!top.isDirectory())
    throw new NydusError(
      'BUILD_SOURCE',
      'ENOTDIR',
      `${root} is not a folder; for an archive use --type tar-rafs or targz-rafs`,
    )
  const tree = new Tree(statOf(top))
  try {
    tree.setXattrs(ROOT, rootXattrs(rootPath))
  } catch (error) {
    throw failed(rootPath, error)
  }
  const path = (node: number): Buffer =>
    node === ROOT ? rootPath : Buffer.concat([rootPath, tree.path(node)])
  /** Nodes of inodes with several names. */
  const linked = new Map<string, number>()
  const folders = [ROOT]
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const folderPath = path(folder)
    let entries: Scanned
    try {
      entries = new Scanned(native.scanFolder(folderPath))
    } catch (error) {
      throw failed(folderPath, error)
    }
    let count = 0
    for (; !entries.ended; entries.next(), count++) {
      const node = addEntry(tree, folder, entries, linked, whiteouts)
      if (node !== undefined && tree.type(node) === TYPE.DIR) folders.push(node)
    }
    found(count)
  }
  return { tree, path }
}

function addEntry(
  tree: Tree,
  folder: number,
  entry: Scanned,
  linked: Map<string, number>,
  whiteouts: WhiteoutSpec,
): number | undefined {
  const { stat, name } = entry
  if (whiteouts !== 'none' && isMarker(whiteouts, name, stat)) return undefined
  const type = stat.mode & S_IFMT
  const identity = type !== TYPE.DIR && entry.nlink > 1 ? entry.identity : undefined
  const first = identity === undefined ? undefined : linked.get(identity)
  if (first !== undefined) return tree.addLink(folder, name, first)
  const node = tree.add(folder, name, stat)
  if (type === TYPE.LNK) tree.setTarget(node, entry.target)
  const { xattrs } = entry
  if (xattrs.length > 0) tree.setXattrs(node, xattrs)
  if (identity !== undefined) linked.set(identity, node)
  return node
}
