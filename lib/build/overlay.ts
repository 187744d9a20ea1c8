/**
 * Puts an upper layer over a lower one (blobs-and-cache.md §7). In every folder first all whiteouts, then all other
 * entries: an upper inode replaces a lower one completely, only folders of the same name are merged.
 */
import { NONE, ROOT, type Tree, TYPE } from './tree.js'
import { OVERLAY_OPAQUE, whiteoutOf, type WhiteoutSpec } from './whiteout.js'

/** Changes `lower`; both trees refer to the same Chunks. */
export function overlay(lower: Tree, upper: Tree, spec: WhiteoutSpec): void {
  /** Nodes in `lower` of upper inodes, for hard links. */
  const made = new Map<number, number>()
  copyInode(lower, ROOT, upper, ROOT, spec)
  const folders: [lower: number, upper: number][] = [[ROOT, ROOT]]
  for (let pair = folders.pop(); pair !== undefined; pair = folders.pop()) {
    const [into, from] = pair
    const children = upper.sortedChildren(from)
    hide(lower, into, upper, from, children, spec)
    for (const child of children) {
      const name = upper.name(child)
      if (whiteoutOf(spec, name, upper.stat(child)) !== undefined) continue
      const isFolder = upper.type(child) === TYPE.DIR
      let node = lower.child(into, name)
      if (node !== NONE && !(isFolder && lower.type(node) === TYPE.DIR)) {
        lower.remove(node)
        node = NONE
      }
      const first = isFolder ? undefined : made.get(upper.inodeOf(child))
      if (first !== undefined) {
        lower.addLink(into, name, first)
        continue
      }
      if (node === NONE) node = lower.add(into, name, upper.stat(child))
      copyInode(lower, node, upper, child, spec)
      if (isFolder) folders.push([node, child])
      else made.set(upper.inodeOf(child), node)
    }
  }
}

function hide(
  lower: Tree,
  into: number,
  upper: Tree,
  from: number,
  children: readonly number[],
  spec: WhiteoutSpec,
): void {
  if (spec === 'overlayfs' && upper.xattrs(from).some(({ name, value }) => isOpaque(name, value)))
    lower.removeChildren(into)
  for (const child of children) {
    const whiteout = whiteoutOf(spec, upper.name(child), upper.stat(child))
    if (whiteout?.kind === 'opaque') lower.removeChildren(into)
    else if (whiteout?.kind === 'remove') {
      const gone = lower.child(into, whiteout.name)
      if (gone !== NONE) lower.remove(gone)
    }
  }
}

function isOpaque(name: Uint8Array, value: Uint8Array): boolean {
  return Buffer.compare(name, OVERLAY_OPAQUE) === 0 && value.length === 1 && value[0] === 0x79
}

function copyInode(lower: Tree, node: number, upper: Tree, from: number, spec: WhiteoutSpec): void {
  lower.setStat(node, upper.stat(from))
  const xattrs = upper.xattrs(from)
  lower.setXattrs(
    node,
    spec === 'overlayfs' ? xattrs.filter(({ name, value }) => !isOpaque(name, value)) : xattrs,
  )
  if (upper.type(from) === TYPE.LNK) lower.setTarget(node, upper.target(from))
  if (upper.type(from) === TYPE.REG) lower.setChunks(node, upper.chunkStart(from), upper.chunkCount(from))
}
