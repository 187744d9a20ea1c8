/**
 * What of an image is worth fetching ahead, in order: the files that the user names, those that the image names
 * itself, then all the rest if so configured. How it is fetched is the cache's business (lib/cache/prefetch.ts).
 */
import { explain } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { prefetch, type PrefetchItem } from '../cache/prefetch.js'
import type { BlobCacheMetrics } from '../cache/metrics.js'
import type { NydusConfig } from './config.js'
import type { Instance } from './instance.js'
import { Stretch } from './stretch.js'

export interface PrefetchPlan {
  readonly instance: Instance
  /** Absolute paths within the image. */
  readonly files: readonly string[]
  readonly metrics: BlobCacheMetrics | undefined
  readonly log: Log
  /** Unmount. */
  readonly signal: AbortSignal
}

/** The file system's settings, or else the cache's. */
export function prefetchSettings(config: NydusConfig): NydusConfig['rafs']['prefetch'] {
  return config.rafs.prefetch.enable ? config.rafs.prefetch : config.cache.prefetch
}

/** Resolves at the end, whatever comes; never rejects. */
export async function prefetchImage(plan: PrefetchPlan): Promise<void> {
  const { config } = plan.instance
  const { type } = config.cache
  if (type === '' || type === 'dummycache') return
  const settings = prefetchSettings(config)
  if (!settings.enable) return
  const { signal, log, metrics } = plan
  const started = performance.now()
  log.debug({ files: plan.files.length }, 'prefetch starts')
  await prefetch(items(plan, settings.prefetch_all), settings, { signal, log, ...(metrics && { metrics }) })
  const ms = Math.round(performance.now() - started)
  if (!signal.aborted) log.info({ ms }, 'prefetch ended')
}

async function* items(plan: PrefetchPlan, all: boolean): AsyncGenerator<PrefetchItem> {
  const { instance, files, log } = plan
  const { image, blobs } = instance
  for (const path of files) {
    const ino = image.resolve(Buffer.from(path))
    if (ino === undefined) log.warn({ path }, 'prefetch: the image has no such path')
    else yield* below(plan, ino)
  }
  for (const ino of image.prefetchInos()) yield* below(plan, ino)
  if (!all) return
  if (image.version === 5) yield* below(plan, image.rootIno)
  else for (const blob of blobs) for await (const want of blob.wants(plan)) yield { blob, want }
}

/** Chunks of the files at and below an inode. A damaged part of the tree ends this part of the list only. */
async function* below({ instance, log }: PrefetchPlan, from: number): AsyncGenerator<PrefetchItem> {
  const { image, blobs } = instance
  const stretch = new Stretch()
  try {
    for (const ino of image.files(from))
      for (const { blob: number, want } of image.chunks(ino)) {
        const blob = blobs[number]
        if (blob !== undefined) yield { blob, want }
        if (stretch.over) await stretch.rest()
      }
  } catch (error) {
    log.warn({ ino: from, error: explain(error) }, 'prefetch: a part of the image is damaged')
  }
}
