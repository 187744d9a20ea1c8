/** What a blob itself tells of its chunks: its chunk table and their digests, fetched when somebody needs them first. */
import { rmSync } from 'node:fs'
import { untilAborted } from '../base/abort.js'
import { NydusError } from '../base/errors.js'
import type { BlobLane } from './blob-lane.js'
import { fetchTable, openCachedTable, writeCacheFile } from './blob-meta.js'
import { BLOB_FEATURE, type BlobInfo, type ChunkWant } from './cache.js'
import { cachePaths, linkNames, type CachePaths } from './cache-files.js'
import type { ChunkTable } from './chunk-table.js'
import { fetchDigests, type BlobDigests } from './digests.js'
import { recordUnit } from './loose-units.js'
import type { CacheServices } from './services.js'
import type { Member, Unit } from './unit.js'

/** What the index has to know of the blob's store. */
export interface IndexHome {
  readonly info: BlobInfo
  readonly dir: string | undefined
  /** Some user wants every chunk checked against its digest. */
  readonly validates: boolean
  /** The folder takes data at the moment. */
  readonly storesInFile: boolean
  /** It refused some. */
  degrade(error: unknown): void
}

export class BlobIndex {
  readonly #home: IndexHome
  readonly #services: CacheServices
  #table: ChunkTable | undefined
  #digests: BlobDigests | undefined
  #loading: { readonly by: BlobLane; readonly done: Promise<void> } | undefined

  constructor(home: IndexHome, services: CacheServices) {
    this.#home = home
    this.#services = services
  }

  /** The chunk table, if this blob has one and it was needed before. */
  get table(): ChunkTable | undefined {
    return this.#table
  }

  /** The same of the digests. */
  get digests(): BlobDigests | undefined {
    return this.#digests
  }

  /** Fetches what is needed and not there. Failures are not remembered. */
  async prepare(lane: BlobLane, signal: AbortSignal): Promise<void> {
    while (this.#needsTable() || this.#needsDigests(lane)) {
      this.#loading ??= {
        by: lane,
        done: this.#load(lane).finally(() => {
          this.#loading = undefined
        }),
      }
      const { by, done } = this.#loading
      try {
        await untilAborted(done, signal)
      } catch (error) {
        // What another user's backend could not do, ours may.
        if (by === lane || signal.aborted) throw error
      }
    }
  }

  unitOf(want: ChunkWant): Unit {
    if (this.#table !== undefined) return this.#table.unit(want.index)
    const { info } = this.#home
    if (want.record !== undefined) return recordUnit(info, want.record)
    throw new NydusError(
      'CACHE_NO_RECORD',
      'EIO',
      `blob ${info.id}: it has no chunk table, and the image does not say where chunk ${want.index} lies`,
    )
  }

  /** Position of the wanted chunk in its unit; throws when the image and the blob disagree about it. */
  memberAt(unit: Unit, want: ChunkWant): number {
    const first = unit.members[0]?.index ?? -1
    const at = unit.members.length === 1 ? 0 : want.index - first
    const member: Member | undefined = unit.members[at]
    if (
      member === undefined ||
      member.uncompressedOffset !== want.uncompressedOffset ||
      member.size !== want.uncompressedSize
    )
      throw new NydusError(
        'CACHE_CHUNK_MISMATCH',
        'EIO',
        `blob ${this.#home.info.id}: the image says that chunk ${want.index} has ${want.uncompressedSize} bytes at ` +
          `${want.uncompressedOffset}, the blob's chunk table says ${member?.size} at ${member?.uncompressedOffset}`,
      )
    return at
  }

  #needsTable(): boolean {
    const { features, rafsVersion } = this.#home.info
    return rafsVersion === 6 && (features & BLOB_FEATURE.TARFS) === 0 && this.#table === undefined
  }

  #needsDigests(lane: BlobLane): boolean {
    const needed = BLOB_FEATURE.INLINED_CHUNK_DIGEST | BLOB_FEATURE.HAS_TOC
    const has = (this.#home.info.features & needed) === needed
    return has && this.#home.validates && !lane.knowsDigests && this.#digests === undefined
  }

  async #load(lane: BlobLane): Promise<void> {
    const { info, dir } = this.#home
    const { log } = this.#services
    const paths = dir === undefined ? undefined : cachePaths(dir, info)
    if (this.#needsTable()) {
      const cached = paths === undefined ? undefined : openCachedTable(paths.meta, info, log)
      this.#table = cached ?? (await this.#fetchTable(lane, paths))
    }
    if (this.#needsDigests(lane)) this.#digests = await fetchDigests(info, lane.metaReader, paths, log)
  }

  async #fetchTable(lane: BlobLane, paths: CachePaths | undefined): Promise<ChunkTable> {
    const { info } = this.#home
    const { decoder, log } = this.#services
    const { table, bytes } = await fetchTable(info, lane.metaReader, decoder, { priority: 'demand' })
    if (paths === undefined || !this.#home.storesInFile) return table
    try {
      await writeCacheFile(paths.meta, bytes)
      // It may name a damaged one that has just been replaced.
      if (paths.old.meta !== undefined) rmSync(paths.old.meta, { force: true })
      linkNames(paths)
    } catch (error) {
      this.#home.degrade(error)
      return table
    }
    return openCachedTable(paths.meta, info, log) ?? table
  }
}
