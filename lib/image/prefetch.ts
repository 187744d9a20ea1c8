/** Prefetch lists of finished images: what they have, and what users write. */
import { NydusError } from '../base/errors.js'
import { NONE, ROOT, type Tree } from '../build/tree.js'
import type { Source } from './rebuild.js'

/** The node of an absolute path (bytes); undefined when there is none. */
function nodeAt(tree: Tree, path: Buffer): number | undefined {
  let node = ROOT
  for (const part of path.toString('latin1').split('/')) {
    if (part === '' || part === '.') continue
    node = tree.child(node, Buffer.from(part, 'latin1'))
    if (node === NONE) return undefined
  }
  return node
}

/** Nodes of the image's own prefetch table, in its order. */
export function prefetchOf({ image, loaded }: Source): number[] {
  const inos = [...image.prefetchInos()]
  if (inos.length === 0) return []
  const wanted = new Set(inos)
  const nodes = new Map<number, number>()
  for (const { path, ino } of image.walk()) {
    const node = wanted.has(ino) && !nodes.has(ino) ? nodeAt(loaded.tree, path) : undefined
    if (node !== undefined) nodes.set(ino, node)
  }
  return inos.flatMap(ino => nodes.get(ino) ?? [])
}

/**
 * Paths of a list for `optimize`: one a line, or JSON: an array of paths or of objects with `path`, by itself or as
 * `files` of an object. Ranges that a program adds to a path are passed over: whole files are taken.
 */
export function parsePrefetchList(text: string, where: string): string[] {
  const start = text.trimStart()
  if (!start.startsWith('[') && !start.startsWith('{'))
    return text
      .split('\n')
      .map(line => line.trim())
      .filter(line => line !== '')
  const bad = (what: string): NydusError => new NydusError('PREFETCH_LIST', 'EINVAL', `${where}: ${what}`)
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    throw bad(`starts like JSON, but is none: ${error instanceof Error ? error.message : ''}`)
  }
  const list: unknown = isTable(parsed) ? parsed['files'] : parsed
  if (!Array.isArray(list)) throw bad('wanted an array of paths, or an object whose `files` is one')
  return list.map((item: unknown, i) => {
    const path = isTable(item) ? item['path'] : item
    if (typeof path !== 'string') throw bad(`entry ${i} is neither a path nor an object with a \`path\``)
    return path
  })
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
