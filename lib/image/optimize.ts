/**
 * `nydus-image optimize`: copies the content of files that will be wanted first into one more blob, so that a daemon can
 * fetch it in one go; the image's prefetch list names them.
 */
import type { Backend } from '../backend/backend.js'
import { NydusError } from '../base/errors.js'
import { hasFeature } from '../build/image.js'
import { prefetchNodes } from '../build/prefetch-list.js'
import { TYPE } from '../build/tree.js'
import { BLOB_FEATURE } from '../cache/cache.js'
import { openSource, rebuild, type Rebuilt, type RebuildProgress, type Source } from './rebuild.js'

export interface OptimizeOptions {
  readonly bootstrap: string
  readonly backend: Backend
  /** Paths of files and folders of the image, in the order in which they are wanted. */
  readonly paths: readonly string[]
  /** Where the new blob goes. */
  readonly folder: string
  readonly output: string
}

/** Chunk rows of all files at and below the nodes, each once, in that order. */
function rowsOf({ loaded, chunks }: Source, nodes: readonly number[]): number[] {
  const { tree } = loaded
  const rows = new Set<number>()
  const stack: number[] = []
  for (const top of nodes) {
    stack.push(top)
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      if (tree.type(node) === TYPE.DIR) stack.push(...tree.sortedChildren(node).reverse())
      if (tree.type(node) !== TYPE.REG) continue
      const start = tree.chunkStart(node)
      for (let at = start; at < start + tree.chunkCount(node); at++) rows.add(chunks.listed(at))
    }
  }
  return [...rows]
}

/** Throws NydusError OPTIMIZE_NOTHING, RAFS_*, BUILD_*, IMAGE_*, BACKEND_*. */
export async function optimizeImage(options: OptimizeOptions, progress: RebuildProgress): Promise<Rebuilt> {
  const source = await openSource(options.bootstrap)
  try {
    const nodes = prefetchNodes(source.loaded.tree, options.paths, '')
    const rows = rowsOf(source, nodes)
    if (rows.length === 0)
      throw new NydusError(
        'OPTIMIZE_NOTHING',
        'EINVAL',
        `none of the ${options.paths.length} paths of the list is a file with content in ${options.bootstrap}, or a folder with such files`,
      )
    if (source.loaded.blobs.some(blob => hasFeature(blob, 'TARFS')))
      throw new NydusError(
        'OPTIMIZE_NOTHING',
        'EINVAL',
        `${options.bootstrap} is a tarfs image: its blob is the tar, and stays so`,
      )
    // v5 has no such bit.
    const features = source.loaded.version === 6 ? BLOB_FEATURE.SEPARATED_PREFETCH : 0
    return await rebuild(
      {
        source,
        backend: options.backend,
        newBlobs: [{ rows, features }],
        folder: options.folder,
        bootstrap: options.output,
        chunkDict: undefined,
        prefetch: nodes,
      },
      progress,
    )
  } finally {
    await source.image.close()
  }
}
