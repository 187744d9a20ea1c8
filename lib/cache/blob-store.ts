/** The state of one blob that all its users share: files, readiness, index, what is on its way. */
import { closeSync, futimesSync } from 'node:fs'
import { explain, NydusError } from '../base/errors.js'
import { native } from '../native.js'
import { BlobEviction } from './blob-eviction.js'
import { BlobIndex, type IndexHome } from './blob-index.js'
import type { BlobLane } from './blob-lane.js'
import type { BlobHandle, BlobInfo, ChunkWant, OpenOptions } from './cache.js'
import { cachePaths, openCacheFiles, removeMaps, syncFile, type CacheFiles } from './cache-files.js'
import type { CacheFolder } from './cache-folder.js'
import type { ChunkTable } from './chunk-table.js'
import { Counted } from './counted.js'
import type { Coding } from './coding.js'
import type { Bad } from './decoder.js'
import type { BlobDigests } from './digests.js'
import { NumberedChunks, type EvictableChunks } from './evictable-chunks.js'
import type { ByteRange } from './file-ranges.js'
import type { Job } from './job.js'
import { LooseChunks } from './loose-chunks.js'
import { isIndexed } from './loose-units.js'
import { Readiness } from './readiness.js'
import { Misses, NO_RIDERS, riders, type Riders } from './riders.js'
import type { CacheServices } from './services.js'
import type { Unit } from './unit.js'

/** After the cache's disk refused a write, everything goes to the temporary pool for so long. */
const DEGRADED_MS = 5000
let serial = 0

export class BlobStore implements IndexHome {
  readonly info: BlobInfo
  readonly dir: string | undefined
  readonly coding: Coding
  readonly jobs = new Map<number, Job>()
  readonly readiness: Readiness
  /** Chunks (by key) that somebody wants or was told to be there, until he is done. */
  readonly pins = new Counted<number>()
  /** Units (by key) that a thread may be writing. */
  readonly writing = new Counted<number>()
  /** In a folder whose size is limited. */
  eviction: BlobEviction | undefined
  /** Prefix of this blob's keys in the temporary pool. */
  readonly poolPrefix = `${serial++}/`
  /** Chunks have numbers of their own. */
  readonly indexed: boolean
  #validates = false
  /** What eviction knows of chunks: of those without numbers from the start, for nobody else knows their sizes. */
  #chunks: EvictableChunks | undefined
  readonly #misses = new Misses()
  readonly #files: CacheFiles | undefined
  readonly #fileId: number
  readonly #services: CacheServices
  readonly #index: BlobIndex
  #folder: CacheFolder | undefined
  #degradedUntil = -Infinity
  #warned = false

  private constructor(
    info: BlobInfo,
    dir: string | undefined,
    files: CacheFiles | undefined,
    services: CacheServices,
  ) {
    this.info = info
    this.dir = dir
    this.#files = files
    this.#services = services
    this.#index = new BlobIndex(this, services)
    this.indexed = isIndexed(info)
    if (!this.indexed) this.#chunks = new LooseChunks()
    this.coding = {
      compressor: info.compressor,
      digester: info.digester,
      ...(info.cipher && { cipher: info.cipher }),
    }
    this.#fileId = files === undefined ? 0 : native.registerFile(files.data, info.uncompressedSize)
    this.readiness = new Readiness({
      chunkCount: this.indexed && files !== undefined ? info.chunkCount : 0,
      data: files?.data ?? -1,
      ...(files?.map !== undefined && files.writable && { disk: files.map }),
      ...(files?.map !== undefined && { initial: files.map }),
      onLost: error => this.degrade(error),
    })
  }

  /** Opens the files in `dir`; without (or with an unusable) folder the blob lives in the temporary pool. */
  static async open(
    info: BlobInfo,
    dir: string | undefined,
    shareMap: boolean,
    services: CacheServices,
  ): Promise<BlobStore> {
    let files: CacheFiles | undefined
    if (dir !== undefined) {
      try {
        files = await openCacheFiles(dir, info, shareMap && isIndexed(info), services.log)
      } catch (error) {
        services.log.warn(
          { blob: info.id, dir, error: explain(error) },
          'the cache folder cannot be used for this blob: it is read without a cache',
        )
      }
    }
    return new BlobStore(info, files === undefined ? undefined : dir, files, services)
  }

  /** Some user wants every chunk checked against its digest. */
  get validates(): boolean {
    return this.#validates
  }

  startValidating(): void {
    this.#validates = true
    this.readiness.trackVerified()
  }

  /** Descriptor of the data file. */
  get data(): number {
    return this.#files?.data ?? -1
  }

  handle(validate: boolean): BlobHandle {
    if (this.#files === undefined)
      return { fileId: 0, mapPath: '', mapLength: 0, bitsOffset: 0, chunkCount: 0 }
    const marks = this.eviction?.marks
    return { fileId: this.#fileId, ...this.readiness.laneMap(validate), ...(marks && { marks }) }
  }

  /** Members go to the data file at the moment; otherwise to the temporary pool. */
  get storesInFile(): boolean {
    return this.#files?.writable === true && this.#services.clock.now() >= this.#degradedUntil
  }

  /** There is room for what nobody waits for. */
  get hasSpareRoom(): boolean {
    return this.storesInFile && this.#folder?.full !== true
  }

  get hasFiles(): boolean {
    return this.#files !== undefined
  }

  keyOf(want: { readonly index: number; readonly uncompressedOffset: number }): number {
    return this.indexed ? want.index : want.uncompressedOffset
  }

  isMemberStored(unit: Unit, at: number): boolean {
    const member = unit.members[at]
    return member !== undefined && this.#files !== undefined && this.readiness.isStored(this.keyOf(member))
  }

  stored(unit: Unit, at: number, verified: boolean): void {
    const member = unit.members[at]
    if (member === undefined) return
    const key = this.keyOf(member)
    this.readiness.add(key, verified)
    this.#chunks?.stored(member, unit.key, this.#services.clock.now())
    this.eviction?.stored(key, member.size)
    this.#warned = false
  }

  /** A guest wants them. */
  used(wants: readonly ChunkWant[]): void {
    if (this.eviction === undefined) return
    const now = this.#services.clock.now()
    for (const want of wants) this.#chunks?.used(this.keyOf(want), now)
  }

  get table(): ChunkTable | undefined {
    return this.#index.table
  }

  get digests(): BlobDigests | undefined {
    return this.#index.digests
  }

  /** Makes `unitKey` and `unitOf` usable. Failures are not remembered. */
  prepare(lane: BlobLane, signal: AbortSignal): Promise<void> {
    return this.#index.prepare(lane, signal)
  }

  unitKey(want: ChunkWant): number {
    return this.table?.unitKey(want.index) ?? this.keyOf(want)
  }

  unitOf(want: ChunkWant): Unit {
    return this.#index.unitOf(want)
  }

  memberAt(unit: Unit, want: ChunkWant): number {
    return this.#index.memberAt(unit, want)
  }

  /** Units that are fetched along with those from `first` to `last`; they count as on their way. */
  riders(first: Job, last: Job, room: number): Riders {
    const { table } = this
    if (table === undefined || !this.storesInFile || this.#folder?.overfull === true) return NO_RIDERS
    try {
      const isStored = (index: number): boolean => this.readiness.isStored(this.keyOf(table.chunk(index)))
      const found = riders({ table, jobs: this.jobs, misses: this.#misses, isStored }, first, last, room)
      for (const rider of [found.along, ...found.others].flat()) this.jobs.set(rider.unit.key, rider)
      return found
    } catch (error) {
      // A damaged record: whoever wants that chunk will hear of it.
      this.#services.log.debug({ blob: this.info.id, error: explain(error) }, 'read-ahead stopped')
      return NO_RIDERS
    }
  }

  /** Takes a job out before its waiters hear of its end, so that they can start the next one. */
  end(job: Job, settle: () => void): void {
    if (job.ended) return
    job.ended = true
    if (this.jobs.get(job.unit.key) === job) this.jobs.delete(job.unit.key)
    settle()
    if (job.entry !== undefined) this.#services.pool.unpin(job.entry)
  }

  /** The error of a member that was not stored. */
  failure(unit: Unit, at: number, result: Bad): NydusError {
    const member = unit.members[at]
    if (result.kind === 'store') {
      this.degrade(result.message)
      return new NydusError('CACHE_STORE_FAILED', 'EIO', `blob ${this.info.id}: ${result.message}`)
    }
    return new NydusError(
      'CACHE_CHUNK_DAMAGED',
      'EIO',
      `blob ${this.info.id}: chunk ${member?.index} (${member?.size} bytes at ${member?.uncompressedOffset}, stored in ` +
        `${unit.size} bytes at ${unit.offset}) is damaged: ${result.message}; repair the blob in its storage backend`,
    )
  }

  /** Lets chunks of it be evicted; nothing happens where they cannot be written. `all`: for v5, see OpenOptions. */
  limit(folder: CacheFolder, all: OpenOptions['chunks']): void {
    const files = this.#files
    if (this.eviction !== undefined || files === undefined || !files.writable) return
    const { readiness, pins, writing, jobs, info } = this
    const { chunkCount, uncompressedSize, rafsVersion } = info
    const chunks = (this.#chunks ??= new NumberedChunks({
      ...{ chunkCount, uncompressedSize },
      table: () => this.table,
      chunks: rafsVersion === 5 ? all : undefined,
    }))
    const isUnderWay = (unitKey: number): boolean => jobs.has(unitKey) || writing.has(unitKey)
    this.eviction = new BlobEviction(
      {
        ...{ info, chunks },
        data: files.data,
        fileId: this.#fileId,
        mapped: files.mapPath !== undefined,
        count: () => readiness.count(),
        isReady: key => readiness.isStored(key),
        remove: key => readiness.remove(key),
        isBusy: key => pins.has(key) || isUnderWay(chunks.unitKey(key)),
        filling: () => this.#filling(),
        sync: async () => {
          if (files.mapPath !== undefined) await syncFile(files.mapPath)
          else if (this.dir !== undefined && !files.hidden) await removeMaps(cachePaths(this.dir, info))
        },
      },
      bytes => folder.grew(bytes),
    )
    folder.add(this.eviction)
    this.#folder = folder
  }

  /** Where Workers write, or will; undefined: it cannot be told of all of them. */
  #filling(): ByteRange[] | undefined {
    const places: ByteRange[] = []
    for (const key of this.writing.members()) {
      const unit = this.jobs.get(key)?.unit
      if (unit !== undefined)
        for (const { uncompressedOffset: start, size } of unit.members)
          places.push({ start, end: start + size })
      // Nobody waits for it any more. Without numbers and windows the key is its place.
      else if (this.indexed || this.table !== undefined) return undefined
      else places.push({ start: key, end: key + this.info.chunkSize })
    }
    return places
  }

  async close(): Promise<void> {
    if (this.eviction !== undefined) this.#folder?.remove(this.eviction)
    await this.#folder?.settled()
    this.#services.pool.forget(this.poolPrefix)
    await this.readiness.close()
    if (this.#files === undefined) return
    native.releaseFile(this.#fileId)
    // What was closed last is evicted last.
    if (this.#files.writable) futimesSync(this.#files.data, new Date(), new Date())
    closeSync(this.#files.data)
  }

  /** The folder refused data: it is left alone for a while. */
  degrade(error: unknown): void {
    this.#degradedUntil = this.#services.clock.now() + DEGRADED_MS
    if (this.#warned) return
    this.#warned = true
    this.#services.log.warn(
      { blob: this.info.id, dir: this.dir, error: explain(error) },
      'the cache folder takes no more data: reads go on without caching',
    )
  }
}
