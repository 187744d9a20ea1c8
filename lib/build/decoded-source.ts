/**
 * The plain bytes of a compressed file, read in order. Holds one piece of the file and what its decoder keeps, however
 * big the file is and however much it expands.
 */
import { NydusError, explain } from '../base/errors.js'
import type { Bytes } from './byte-source.js'

/** One compression format; keeps its place in the stream. */
export interface Decoder {
  /** Of the format, for messages. */
  readonly name: string
  /** By the last `step`: bytes of the file that were used up, plain bytes that were written. */
  readonly taken: number
  readonly written: number
  /** The file may end here. */
  readonly complete: boolean
  /** There may be plain bytes that need no more of the file. */
  readonly pending: boolean
  /** Goes on with `src` until it is used up or `dst` is full; throws for what is not in the format. */
  step(src: Uint8Array, dst: Uint8Array): void
}

export class DecodedSource<D extends Decoder> implements Bytes {
  readonly #name: string
  readonly #pieces: AsyncIterator<Uint8Array>
  protected readonly decoder: D
  readonly #scratch = new Uint8Array(64 << 10)
  #piece: Uint8Array = new Uint8Array(0)
  #at = 0
  /** Bytes of the file that were used up. */
  protected taken = 0
  offset = 0

  /** `name` is the file in messages. */
  constructor(name: string, pieces: AsyncIterable<Uint8Array>, decoder: D) {
    this.#name = name
    this.#pieces = pieces[Symbol.asyncIterator]()
    this.decoder = decoder
  }

  async fill(into: Uint8Array): Promise<number> {
    let done = 0
    while (done < into.length) {
      if (this.#at === this.#piece.length && !this.decoder.pending && !(await this.#more())) break
      this.#step(into.subarray(done))
      done += this.decoder.written
    }
    return done
  }

  async skip(length: number): Promise<number> {
    let done = 0
    while (done < length) {
      const got = await this.fill(this.#scratch.subarray(0, Math.min(length - done, this.#scratch.length)))
      if (got === 0) break
      done += got
    }
    return done
  }

  async drain(): Promise<void> {
    while ((await this.fill(this.#scratch)) > 0);
  }

  #step(into: Uint8Array): void {
    try {
      this.decoder.step(this.#piece.subarray(this.#at), into)
    } catch (error) {
      const where = `${this.taken} bytes of it (${this.offset} plain bytes) are right`
      throw this.#bad(`is damaged: ${explain(error)}; the first ${where}`, error)
    }
    this.#at += this.decoder.taken
    this.taken += this.decoder.taken
    this.offset += this.decoder.written
  }

  async #more(): Promise<boolean> {
    const next = await this.#pieces.next()
    if (next.done !== true) {
      this.#piece = next.value
      this.#at = 0
      return true
    }
    if (this.decoder.complete) return false
    throw this.#bad(
      `is truncated: it ends after ${this.taken} bytes (${this.offset} plain bytes) inside its ${this.decoder.name} data`,
    )
  }

  #bad(what: string, cause?: unknown): NydusError {
    return new NydusError('BUILD_SOURCE_CORRUPT', 'EIO', `${this.#name} ${what}`, { cause })
  }
}
