/**
 * One mounted image: its bootstrap, its blobs in the cache, its backend. It belongs to whoever opened it until a
 * mount table has taken it; then the table closes it when no lane answers from it any more.
 */
import { openBackend } from '../backend/open.js'
import type { Backend } from '../backend/backend.js'
import { NydusError, explain } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { FileRecords, newFileTable, type FileTable } from '../fuse/file-records.js'
import type { BlobCache, ChunkWant, Fetched, FetchOptions } from '../cache/cache.js'
import type { CacheManager } from '../cache/manager.js'
import type { ImageHandle } from '../rafs/handle.js'
import { RafsImage } from '../rafs/image.js'
import { replyBytes, type ColdFetched, type ColdPlacement } from '../vfs/cold-reads.js'
import type { ColdRead, FileNotes } from '../vfs/filesystem.js'
import type { NydusConfig } from './config.js'
import { prefetchImage, prefetchSettings } from './prefetch-image.js'
import { ReadAhead } from './read-ahead.js'
import { ReadLatency } from './read-latency.js'
import type { SettingsStore } from './settings.js'
import { Stretch } from './stretch.js'

/** What all instances of a daemon share. */
export interface InstanceContext {
  readonly cache: CacheManager
  readonly settings: SettingsStore
  readonly log: Log
  /** How many lanes there are. */
  readonly lanes: number
}

/** Wants of one blob, with their places in the read. */
interface BlobWants {
  readonly positions: number[]
  readonly refs: number[]
}

export class Instance {
  readonly config: NydusConfig
  readonly image: RafsImage
  readonly backend: Backend
  /** By blob number of the image. */
  readonly blobs: readonly BlobCache[]
  /** For lanes. */
  readonly handle: ImageHandle
  /** What is noted down of files, by lanes and (the last part) the yard; undefined: nobody wants to know. */
  readonly files: FileTable | undefined
  /** Of reads that had to wait for the backend. */
  readonly latency = new ReadLatency()
  readonly #context: InstanceContext
  readonly #notes: FileNotes | undefined
  readonly #readAhead: ReadAhead
  /** Aborted when it is closed. */
  readonly #ending: AbortController
  #prefetch: Promise<void> = Promise.resolve()

  /** Opens everything or nothing. Throws NydusError RAFS_*, CACHE_*, BACKEND_*. */
  static async open(source: string, config: NydusConfig, context: InstanceContext): Promise<Instance> {
    const { filecache, validate } = config.cache
    const backend = await openBackend(config.backend, { log: context.log })
    const ending = new AbortController()
    let image: RafsImage | undefined
    try {
      backend.reconfigure({ ...context.settings.of(config.id) })
      image = await RafsImage.open({
        path: source,
        ...(filecache && { workDir: filecache.work_dir }),
        xattrs: config.rafs.enable_xattr,
        validate: config.rafs.validate || validate,
      })
      const blobs = await openBlobs(image, backend, config, context, ending.signal)
      return new Instance(context, config, image, backend, blobs, ending)
    } catch (error) {
      await image?.close()
      await backend.close()
      throw error
    }
  }

  private constructor(
    context: InstanceContext,
    config: NydusConfig,
    image: RafsImage,
    backend: Backend,
    blobs: readonly BlobCache[],
    ending: AbortController,
  ) {
    this.#context = context
    this.#ending = ending
    this.config = config
    this.image = image
    this.backend = backend
    this.blobs = blobs
    const { signal } = ending
    const amplify = config.rafs.batch_size
    this.#readAhead = new ReadAhead({ image, blobs, amplify, signal, log: context.log })
    const { iostats_files, access_pattern, latest_read_files } = config.rafs
    if (iostats_files || access_pattern || latest_read_files) {
      const parts = context.lanes + 1
      this.files = newFileTable(parts, image.facts.inodes_count, iostats_files)
      this.#notes = new FileRecords(this.files, context.lanes)
    }
    const handle = image.handle(blobs.map(blob => blob.handle))
    this.handle = this.files === undefined ? handle : { ...handle, files: this.files }
  }

  /** What lanes found missing: one fetch per blob, all at once. */
  async fetch({ ino, offset, wants, extents }: ColdRead, signal: AbortSignal): Promise<ColdFetched> {
    // Lanes found the rest of the read.
    const partly = extents.length > 3 * wants.length
    const started = performance.now()
    const byBlob = new Map<number, BlobWants>()
    wants.forEach(({ blob, ref }, position) => {
      let of = byBlob.get(blob)
      if (of === undefined) byBlob.set(blob, (of = { positions: [], refs: [] }))
      of.positions.push(position)
      of.refs.push(ref)
    })
    const parts = [...byBlob]
    const fetches = parts.map(([blob, { refs }]) => this.#fetchFrom(blob, refs, { signal, partly }))
    this.#readAhead.missed(ino, offset, replyBytes(extents))
    const results = await Promise.allSettled(fetches)
    this.latency.add(performance.now() - started)
    const done = results.filter(result => result.status === 'fulfilled').map(result => result.value)
    const release = (): void => done.forEach(fetched => fetched.release())
    const failed = results.find(result => result.status === 'rejected')
    if (failed) {
      release()
      throw failed.reason
    }
    const placements: (ColdPlacement | undefined)[] = []
    done.forEach((fetched, i) =>
      parts[i]?.[1].positions.forEach((position, j) => (placements[position] = fetched.placements[j])),
    )
    return { placements, release }
  }

  async #fetchFrom(blob: number, refs: readonly number[], options: FetchOptions): Promise<Fetched> {
    const cache = this.blobs[blob]
    if (cache === undefined)
      throw new NydusError(
        'RAFS_BAD_CHUNK',
        'EIO',
        `a file names blob ${blob}, the image has ${this.blobs.length}`,
      )
    return await cache.fetch(
      refs.map(ref => this.image.want(blob, ref)),
      options,
    )
  }

  /** A read of so many bytes, which a lane had noted, ended with an error. */
  readFailed(ino: number, bytes: number): void {
    this.#notes?.noteLostRead(ino, bytes)
  }

  /** Fetches ahead what is worth it, until `close`: at least what the first read cannot do without. */
  startPrefetch(files: readonly string[]): void {
    const { cache, log } = this.#context
    for (const blob of this.blobs)
      blob.prepare().catch((error: unknown) => {
        if (!this.#ending.signal.aborted)
          log.debug({ blob: blob.info.id, error: explain(error) }, 'its chunk table will be asked for again')
      })
    const metrics = cache.metrics(this.config.id)
    this.#prefetch = prefetchImage({ instance: this, files, metrics, log, signal: this.#ending.signal })
  }

  /** Closes everything, whatever goes wrong on the way. */
  async close(): Promise<void> {
    this.#ending.abort(new NydusError('VFS_UNMOUNTED', 'ESTALE', 'the image was unmounted'))
    await this.#prefetch
    const ends = [
      ...this.blobs.map(blob => () => blob.close()),
      () => this.image.close(),
      () => this.backend.close(),
    ]
    const failures: unknown[] = []
    for (const end of ends) await end().catch((error: unknown) => failures.push(error))
    if (failures.length > 0)
      throw new NydusError(
        'MOUNT_CLOSE',
        'EIO',
        `an image could not be closed cleanly: ${explain(failures[0])}`,
        {
          cause: failures[0],
        },
      )
  }
}

/** All chunks of one blob, in the order of the tree. */
async function* chunksOf(image: RafsImage, number: number, signal: AbortSignal): AsyncGenerator<ChunkWant> {
  const stretch = new Stretch()
  for (const ino of image.files(image.rootIno)) {
    for (const { blob, want } of image.chunks(ino)) if (blob === number) yield want
    if (signal.aborted) return
    if (stretch.over) await stretch.rest()
  }
}

async function openBlobs(
  image: RafsImage,
  backend: Backend,
  config: NydusConfig,
  context: InstanceContext,
  signal: AbortSignal,
): Promise<readonly BlobCache[]> {
  const opened = await Promise.allSettled(
    image.blobs.map((info, blob) =>
      context.cache.open(info, backend, config.cache, {
        id: config.id,
        amplify: config.rafs.batch_size,
        prefetchRequests: prefetchSettings(config).threads,
        digestOf: index => image.chunkDigest(blob, index),
        ...(image.version === 5 && { chunks: () => chunksOf(image, blob, signal) }),
      }),
    ),
  )
  const blobs = opened.filter(result => result.status === 'fulfilled').map(result => result.value)
  const failed = opened.find(result => result.status === 'rejected')
  if (!failed) return blobs
  await Promise.all(blobs.map(blob => blob.close()))
  throw failed.reason
}
