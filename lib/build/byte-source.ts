/**
 * Bytes in order, a wanted number at a time, from any stream: a file, a FIFO, a decompressor. Never seeks, never
 * asks for a size, keeps at most one piece of the stream in memory besides what was asked for.
 */

export interface Bytes {
  /** Bytes handed out so far. */
  readonly offset: number
  /** Fills `into`, or as much of it as there still is; returns the number of bytes. */
  fill(into: Uint8Array): Promise<number>
  /** Passes over `length` bytes; returns how many there were. */
  skip(length: number): Promise<number>
  /** Reads and forgets the rest, so that a writer at the other end of a FIFO is not cut off. */
  drain(): Promise<void>
}

export class ByteSource implements Bytes {
  readonly #pieces: AsyncIterator<Buffer>
  #piece: Buffer = Buffer.alloc(0)
  #at = 0
  offset = 0

  constructor(stream: AsyncIterable<Buffer>) {
    this.#pieces = stream[Symbol.asyncIterator]()
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

  async drain(): Promise<void> {
    while (await this.#more()) {
      this.offset += this.#piece.length - this.#at
      this.#at = this.#piece.length
    }
  }
}
