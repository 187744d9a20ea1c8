/** Prefetch lists: paths of an image, one a line, as users write them (nydus-image.md 2 and 4). */
import { ROOT, type Tree } from './tree.js'

/**
 * Nodes in the user's order, each once. A line is a path of the image or, as in 2020, a host path below `source`; what
 * is not there is left out (rafs-v5.md §9).
 */
export function prefetchNodes(tree: Tree, lines: readonly string[], source: string): number[] {
  const nodes = new Set<number>()
  for (const line of lines) {
    const path = line.trim()
    if (path === '') continue
    const found =
      lookup(tree, path) ??
      (source !== '' && path.startsWith(source) ? lookup(tree, path.slice(source.length)) : undefined)
    if (found !== undefined) nodes.add(found)
  }
  return [...nodes]
}

function lookup(tree: Tree, path: string): number | undefined {
  let node = ROOT
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue
    node = tree.child(node, Buffer.from(part))
    if (!tree.isNode(node)) return undefined
  }
  return node
}
