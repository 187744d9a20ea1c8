/**
 * Cold reads, in the yard: what lanes deferred is fetched, then completed.
 *
 *     lane ── ColdRead ── source.fetch ── placements ── device.completeDeferred ── guest
 *
 * A read ends once, whatever happens: with its data, with EIO when the fetch fails or takes too long, with ESTALE
 * when its image is unmounted. Reads don't wait for each other, except for room: the bytes being fetched at once
 * are limited, and so is the number of reads.
 */
import { ERRNO, NydusError, explain } from '../base/errors.js'
import { silentLog, type Log } from '../base/log.js'
import { LogLimit } from '../base/log-limit.js'
import type { ColdRead } from './filesystem.js'

/** Where a fetched chunk's bytes are, when not in the extent that the lane gave. */
export interface ColdPlacement {
  readonly fileId: number
  /** Byte offset of the chunk's first byte in that file. */
  readonly offset: number
}

export interface ColdFetched {
  /** One for each want; undefined: at the place that the lane gave. */
  readonly placements: readonly (ColdPlacement | undefined)[]
  /** Gives temporary places back. */
  release(): void
}

export interface ColdSource {
  /** Makes the pieces of the image that `read` wants available. Rejects when one of them can't be had. */
  fetch(read: ColdRead, signal: AbortSignal): Promise<ColdFetched>
}

export interface ColdReadsOptions {
  readonly source: ColdSource
  /** Device.completeDeferred. */
  readonly complete: (ticket: number, status: number, extents?: Float64Array) => boolean
  /** A read that a guest waits for has failed; the lane had counted it as answered. */
  readonly onFailed?: (read: ColdRead) => void
  /** After so many milliseconds a read ends with EIO; 0: never. */
  readonly deadlineMs?: number
  /** Reads that may wait; more end with EIO at once. A device's queues hold 65,536 at the very most. */
  readonly maxWaiting?: number
  /** Bytes that reads may have under way at once; further reads start when there is room. */
  readonly maxBytes?: number
  readonly log?: Log
}

/** Failed reads that are logged in ten seconds: a broken backend fails thousands. */
const LOGGED = 10
const LOG_INTERVAL_MS = 10_000

export const COLD_READ_DEFAULTS = { deadlineMs: 60_000, maxWaiting: 16_384, maxBytes: 256 << 20 } as const

interface Waiting {
  readonly read: ColdRead
  readonly bytes: number
  readonly since: number
  readonly abort: AbortController
  timer: NodeJS.Timeout | undefined
  started: boolean
}

export interface ColdReadsMetrics {
  readonly waiting: number
  readonly bytes: number
  readonly completed: number
  readonly failed: number
  /** The guest no longer wanted the answer. */
  readonly gone: number
  /** Reads that had to wait, by milliseconds until they ended: up to 1, 20, 50, 500, 1000, 2000, longer. */
  readonly latency: readonly number[]
}

/** What a lane gives as file for a piece that has no place in a cache. */
const NO_FILE = 0

const LATENCY_LIMITS_MS = [1, 20, 50, 500, 1000, 2000]

export class ColdReads {
  readonly #options: Required<Omit<ColdReadsOptions, 'onFailed'>> & Pick<ColdReadsOptions, 'onFailed'>
  readonly #waiting = new Set<Waiting>()
  /** Those of #waiting that have not started, in order. */
  readonly #queue: Waiting[] = []
  readonly #limit = new LogLimit(LOGGED, LOG_INTERVAL_MS)
  readonly #latency = new Array<number>(LATENCY_LIMITS_MS.length + 1).fill(0)
  #bytes = 0
  #completed = 0
  #failed = 0
  #gone = 0

  constructor(options: ColdReadsOptions) {
    this.#options = { ...COLD_READ_DEFAULTS, log: silentLog, ...options }
  }

  /** What a lane has deferred. */
  add(reads: readonly ColdRead[]): void {
    for (const read of reads) {
      const bytes = read.wants.reduce((sum, want) => sum + want.length, 0)
      const waiting: Waiting = {
        read,
        bytes,
        since: performance.now(),
        abort: new AbortController(),
        timer: undefined,
        started: false,
      }
      this.#waiting.add(waiting)
      if (this.#waiting.size > this.#options.maxWaiting) {
        const limit = `more than ${this.#options.maxWaiting} reads wait for data`
        this.#fail(waiting, new NydusError('VFS_COLD_READS_FULL', 'EIO', limit))
        continue
      }
      this.#startTimer(waiting)
      this.#queue.push(waiting)
    }
    this.#startNext()
  }

  /** Ends all reads of a mount slot with ESTALE: it was unmounted. */
  abortSlot(slot: number): void {
    const error = new NydusError('VFS_UNMOUNTED', 'ESTALE', 'the image was unmounted during the read')
    for (const waiting of [...this.#waiting]) if (waiting.read.slot === slot) this.#fail(waiting, error)
    this.#startNext()
  }

  /** Ends all reads with EIO: the device stops, or the guest's queues do. */
  abortAll(why: string): void {
    const error = new NydusError('VFS_COLD_READS_STOPPED', 'EIO', why)
    for (const waiting of [...this.#waiting]) this.#fail(waiting, error)
    this.#queue.length = 0
  }

  /** Reads that guests wait for, the oldest first; `since` as of performance.now(). */
  pending(): {
    readonly slot: number
    readonly ino: number
    readonly ticket: number
    readonly since: number
  }[] {
    return [...this.#waiting].map(({ read: { slot, ino, ticket }, since }) => ({ slot, ino, ticket, since }))
  }

  /** Whether the reply of a read that waits points into these bytes of a file. */
  holds(file: number, offset: number, length: number): boolean {
    for (const { read } of this.#waiting)
      for (let i = 0; i < read.extents.length; i += 3) {
        const [at = 0, start = 0, size = 0] = read.extents.subarray(i, i + 3)
        if (at === file && start < offset + length && offset < start + size) return true
      }
    return false
  }

  metrics(): ColdReadsMetrics {
    return {
      waiting: this.#waiting.size,
      bytes: this.#bytes,
      completed: this.#completed,
      failed: this.#failed,
      gone: this.#gone,
      latency: [...this.#latency],
    }
  }

  #startTimer(waiting: Waiting): void {
    const { deadlineMs } = this.#options
    if (deadlineMs === 0) return
    waiting.timer = setTimeout(() => {
      const message = `no data within ${deadlineMs / 1000} s`
      this.#fail(waiting, new NydusError('VFS_COLD_READ_LATE', 'ETIMEDOUT', message))
      this.#startNext()
    }, deadlineMs)
    waiting.timer.unref()
  }

  #startNext(): void {
    while (this.#queue.length > 0) {
      const next = this.#queue[0] as Waiting
      if (this.#waiting.has(next)) {
        // One that alone is larger than the limit goes when nothing else is under way.
        if (this.#bytes > 0 && this.#bytes + next.bytes > this.#options.maxBytes) return
        this.#bytes += next.bytes
        next.started = true
        void this.#fetch(next)
      }
      this.#queue.shift()
    }
  }

  async #fetch(waiting: Waiting): Promise<void> {
    const { read, abort } = waiting
    try {
      const fetched = await this.#options.source.fetch(read, abort.signal)
      try {
        const extents = placed(read, fetched.placements)
        if (this.#end(waiting)) this.#send(read, extents)
      } finally {
        fetched.release()
      }
    } catch (error) {
      this.#fail(waiting, error)
    }
    this.#startNext()
  }

  #send(read: ColdRead, extents: Float64Array | undefined): void {
    if (this.#options.complete(read.ticket, 0, extents)) this.#completed++
    else this.#gone++
  }

  /** Takes a read off the list; false when it has ended already. */
  #end(waiting: Waiting): boolean {
    if (!this.#waiting.delete(waiting)) return false
    clearTimeout(waiting.timer)
    if (waiting.started) this.#bytes -= waiting.bytes
    const ms = performance.now() - waiting.since
    const bucket = LATENCY_LIMITS_MS.findIndex(limit => ms <= limit)
    const at = bucket < 0 ? LATENCY_LIMITS_MS.length : bucket
    this.#latency[at] = (this.#latency[at] ?? 0) + 1
    return true
  }

  #fail(waiting: Waiting, error: unknown): void {
    if (!this.#end(waiting)) return
    const { read, abort } = waiting
    const errno = error instanceof NydusError && error.errno === 'ESTALE' ? ERRNO.ESTALE : ERRNO.EIO
    const wanted = this.#options.complete(read.ticket, -errno)
    abort.abort(error)
    if (!wanted) {
      this.#gone++
      return
    }
    this.#failed++
    this.#options.onFailed?.(read)
    const held = this.#limit.pass()
    if (held < 0) return
    const { slot, ino, offset, wants } = read
    const first = wants[0]
    this.#options.log.error(
      {
        slot,
        ino,
        offset,
        chunks: wants.length,
        ...(first !== undefined && { blob: first.blob, ref: first.ref, chunkOffset: first.chunkOffset }),
        error: explain(error),
        ...(held > 0 && { held }),
      },
      'a read failed',
    )
  }
}

/** Bytes of a reply: its extents are triples of file, offset, length. */
export function replyBytes(extents: Float64Array): number {
  return extents.reduce((sum, value, i) => (i % 3 === 2 ? sum + value : sum), 0)
}

/**
 * The read's extents with each wanted piece at its temporary place; undefined when all are where the lane said. Throws
 * when a piece has no place at all: the lane put a hole there, and zeros must not pass for data.
 */
function placed(
  read: ColdRead,
  placements: readonly (ColdPlacement | undefined)[],
): Float64Array | undefined {
  let extents: Float64Array | undefined
  read.wants.forEach((want, i) => {
    const placement = placements[i]
    const at = want.extent * 3
    if (placement !== undefined) {
      extents ??= read.extents.slice()
      extents[at] = placement.fileId
      extents[at + 1] = placement.offset + want.chunkOffset
      extents[at + 2] = want.length
    } else if (read.extents[at] === NO_FILE) {
      const what = `chunk ${want.ref} of blob ${want.blob}`
      throw new NydusError(
        'VFS_COLD_READ_LOST',
        'EIO',
        `${what} was fetched, but is neither cached nor at hand`,
      )
    }
  })
  return extents
}
