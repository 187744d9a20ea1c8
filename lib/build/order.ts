/**
 * The order of a finished tree (rafs-v5.md §4): the children of a folder get consecutive numbers in the order of
 * their names' bytes, then each of its folders is entered in that order. The root is number 1. v5 numbers inodes by
 * it, v6 keeps it as `i_ino`, and the files' data follows it in the blob.
 */
import { NONE, ROOT, TYPE, type Tree } from './tree.js'

export interface Order {
  /** Nodes by number; entry 0 is the root, whose number is 1. */
  readonly nodes: Uint32Array
  /** Number by node; 0 for nodes that are not in the tree. */
  readonly number: Uint32Array
  /** Number of a folder's first child (of an empty one: the next free number), by node. */
  readonly childIndex: Uint32Array
  readonly childCount: Uint32Array
  /** Number of the inode's first name, by node that carries it. */
  readonly firstName: Uint32Array
}

export function orderOf(tree: Tree): Order {
  const nodes = new Uint32Array(tree.count)
  const number = new Uint32Array(tree.rows)
  const childIndex = new Uint32Array(tree.rows)
  const childCount = new Uint32Array(tree.rows)
  const firstName = new Uint32Array(tree.rows)
  let used = 0
  const give = (node: number): void => {
    nodes[used++] = node
    number[node] = used
    const inode = tree.inodeOf(node)
    if (firstName[inode] === 0) firstName[inode] = used
  }
  give(ROOT)
  const folders = [ROOT]
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const children = tree.sortedChildren(folder)
    childIndex[folder] = used + 1
    childCount[folder] = children.length
    for (const child of children) give(child)
    for (let i = children.length - 1; i >= 0; i--) {
      const child = children[i] ?? NONE
      if (tree.type(child) === TYPE.DIR) folders.push(child)
    }
  }
  return { nodes, number, childIndex, childCount, firstName }
}

/** Is this node the first name of its inode? The others share its record (v6) or its number (v5). */
export function isFirstName(tree: Tree, order: Order, node: number): boolean {
  return order.firstName[tree.inodeOf(node)] === order.number[node]
}

/** Nodes in depth-first order, parents before children, names in order: how v5 writes its records. */
export function* depthFirst(order: Order): Generator<number> {
  const stack = [ROOT]
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    yield node
    const first = order.childIndex[node] ?? 0
    for (let i = (order.childCount[node] ?? 0) - 1; i >= 0; i--)
      stack.push(order.nodes[first - 1 + i] ?? NONE)
  }
}
