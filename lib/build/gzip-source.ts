/**
 * A gzip file, and where in it reading stands: what an image needs that refers to the file instead of holding a copy
 * (blobs-and-cache.md §4). A read takes no more of the file than it must, so that a place is exact.
 */
import { native } from '../native.js'
import { DecodedSource, type Decoder } from './decoded-source.js'

/** History that deflate can look back into. */
const WINDOW = 32768

/** The start of a deflate block: what it takes to inflate from there. */
export interface GzipBorder {
  /** Bytes of the file before the block's first whole byte. */
  readonly in: number
  /** Plain bytes before it. */
  readonly out: number
  /** The byte before `in`; its top `bits` bits belong to the block. */
  readonly byte: number
  readonly bits: number
  /** Gzip members before its own. */
  readonly member: number
  readonly dictionary: Uint8Array
}

export interface GzipPlace {
  /** Bytes of the file that were taken. */
  readonly in: number
  /** Plain bytes handed out. */
  readonly out: number
  /** Of the block that reading stands in. */
  readonly border: GzipBorder
}

class GzipDecoder implements Decoder {
  readonly name = 'gzip'
  readonly #indexer = native.createGzipIndexer()
  readonly #progress = new Float64Array(4)
  readonly #fields = new Float64Array(5)
  #seen = -1
  #border: GzipBorder | undefined

  get taken(): number {
    return this.#progress[0] ?? 0
  }
  get written(): number {
    return this.#progress[1] ?? 0
  }
  get complete(): boolean {
    return this.#progress[3] === 1
  }
  /** What is left inside of zlib comes out at the latest with the member's trailer. */
  get pending(): boolean {
    return false
  }

  step(src: Uint8Array, dst: Uint8Array): void {
    this.#indexer.step(src, dst, this.#progress)
  }

  border(): GzipBorder {
    const borders = this.#progress[2] ?? 0
    if (this.#border === undefined || borders !== this.#seen) {
      const dictionary = new Uint8Array(WINDOW)
      const length = this.#indexer.border(this.#fields, dictionary)
      const [from = 0, out = 0, byte = 0, bits = 0, member = 0] = this.#fields
      this.#border = { in: from, out, byte, bits, member, dictionary: dictionary.subarray(0, length) }
      this.#seen = borders
    }
    return this.#border
  }
}

export class GzipSource extends DecodedSource<GzipDecoder> {
  constructor(name: string, pieces: AsyncIterable<Uint8Array>) {
    super(name, pieces, new GzipDecoder())
  }

  /** Where the next byte comes from. */
  place(): GzipPlace {
    return { in: this.taken, out: this.offset, border: this.decoder.border() }
  }
}
