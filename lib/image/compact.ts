/**
 * `nydus-image compact`: an image of many layers drags along blobs of which it uses little, and many small ones. Those
 * are replaced by fewer that hold what is used.
 */
import type { Backend } from '../backend/backend.js'
import { hasFeature, type BuiltBlob } from '../build/image.js'
import { loadImage } from '../build/load-image.js'
import { Chunks } from '../build/chunks.js'
import { prefetchOf } from './prefetch.js'
import { openSource, rebuild, type Rebuilt, type RebuildProgress, type Source } from './rebuild.js'

export interface CompactOptions {
  readonly bootstrap: string
  readonly backend: Backend
  /** Where new blobs go. */
  readonly folder: string
  readonly output: string
  readonly chunkDict: string | undefined
  /** A blob of which the image uses less than so many percent is replaced; 0 = none. */
  readonly minUsedRatio: number
  /** Bytes: smaller blobs are put together. */
  readonly compactBlobSize: number
  /** Bytes: no further blob is added to one that would become larger. */
  readonly maxCompactSize: number
  /** Nothing is done to an image of fewer blobs; 0 = always. */
  readonly layersToCompact: number
}

interface Usage {
  readonly blob: number
  /** Rows by their place in the blob. */
  readonly rows: number[]
  /** Plain bytes that are used. */
  bytes: number
}

/** Used chunks of each blob. */
function usageOf({ loaded, chunks }: Source): Usage[] {
  const usage = loaded.blobs.map((_, blob): Usage => ({ blob, rows: [], bytes: 0 }))
  for (const row of loaded.rows) {
    const of = usage[chunks.blob(row)]
    of?.rows.push(row)
    if (of !== undefined) of.bytes += chunks.uncompressedSize(row)
  }
  for (const { rows } of usage) rows.sort((a, b) => chunks.index(a) - chunks.index(b))
  return usage
}

/** Blobs that stay whatever is in them: data in files of others, and what was put apart to be fetched first. */
function keeps(blob: BuiltBlob): boolean {
  return (['SEPARATE', 'TARFS', 'EXTERNAL', 'SEPARATED_PREFETCH'] as const).some(feature =>
    hasFeature(blob, feature),
  )
}

/** Rows of each new blob; none when there is nothing to do. */
export function compaction(source: Source, options: CompactOptions, dict: ReadonlySet<string>): number[][] {
  const { blobs } = source.loaded
  if (options.layersToCompact > 0 && blobs.length < options.layersToCompact) return []
  const groups: number[][] = []
  let group: Usage[] = []
  let replaced = false
  let size = 0
  const close = (): void => {
    if (replaced || group.length > 1) groups.push(group.flatMap(({ rows }) => rows))
    group = []
    replaced = false
    size = 0
  }
  for (const usage of usageOf(source)) {
    const blob = blobs[usage.blob]
    if (blob === undefined || usage.rows.length === 0 || keeps(blob) || dict.has(blob.id)) continue
    const stored = blob.compressedSize
    const ratio = (usage.bytes / Math.max(1, blob.uncompressedSize)) * 100
    const wasteful = ratio < options.minUsedRatio
    if (!wasteful && stored >= options.compactBlobSize) continue
    const more = Math.min(stored, (stored * ratio) / 100)
    if (group.length > 0 && size + more > options.maxCompactSize) close()
    group.push(usage)
    replaced ||= wasteful
    size += more
  }
  close()
  return groups
}

/** Undefined when there is nothing to compact. Throws NydusError RAFS_*, BUILD_*, IMAGE_*, BACKEND_*. */
export async function compactImage(
  options: CompactOptions,
  progress: RebuildProgress,
): Promise<Rebuilt | undefined> {
  const source = await openSource(options.bootstrap)
  try {
    const dict = new Set<string>()
    if (options.chunkDict !== undefined)
      for (const { id } of (await loadImage(options.chunkDict, new Chunks(), 0)).blobs) dict.add(id)
    const groups = compaction(source, options, dict)
    if (groups.length === 0) return undefined
    return await rebuild(
      {
        source,
        backend: options.backend,
        newBlobs: groups.map(rows => ({ rows, features: 0 })),
        folder: options.folder,
        bootstrap: options.output,
        chunkDict: options.chunkDict,
        prefetch: prefetchOf(source),
      },
      progress,
    )
  } finally {
    await source.image.close()
  }
}
