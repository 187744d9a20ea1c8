/** The order in which a blob gets the files of a folder (blobs-and-cache.md §1). */
import { isFirstName, type Order } from './order.js'
import { TYPE, type Tree } from './tree.js'

export interface DataOrder {
  /** Files that are named by the prefetch list or lie below what it names, in its order. */
  readonly prefetched: Generator<number>
  /** All others by number; to be asked for when the first list has ended. */
  readonly others: Generator<number>
}

/** Nodes that carry an inode with data, each once. */
export function dataOrder(tree: Tree, order: Order, prefetch: readonly number[]): DataOrder {
  const done = new Uint8Array(tree.rows)
  function* fresh(node: number): Generator<number> {
    const inode = tree.inodeOf(node)
    if (tree.type(node) !== TYPE.REG || tree.size(node) === 0 || done[inode] === 1) return
    done[inode] = 1
    yield inode
  }
  function* prefetched(): Generator<number> {
    const stack: number[] = []
    for (const top of prefetch) {
      stack.push(top)
      for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
        yield* fresh(node)
        if (tree.type(node) === TYPE.DIR) stack.push(...tree.sortedChildren(node).reverse())
      }
    }
  }
  function* others(): Generator<number> {
    for (const node of order.nodes) if (isFirstName(tree, order, node)) yield* fresh(node)
  }
  return { prefetched: prefetched(), others: others() }
}
