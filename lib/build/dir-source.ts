/**
 * Fills a tree from a folder on disk. Paths and names are bytes throughout; an order of the folder's own does not
 * matter (order.ts sorts); what cannot be read ends the build with its path, nothing is left out in silence.
 */
import { lstatSync, readdirSync, readlinkSync, type BigIntStats } from 'node:fs'
import { NydusError, explain } from '../base/errors.js'
import { native } from '../native.js'
import { deviceNumber } from './device.js'
import { ROOT, S_IFMT, Tree, TYPE, type NodeStat, type Xattr } from './tree.js'
import { splitXattrName } from './v6-parts.js'
import { isMarker, type WhiteoutSpec } from './whiteout.js'

export interface DirSource {
  readonly tree: Tree
  /** Path on disk of a node, as bytes. */
  path(node: number): Buffer
}

const SLASH = Buffer.from('/')
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
    rdev: deviceNumber(st.rdev),
  }
}

function failed(path: Buffer, error: unknown): NydusError {
  return new NydusError('BUILD_SOURCE_UNREADABLE', 'EIO', `cannot read ${path.toString()}: ${explain(error)}`, {
    cause: error,
  })
}

/** Xattrs that an image has a place for; others (nfs4 ACLs and the like) mean something on their own file system only. */
function xattrsOf(path: Buffer): Xattr[] {
  const out: Xattr[] = []
  let names: Uint8Array
  try {
    names = native.llistxattr(path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'SYS_EOPNOTSUPP') return out
    throw error
  }
  for (let at = 0; at < names.length; ) {
    const end = names.indexOf(0, at)
    const name = names.slice(at, end < 0 ? names.length : end)
    at += name.length + 1
    if (name.length > 0 && splitXattrName(name) !== undefined) out.push({ name, value: native.lgetxattr(path, name) })
  }
  return out
}

/** Walks `root`. `whiteouts`: markers of that kind are dropped (a single layer hides nothing). */
export function readDirSource(root: string, whiteouts: WhiteoutSpec, found: (entries: number) => void): DirSource {
  const rootPath = Buffer.from(root)
  let top: BigIntStats
  try {
    top = lstatSync(rootPath, { bigint: true })
  } catch (error) {
    throw failed(rootPath, error)
  }
  if (!top.isDirectory())
    throw new NydusError('BUILD_SOURCE', 'ENOTDIR', `${root} is not a folder; for an archive use --type tar-rafs or targz-rafs`)
  const tree = new Tree(statOf(top))
  try {
    tree.setXattrs(ROOT, xattrsOf(rootPath))
  } catch (error) {
    throw failed(rootPath, error)
  }
  const path = (node: number): Buffer => (node === ROOT ? rootPath : Buffer.concat([rootPath, tree.path(node)]))
  /** Nodes of inodes with several names, by device and inode number. */
  const linked = new Map<string, number>()
  const folders = [ROOT]
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const folderPath = path(folder)
    let names: Buffer[]
    try {
      names = readdirSync(folderPath, { encoding: 'buffer' })
    } catch (error) {
      throw failed(folderPath, error)
    }
    for (const name of names) {
      const full = Buffer.concat([folderPath, SLASH, name])
      try {
        const node = addEntry(tree, folder, name, full, linked, whiteouts)
        if (node !== undefined && tree.type(node) === TYPE.DIR) folders.push(node)
      } catch (error) {
        throw error instanceof NydusError && error.code.startsWith('BUILD_') ? error : failed(full, error)
      }
    }
    found(names.length)
  }
  return { tree, path }
}

function addEntry(
  tree: Tree,
  folder: number,
  name: Buffer,
  path: Buffer,
  linked: Map<string, number>,
  whiteouts: WhiteoutSpec,
): number | undefined {
  const st = lstatSync(path, { bigint: true })
  const stat = statOf(st)
  if (isMarker(whiteouts, name, stat)) return undefined
  const type = stat.mode & S_IFMT
  if (type !== TYPE.DIR && st.nlink > 1n) {
    const key = `${st.dev}:${st.ino}`
    const first = linked.get(key)
    if (first !== undefined) return tree.addLink(folder, name, first)
    const node = addNode(tree, folder, name, path, stat)
    linked.set(key, node)
    return node
  }
  return addNode(tree, folder, name, path, stat)
}

function addNode(tree: Tree, folder: number, name: Buffer, path: Buffer, stat: NodeStat): number {
  const node = tree.add(folder, name, stat)
  if ((stat.mode & S_IFMT) === TYPE.LNK) tree.setTarget(node, readlinkSync(path, { encoding: 'buffer' }))
  tree.setXattrs(node, xattrsOf(path))
  return node
}
