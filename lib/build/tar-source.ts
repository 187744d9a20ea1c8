/**
 * Fills a tree from a tar archive, and hands each file's content on while the archive streams by. What an archive may
 * not do (leave the image's root, link to nothing) ends the build with the entry's name and place.
 */
import { NydusError } from '../base/errors.js'
import type { Bytes } from './byte-source.js'
import { deviceNumber32 } from './device.js'
import { LANDMARKS, TOC_NAME } from './estargz.js'
import { TAR_TYPE } from './tar-header.js'
import { readTar, type TarEntry } from './tar-reader.js'
import { MISSING_FOLDER, NONE, ROOT, Tree, TYPE, type NodeStat, type Xattr } from './tree.js'
import { splitXattrName } from './v6-parts.js'

/** Files that tools put into archives for themselves (blobs-and-cache.md §8). */
const SKIPPED: ReadonlySet<string> = new Set([TOC_NAME, ...LANDMARKS])
const SLASH = 0x2f

function entryError(entry: TarEntry, what: string): NydusError {
  return new NydusError(
    'TAR_ENTRY',
    'EINVAL',
    `tar entry '${entry.path.toString()}' (header at byte ${entry.headerOffset}): ${what}`,
  )
}

/** Path components: leading slashes and `.` fall away; `..` is refused. */
function components(path: Uint8Array, entry: TarEntry): Uint8Array[] {
  const parts: Uint8Array[] = []
  let start = 0
  for (let i = 0; i <= path.length; i++) {
    if (i < path.length && path[i] !== SLASH) continue
    const part = path.subarray(start, i)
    start = i + 1
    if (part.length === 0 || (part.length === 1 && part[0] === 0x2e)) continue
    if (part.length === 2 && part[0] === 0x2e && part[1] === 0x2e)
      throw entryError(entry, "its path has '..' in it: it could leave the image's root")
    if (part.length > 255) throw entryError(entry, `a name of ${part.length} bytes, 255 are the limit`)
    parts.push(part)
  }
  return parts
}

const TYPE_OF: Readonly<Record<string, number>> = {
  [TAR_TYPE.FILE]: TYPE.REG,
  [TAR_TYPE.SYMLINK]: TYPE.LNK,
  [TAR_TYPE.CHR]: TYPE.CHR,
  [TAR_TYPE.BLK]: TYPE.BLK,
  [TAR_TYPE.DIR]: TYPE.DIR,
  [TAR_TYPE.FIFO]: TYPE.FIFO,
}

function statOf(entry: TarEntry): NodeStat {
  const type = TYPE_OF[entry.type]
  if (type === undefined) throw entryError(entry, `its type '${entry.type}' is none that an image can hold`)
  const device = type === TYPE.CHR || type === TYPE.BLK
  return {
    mode: type | entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtime: entry.mtime,
    mtimeNs: entry.mtimeNs,
    size: type === TYPE.REG ? entry.size : 0,
    rdev: device ? deviceNumber32(entry.devmajor, entry.devminor) : 0,
  }
}

function xattrsOf(entry: TarEntry): Xattr[] {
  return entry.xattrs.filter(xattr => {
    if (splitXattrName(xattr.name) !== undefined) return true
    throw entryError(
      entry,
      `xattr '${Buffer.from(xattr.name).toString()}' is of a namespace that an image has no place for`,
    )
  })
}

export interface TarVisitor {
  /** A regular file: its content has to be read before the next entry. */
  file(tree: Tree, node: number, entry: TarEntry): Promise<void>
  found(entries: number): void
  /** A file that a tool put there for itself: it does not come into the tree. */
  skipped?(name: string, entry: TarEntry): Promise<void>
}

/** The folder of that name below `parent`, made when it is missing; whatever else has the name gives way. */
function folderNode(tree: Tree, parent: number, name: Uint8Array): number {
  const node = tree.child(parent, name)
  if (node !== NONE && tree.type(node) === TYPE.DIR) return node
  if (node !== NONE) tree.remove(node)
  return tree.add(parent, name, MISSING_FOLDER)
}

export async function readTarSource(source: Bytes, visitor: TarVisitor): Promise<Tree> {
  const tree = new Tree(MISSING_FOLDER)
  for await (const entry of readTar(source)) {
    const parts = components(entry.path, entry)
    const name = parts.pop()
    if (name === undefined) {
      if (entry.type === TAR_TYPE.DIR) {
        tree.setStat(ROOT, statOf(entry))
        tree.setXattrs(ROOT, xattrsOf(entry))
      }
      continue
    }
    if (parts.length === 0 && SKIPPED.has(Buffer.from(name).toString())) {
      await visitor.skipped?.(Buffer.from(name).toString(), entry)
      continue
    }
    let parent = ROOT
    for (const part of parts) parent = folderNode(tree, parent, part)
    const existing = tree.child(parent, name)
    if (entry.type === TAR_TYPE.LINK) addLink(tree, parent, name, existing, entry)
    else {
      const node = addNode(tree, parent, name, existing, entry)
      if (tree.type(node) === TYPE.REG) await visitor.file(tree, node, entry)
    }
    visitor.found(1)
  }
  return tree
}

function addNode(tree: Tree, parent: number, name: Uint8Array, existing: number, entry: TarEntry): number {
  const stat = statOf(entry)
  let node = existing
  // A path that comes again replaces what was there; a folder keeps its children.
  if (node !== NONE && (tree.type(node) !== TYPE.DIR || entry.type !== TAR_TYPE.DIR)) {
    tree.remove(node)
    node = NONE
  }
  if (node === NONE) node = tree.add(parent, name, stat)
  else tree.setStat(node, stat)
  if (entry.type === TAR_TYPE.SYMLINK) {
    if (entry.linkname.length === 0) throw entryError(entry, 'a symbolic link without a target')
    if (entry.linkname.length >= 4096)
      throw entryError(entry, `a link target of ${entry.linkname.length} bytes, 4095 are the limit`)
    tree.setTarget(node, entry.linkname)
  }
  tree.setXattrs(node, xattrsOf(entry))
  return node
}

function addLink(tree: Tree, parent: number, name: Uint8Array, existing: number, entry: TarEntry): void {
  let target = ROOT
  for (const part of components(entry.linkname, entry)) {
    target = tree.child(target, part)
    if (target === NONE)
      throw entryError(
        entry,
        `a hard link to '${entry.linkname.toString()}', which does not come earlier in this archive (in a layer: it lies below; convert the layers together)`,
      )
  }
  if (tree.type(target) === TYPE.DIR)
    throw entryError(entry, `a hard link to '${entry.linkname.toString()}', which is a folder`)
  if (existing !== NONE) {
    if (tree.inodeOf(existing) === tree.inodeOf(target)) return
    tree.remove(existing)
  }
  tree.addLink(parent, name, target)
}
