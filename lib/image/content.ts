/**
 * The content of a finished image, read in a row: for tools that go through all files or a part of them.
 *
 *     chunks in the order in which they are wanted ── merged reads, some ahead ── decode, verify ──> plain bytes
 *
 * Memory is bounded by what is read ahead. Nothing is kept on disk: a tool needs each chunk once.
 */
import { setMaxListeners } from 'node:events'
import type { Backend } from '../backend/backend.js'
import { NydusError, explain } from '../base/errors.js'
import type { Unit } from '../cache/unit.js'
import type { FileChunk, RafsImage } from '../rafs/image.js'
import { BlobSource } from './blob-source.js'

/** Bytes of one backend request; what lies closer together than GAP is read in one. */
const MERGE = 4 << 20
const GAP = 64 << 10
/** Bytes that are read ahead, and pieces that wait for them. */
const AHEAD = 16 << 20
const AHEAD_PIECES = 4096
/** Decoded windows (of many chunks each) that are kept for the chunks to come. */
const KEPT_WINDOWS = 64 << 20

/** A chunk, or none: something in between that shall come out at its place. */
export interface Wanted<T> {
  readonly tag: T
  readonly chunk: Pick<FileChunk, 'blob' | 'want'> | undefined
}

export interface Read<T> {
  readonly tag: T
  /** Plain bytes of the chunk; empty without one. Valid until the next step. */
  readonly bytes: Uint8Array
}

/** One backend request. */
class Group {
  readonly source: BlobSource
  readonly start: number
  end: number
  readonly #units = new Set<number>()
  #bytes: Promise<Uint8Array> | undefined

  constructor(source: BlobSource, unit: Unit) {
    this.source = source
    this.start = unit.offset
    this.end = unit.offset + unit.size
    this.#units.add(unit.key)
  }

  /** Bytes more to be read when the unit is taken in; undefined: it does not belong here. */
  take(unit: Unit): number | undefined {
    if (this.#units.has(unit.key)) return 0
    const end = unit.offset + unit.size
    if (
      this.#bytes !== undefined ||
      unit.offset < this.end ||
      unit.offset > this.end + GAP ||
      end - this.start > MERGE
    )
      return undefined
    this.end = end
    this.#units.add(unit.key)
    return unit.size
  }

  read(signal: AbortSignal): Promise<Uint8Array> {
    this.#bytes ??= this.#fetch(signal)
    return this.#bytes
  }

  async #fetch(signal: AbortSignal): Promise<Uint8Array> {
    const size = await this.source.reader.size({ signal })
    // Only a stargz unit may claim more than there is: its size is an upper bound.
    const bytes = new Uint8Array(Math.max(0, Math.min(this.end, size) - this.start))
    if (bytes.length > 0) await this.source.reader.read(bytes, this.start, { signal })
    return bytes
  }

  stored(bytes: Uint8Array, unit: Unit): Uint8Array {
    const from = unit.offset - this.start
    const found = bytes.subarray(from, from + unit.size)
    if (found.length < unit.size && unit.open !== true)
      throw new NydusError(
        'BLOB_TRUNCATED',
        'EIO',
        `blob ${this.source.info.id} ends at ${this.start + bytes.length}, ${unit.size} bytes at ${unit.offset} are wanted: it is truncated`,
      )
    return found
  }
}

interface Queued<T> {
  readonly wanted: Wanted<T>
  readonly part?: {
    readonly unit: Unit
    readonly group: Group
    /** Bytes that are read for its sake. */
    readonly cost: number
  }
}

export class Content {
  readonly #sources: readonly BlobSource[]
  readonly #abort = new AbortController()
  /** Decoded windows, least recently used first. */
  readonly #windows = new Map<string, Uint8Array>()
  #windowBytes = 0

  constructor(image: Pick<RafsImage, 'blobs'>, backend: Backend) {
    setMaxListeners(0, this.#abort.signal)
    this.#sources = image.blobs.map(info => new BlobSource(info, backend))
  }

  source(blob: number): BlobSource {
    const source = this.#sources[blob]
    if (source === undefined) throw new RangeError(`blob ${blob} of ${this.#sources.length}`)
    return source
  }

  /**
   * Gives `wanted` back in its order, each with its bytes. `name` says what a tag is, for errors. Throws NydusError
   * IMAGE_DAMAGED, BLOB_TRUNCATED, CACHE_BAD_META, BACKEND_*.
   */
  async *read<T>(wanted: Iterable<Wanted<T>>, name: (tag: T) => string): AsyncGenerator<Read<T>> {
    const queue: Queued<T>[] = []
    const items = wanted[Symbol.iterator]()
    let group: Group | undefined
    let ahead = 0
    let ended = false
    try {
      for (;;) {
        while (!ended && ahead < AHEAD && queue.length < AHEAD_PIECES) {
          const item = items.next()
          if (item.done === true) {
            ended = true
            break
          }
          const next = await this.#plan(item.value, group, name)
          queue.push(next)
          if (next.part === undefined) continue
          if (next.part.group !== group) {
            if (group !== undefined) this.#start(group)
            group = next.part.group
          }
          ahead += next.part.cost
        }
        const first = queue.shift()
        if (first === undefined) return
        if (first.part === undefined) {
          yield { tag: first.wanted.tag, bytes: NOTHING }
          continue
        }
        ahead -= first.part.cost
        yield { tag: first.wanted.tag, bytes: await this.#bytes(first.wanted, first.part, name) }
      }
    } finally {
      items.return?.()
    }
  }

  async #plan<T>(wanted: Wanted<T>, group: Group | undefined, name: (tag: T) => string): Promise<Queued<T>> {
    const { chunk, tag } = wanted
    if (chunk === undefined) return { wanted }
    const source = this.source(chunk.blob)
    try {
      const unit = await source.unitOf(chunk.want, { signal: this.#abort.signal })
      const cost = group?.source === source ? group.take(unit) : undefined
      return group !== undefined && cost !== undefined
        ? { wanted, part: { unit, group, cost } }
        : { wanted, part: { unit, group: new Group(source, unit), cost: unit.size } }
    } catch (error) {
      throw named(name(tag), error)
    }
  }

  /** Begins a request whose failure is met when its first piece is wanted. */
  #start(group: Group): void {
    group.read(this.#abort.signal).catch(() => undefined)
  }

  async #bytes<T>(
    { tag, chunk }: Wanted<T>,
    { unit, group }: NonNullable<Queued<T>['part']>,
    name: (tag: T) => string,
  ): Promise<Uint8Array> {
    if (chunk === undefined) return NOTHING
    try {
      const many = unit.members.length > 1
      const key = `${chunk.blob} ${unit.key}`
      let plain = many ? this.#windows.get(key) : undefined
      if (plain === undefined) {
        const bytes = await group.read(this.#abort.signal)
        plain = group.source.decode(unit, group.stored(bytes, unit))
      }
      if (many) this.#keep(key, plain)
      return group.source.chunkOf(chunk.want, unit, plain)
    } catch (error) {
      throw named(name(tag), error)
    }
  }

  #keep(key: string, plain: Uint8Array): void {
    if (!this.#windows.delete(key)) this.#windowBytes += plain.length
    this.#windows.set(key, plain)
    for (const [old, bytes] of this.#windows) {
      if (this.#windowBytes <= KEPT_WINDOWS || old === key) break
      this.#windows.delete(old)
      this.#windowBytes -= bytes.length
    }
  }

  /** Ends requests that are under way. */
  async close(): Promise<void> {
    this.#abort.abort(new NydusError('IMAGE_CLOSED', 'EINTR', 'the image was closed'))
    await Promise.all(this.#sources.map(source => source.close()))
  }
}

const NOTHING = new Uint8Array(0)

function named(name: string, error: unknown): NydusError {
  const [code, errno] =
    error instanceof NydusError ? ([error.code, error.errno] as const) : (['IMAGE_READ', 'EIO'] as const)
  return new NydusError(code, errno, `${name}: ${explain(error)}`)
}
