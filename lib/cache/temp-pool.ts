/**
 * Temporary places for decoded units: all that there is without a cache folder, and what a full or broken disk
 * falls back to. A bounded number of bytes of an unnamed file; what nobody uses at the moment stays until its room
 * is needed (least recently used first).
 *
 * A fetch gets all its places at once or waits in line with none, so two fetches never wait for each other.
 */
import { closeSync } from 'node:fs'
import { NydusError } from '../base/errors.js'
import { native } from '../native.js'
import { RangeAllocator } from './range-allocator.js'
import { openTempFile, tempSpace } from './temp-file.js'
import { MAX_OUTPUT } from './unit.js'

/** Bytes kept at most, unless tmpfs is smaller: four of the largest chunks. */
const DEFAULT_CAPACITY = 4 * MAX_OUTPUT
const PAGE = 4096
/**
 * Address space per byte kept. First-fit needs at most log2(largest / smallest) = 12 times the bytes in use
 * (Robson 1977); places that are given back are punched out of the file, so address space costs nothing.
 */
const SPREAD = 16

export interface PoolEntry {
  readonly key: string
  readonly offset: number
  readonly size: number
  /** Users; an entry with users is never moved or dropped. */
  pins: number
  /** Members (by index in the unit) that must not be served from here; undefined until the unit was decoded. */
  bad: ReadonlySet<number> | undefined
  /** Its members were checked against digests. */
  validated: boolean
  /** Not found by later look-ups, dropped with its last user. */
  stale: boolean
}

export class TempPool {
  readonly capacity: number
  readonly #allocator: RangeAllocator
  /** In the order of their last use. */
  readonly #entries = new Map<string, PoolEntry>()
  #file: { readonly fd: number; readonly id: number } | undefined
  #used = 0
  #line: Promise<void> = Promise.resolve()
  readonly #freed = new Set<() => void>()

  constructor(capacity: number = Math.min(DEFAULT_CAPACITY, Math.max(MAX_OUTPUT, tempSpace() / 2))) {
    this.capacity = Math.floor(capacity / PAGE) * PAGE
    this.#allocator = new RangeAllocator(this.capacity * SPREAD, PAGE)
  }

  get used(): number {
    return this.#used
  }

  get file(): { readonly fd: number; readonly id: number } {
    if (this.#file === undefined) {
      const fd = openTempFile(this.capacity * SPREAD)
      this.#file = { fd, id: native.registerFile(fd, this.capacity * SPREAD) }
    }
    return this.#file
  }

  /** A decoded or just being decoded unit; counts as a use. */
  find(key: string): PoolEntry | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined || entry.stale) return undefined
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    return entry
  }

  /**
   * Places for new units, each pinned once; undefined when there is no room at the moment. Throws CACHE_POOL_SMALL
   * when there never will be.
   */
  allocate(needs: readonly { readonly key: string; readonly size: number }[]): PoolEntry[] | undefined {
    const total = needs.reduce((sum, need) => sum + this.#allocator.rounded(need.size), 0)
    if (total > this.capacity)
      throw new NydusError(
        'CACHE_POOL_SMALL',
        'EIO',
        `one read needs ${total} bytes of temporary room, there are ${this.capacity}`,
      )
    if (!this.#makeRoom(total)) return undefined
    const entries: PoolEntry[] = []
    for (const { key, size } of needs) {
      const offset = this.#allocator.take(size)
      if (offset === undefined) {
        for (const entry of entries) this.#drop(entry)
        return undefined
      }
      const old = this.#entries.get(key)
      if (old !== undefined) old.stale = true
      const entry: PoolEntry = { key, offset, size, pins: 1, bad: undefined, validated: false, stale: false }
      this.#used += this.#allocator.rounded(size)
      this.#entries.set(key, entry)
      entries.push(entry)
    }
    return entries
  }

  unpin(entry: PoolEntry): void {
    entry.pins--
    if (entry.pins > 0) return
    if (entry.stale || entry.bad === undefined) this.#drop(entry)
    for (const wake of this.#freed) wake()
  }

  /**
   * Runs `attempt`, one caller after another, until it returns true; between two tries it waits until a place was
   * given back. Rejects with the signal's reason.
   */
  async inTurn(attempt: () => boolean, signal: AbortSignal): Promise<void> {
    const before = this.#line
    let leave = (): void => {}
    this.#line = new Promise(resolve => {
      leave = resolve
    })
    try {
      await before
      for (;;) {
        signal.throwIfAborted()
        if (attempt()) return
        await this.#nextFreed(signal)
      }
    } finally {
      leave()
    }
  }

  /** Forgets everything that nobody uses whose key starts with `prefix`. */
  forget(prefix: string): void {
    for (const entry of [...this.#entries.values()]) {
      if (!entry.key.startsWith(prefix)) continue
      entry.stale = true
      if (entry.pins === 0) this.#drop(entry)
    }
  }

  close(): void {
    if (this.#file === undefined) return
    native.releaseFile(this.#file.id)
    closeSync(this.#file.fd)
    this.#file = undefined
  }

  #nextFreed(signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const wake = (): void => {
        this.#freed.delete(wake)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      this.#freed.add(wake)
      signal.addEventListener('abort', wake)
    })
  }

  #makeRoom(bytes: number): boolean {
    if (this.#used + bytes <= this.capacity) return true
    for (const entry of [...this.#entries.values()]) {
      if (entry.pins > 0) continue
      this.#drop(entry)
      if (this.#used + bytes <= this.capacity) return true
    }
    return false
  }

  #drop(entry: PoolEntry): void {
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key)
    this.#used -= this.#allocator.rounded(entry.size)
    if (this.#file !== undefined)
      native.fallocatePunch(this.#file.fd, entry.offset, this.#allocator.rounded(entry.size))
    this.#allocator.give(entry.offset, entry.size)
  }
}
