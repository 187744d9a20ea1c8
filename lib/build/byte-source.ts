/**
 * Bytes in order, a wanted number at a time, from any stream: a file, a FIFO, a decompressor. Never seeks, never
 * asks for a size, keeps at most one piece of the stream in memory besides what was asked for.
 */
import type { Readable } from 'node:stream'

export class ByteSource {
  readonly #pieces: AsyncIterator<Buffer>
  #piece: Buffer = Buffer.alloc(0)
  #at = 0
  /** Bytes handed out so far. */
  offset = 0

  constructor(stream: Readable) {
    this.#pieces = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  }

  async #more(): Promise<boolean> {
    while (this.#at === this.#piece.length) {
      const next = await this.#pieces.next()
      if (next.done === true) return false
      this.#piece = next.value
      this.#at = 0
    }
    return true
  }

  /** Fills `into`, or as much of it as the stream still has; returns the number of bytes. */
  async fill(into: Uint8Array): Promise<number> {
    let done = 0
    while (done < into.length && (await this.#more())) {
      const n = Math.min(into.length - done, this.#piece.length - this.#at)
      into.set(this.#piece.subarray(this.#at, this.#at + n), done)
      this.#at += n
      done += n
    }
    this.offset += done
    return done
  }

  /** Passes over `length` bytes; returns how many there were. */
  async skip(length: number): Promise<number> {
    let done = 0
    while (done < length && (await this.#more())) {
      const n = Math.min(length - done, this.#piece.length - this.#at)
      this.#at += n
      done += n
    }
    this.offset += done
    return done
  }

  /** Reads and forgets the rest, so that a writer at the other end of a FIFO is not cut off. */
  async drain(): Promise<void> {
    while (await this.#more()) {
      this.offset += this.#piece.length - this.#at
      this.#at = this.#piece.length
    }
  }
}
