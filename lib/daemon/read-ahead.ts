/**
 * Reading ahead within a file that a guest reads from front to back: one chunk after the other would wait for the backend
 * once each.
 *
 *     chunk in front is there │ the one that is missed │ <── read ahead: 4, 8, 16 times amplify_io ──>
 *
 * A guest that misses a chunk whose predecessor in the file is there has come along the file. One that begins with as much as
 * a kernel asks for at once wants a lot of it: a kernel that only looks at a header, or has mapped the file, begins with
 * less, or further on (mm/readahead.c). What is fetched ahead is prefetch: it gives way to whatever a guest waits for,
 * nobody hears of its failure, and it never leaves the file.
 */
import { explain } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { BlobCache, ChunkWant } from '../cache/cache.js'
import type { FileChunk, RafsImage } from '../rafs/image.js'

/** Plain bytes ahead, in units of `amplify_io`: at first, and after each time that the guest came to the end of them. */
const FIRST = 4
const MAX = 16
/** What Linux reads at once, unless told otherwise (VM_READAHEAD_PAGES). */
const LARGE_READ = 128 << 10
/** Files of which it is known how far they were read ahead; the one not missed for longest is forgotten. */
const FILES = 64
/** Fetches at once. */
const RUNNING = 8

interface Stream {
  /** Plain bytes that the next step fetches. */
  readonly size: number
  /** File offset of the last step. */
  readonly from: number
  /** A guest that misses something from here on comes close to the end: time for the next step. */
  readonly mark: number
  /** File offset up to which everything was asked for. */
  readonly until: number
}

export interface ReadAheadOptions {
  readonly image: Pick<RafsImage, 'chunks'>
  /** By number in the image. */
  readonly blobs: readonly Pick<BlobCache, 'isReady' | 'fetch'>[]
  /** `amplify_io`; 0: nothing is read ahead. */
  readonly amplify: number
  /** Unmount. */
  readonly signal: AbortSignal
  readonly log: Log
}

export class ReadAhead {
  readonly #options: ReadAheadOptions
  /** By inode, in the order of their last miss. */
  readonly #streams = new Map<number, Stream>()
  #running = 0

  constructor(options: ReadAheadOptions) {
    this.#options = options
  }

  /** A guest waits for some of `length` bytes at `offset` of a file. */
  missed(ino: number, offset: number, length: number): void {
    const { amplify, signal, log } = this.#options
    if (amplify === 0 || (offset === 0 && length < LARGE_READ) || signal.aborted || this.#running >= RUNNING)
      return
    let known = this.#streams.get(ino)
    // It has turned back: what it missed was evicted.
    if (known !== undefined && offset < known.from) known = undefined
    if (known !== undefined && offset < known.mark) return
    const size = known?.size ?? FIRST * amplify
    try {
      const from =
        known !== undefined && offset < known.until ? known.until : this.#behindMissed(ino, offset, length)
      const ahead = from === undefined ? [] : this.#chunks(ino, from, size)
      if (ahead.length > 0) this.#start(ino, ahead, Math.min(2 * size, MAX * amplify))
    } catch (error) {
      // A damaged file: whoever reads that part will hear of it.
      log.debug({ ino, error: explain(error) }, 'nothing is read ahead')
    }
  }

  /** Where the chunk ends that is missed; undefined if there is one in front of it which is not there. */
  #behindMissed(ino: number, offset: number, length: number): number | undefined {
    let before: FileChunk | undefined
    for (const chunk of this.#options.image.chunks(ino, Math.max(0, offset - 1))) {
      if (chunk.fileOffset >= offset + length) return undefined
      if (this.#isReady(chunk)) before = chunk
      else if (before === undefined && offset > 0) return undefined
      else return chunk.fileOffset + chunk.want.uncompressedSize
    }
    return undefined
  }

  #chunks(ino: number, from: number, size: number): FileChunk[] {
    const found: FileChunk[] = []
    for (const chunk of this.#options.image.chunks(ino, from)) {
      if (chunk.fileOffset >= from + size) break
      if (chunk.fileOffset >= from) found.push(chunk)
    }
    return found
  }

  #isReady({ blob, want }: FileChunk): boolean {
    return this.#options.blobs[blob]?.isReady(want.index) === true
  }

  #start(ino: number, ahead: readonly FileChunk[], size: number): void {
    const [first, last] = [ahead[0], ahead.at(-1)]
    if (first === undefined || last === undefined) return
    const from = first.fileOffset
    const until = last.fileOffset + last.want.uncompressedSize
    this.#streams.delete(ino)
    this.#streams.set(ino, { size, from, mark: (from + until) / 2, until })
    const oldest = this.#streams.keys().next()
    if (this.#streams.size > FILES && oldest.done !== true) this.#streams.delete(oldest.value)
    for (const number of new Set(ahead.map(({ blob }) => blob)))
      void this.#fetch(
        number,
        ahead.filter(({ blob }) => blob === number).map(({ want }) => want),
      )
  }

  async #fetch(blob: number, wants: readonly ChunkWant[]): Promise<void> {
    const { blobs, signal, log } = this.#options
    this.#running++
    try {
      const fetched = await blobs[blob]?.fetch(wants, { signal, priority: 'prefetch' })
      fetched?.release()
    } catch (error) {
      if (!signal.aborted) log.debug({ error: explain(error) }, 'what was read ahead did not come')
    }
    this.#running--
  }
}
