/**
 * Which chunks of a blob can be read from its data file: as this process knows it, and as the disk may know it.
 *
 * The map on disk outlives a crash of the machine, and the kernel writes its pages and those of the data file in
 * any order. So a bit goes there only after the data it speaks of was synced; lanes look at maps of this process,
 * where bits are set at once. With validation a process trusts only what it checked itself: a second map.
 */
import { closeSync, fdatasync } from 'node:fs'
import { promisify } from 'node:util'
import { native } from '../native.js'
import { BitMap, byteLength } from './bit-map.js'
import type { BlobHandle } from './cache.js'
import { descriptorPath, openTempFile } from './temp-file.js'

const sync = promisify(fdatasync)
/** Between two syncs of a data file that is being filled; what other daemons learn late, they may fetch twice. */
const SYNC_GAP_MS = 200

interface LaneMap {
  readonly bits: BitMap
  readonly fd: number
}

function newLaneMap(chunkCount: number): LaneMap {
  const length = Math.max(byteLength(chunkCount), 1)
  const fd = openTempFile(length)
  return { fd, bits: new BitMap(new Uint8Array(native.mapFile(fd, length, 'rw')), chunkCount) }
}

export interface ReadinessOptions {
  /** 0: chunks have no numbers, they are known by their uncompressed offset. */
  readonly chunkCount: number
  readonly data: number
  /** What the map on disk says. */
  readonly initial?: BitMap
  /** The map on disk, when it may be written. */
  readonly disk?: BitMap
  /** Data could not be written back: these chunks are not ready any more. */
  readonly onLost: (error: unknown) => void
}

export class Readiness {
  readonly #options: ReadinessOptions
  readonly #stored: LaneMap | undefined
  #verified: LaneMap | undefined
  readonly #storedOffsets = new Set<number>()
  #unsynced = new Set<number>()
  #syncing: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(options: ReadinessOptions) {
    this.#options = options
    if (options.chunkCount > 0) {
      this.#stored = newLaneMap(options.chunkCount)
      if (options.initial !== undefined) this.#stored.bits.copyFrom(options.initial)
    }
  }

  /** From here on it is known which chunks this process has checked itself. */
  trackVerified(): void {
    if (this.#stored !== undefined) this.#verified ??= newLaneMap(this.#options.chunkCount)
  }

  /** The part of a BlobHandle that tells a lane where to look. */
  laneMap(validate: boolean): Omit<BlobHandle, 'fileId'> {
    const map = validate ? this.#verified : this.#stored
    if (map === undefined) return { mapPath: '', mapLength: 0, bitsOffset: 0, chunkCount: 0 }
    return {
      mapPath: descriptorPath(map.fd),
      mapLength: Math.max(byteLength(map.bits.length), 1),
      bitsOffset: 0,
      chunkCount: map.bits.length,
    }
  }

  /** `key`: the chunk's number, or its uncompressed offset where chunks have none. */
  isReady(key: number, validate: boolean): boolean {
    if (this.#stored === undefined) return this.#storedOffsets.has(key)
    return validate ? this.#verified?.bits.has(key) === true : this.isStored(key)
  }

  /** Somebody says that the data file has it: this process or another one. */
  isStored(key: number): boolean {
    if (this.#stored === undefined) return this.#storedOffsets.has(key)
    if (this.#stored.bits.has(key)) return true
    if (this.#options.disk?.has(key) !== true) return false
    this.#stored.bits.set(key)
    return true
  }

  /** The data is in the file; `verified`: and was checked against all that is known of it. */
  add(key: number, verified: boolean): void {
    if (this.#stored === undefined) {
      this.#storedOffsets.add(key)
      return
    }
    this.#stored.bits.set(key)
    if (verified) this.#verified?.bits.set(key)
    if (this.#options.disk === undefined || this.#options.disk.has(key)) return
    this.#unsynced.add(key)
    this.#schedule(0)
  }

  /** What is in the file was checked by this process. */
  confirm(key: number): void {
    this.#verified?.bits.set(key)
  }

  /** What is in the file is wrong. */
  remove(key: number): void {
    this.#storedOffsets.delete(key)
    this.#stored?.bits.clear(key)
    this.#verified?.bits.clear(key)
    this.#options.disk?.clear(key)
    this.#unsynced.delete(key)
  }

  /** Chunks in the data file. */
  count(): number {
    return this.#stored?.bits.count() ?? this.#storedOffsets.size
  }

  /** Writes back what the disk's map does not know yet. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    await this.#syncing
    await this.#sync()
    if (this.#stored !== undefined) closeSync(this.#stored.fd)
    if (this.#verified !== undefined) closeSync(this.#verified.fd)
  }

  #schedule(delay: number): void {
    if (this.#closed || this.#syncing !== undefined || this.#timer !== undefined) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#syncing = this.#sync().finally(() => {
        this.#syncing = undefined
        if (this.#unsynced.size > 0) this.#schedule(SYNC_GAP_MS)
      })
    }, delay).unref()
  }

  async #sync(): Promise<void> {
    const keys = this.#unsynced
    const { data, disk, onLost } = this.#options
    if (keys.size === 0 || disk === undefined) return
    this.#unsynced = new Set()
    try {
      await sync(data)
      // Not those that were found wrong meanwhile, nor those that have been stored again since.
      for (const key of keys)
        if (this.#stored?.bits.has(key) === true && !this.#unsynced.has(key)) disk.set(key)
    } catch (error) {
      // The kernel reports a failed write-back once and may drop the pages: nothing of it can be trusted.
      for (const key of keys) this.remove(key)
      onLost(error)
    }
  }
}
