import { header, type Headers, HttpFailure } from './http-failure.js'

/**
 * Bytes of a blob that a server which ignores Range may make us read and throw away in front of the range. A
 * chunk near the end of a big layer would otherwise cost the whole layer, once per read.
 */
export const MAX_SKIPPED = 64 << 20

const CONTENT_RANGE = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)$/i

/**
 * One wanted range of a blob, filled by as many answers as it takes: what an interrupted answer brought stays,
 * and the next request asks for the rest. Nothing is written before the answer's headers have been found to
 * describe exactly these bytes.
 */
export class RangeTarget {
  readonly #into: Uint8Array
  readonly #offset: number
  readonly #onProgress: ((count: number) => void) | undefined
  #filled = 0
  /** Body bytes in front of the range that are still to come (answer without range support). */
  #skip = 0
  /** Body bytes that the answer announced for this range. */
  #expected = 0
  /** The answer is the whole blob, and it goes on behind the range. */
  #wholeGoesOn = false
  /** Size of the whole blob, when an answer told. */
  total: number | undefined

  constructor(into: Uint8Array, offset: number, onProgress?: (count: number) => void) {
    this.#onProgress = onProgress
    this.#into = into
    this.#offset = offset
  }

  get done(): boolean {
    return this.#filled === this.#into.byteLength
  }

  get #from(): number {
    return this.#offset + this.#filled
  }

  get #to(): number {
    return this.#offset + this.#into.byteLength - 1
  }

  /** Value of the Range header for what is missing. */
  get range(): string {
    return `bytes=${this.#from}-${this.#to}`
  }

  /** Checks the head of a 200 or 206; throws HttpFailure. */
  begin(status: number, headers: Headers): void {
    const encoding = header(headers, 'content-encoding')
    if (encoding !== undefined && encoding !== 'identity')
      throw this.#bad(`came with content-encoding ${encoding}, which nobody asked for`)
    const length = contentLength(headers)
    if (status === 206) this.#beginPartial(headers, length)
    else this.#beginWhole(length)
  }

  #beginPartial(headers: Headers, length: number | undefined): void {
    const text = header(headers, 'content-range')
    const match = CONTENT_RANGE.exec(text ?? '')
    if (match === null) throw this.#bad(`came with content-range ${text ?? 'missing'}`)
    const from = Number(match[1])
    const to = Number(match[2])
    const total = match[3] === '*' ? undefined : Number(match[3])
    if (from !== this.#from || to < from || to > this.#to || (total !== undefined && to >= total))
      throw this.#bad(`came with content-range ${text}`)
    if (length !== undefined && length !== to - from + 1)
      throw this.#bad(`came with content-range ${text} but content-length ${length}`)
    if (total !== undefined) this.#learn(total)
    this.#wholeGoesOn = false
    this.#skip = 0
    this.#expected = to - from + 1
  }

  #beginWhole(length: number | undefined): void {
    if (length !== undefined) this.#learn(length)
    if (this.#from > MAX_SKIPPED)
      throw new HttpFailure(
        'BACKEND_RANGE_IGNORED',
        `the server ignores Range, and ${this.#from} bytes lie in front of what is wanted (at most ` +
          `${MAX_SKIPPED} are skipped); let the server or proxy support range requests`,
      )
    this.#wholeGoesOn = length === undefined || this.#to + 1 < length
    this.#skip = this.#from
    this.#expected = this.#to - this.#from + 1
  }

  #learn(total: number): void {
    this.total = total
    if (this.#to >= total)
      throw new HttpFailure(
        'BACKEND_TOO_SHORT',
        `the blob has only ${total} bytes there; it is not the one that the image was built with`,
      )
  }

  /** Takes body bytes; true when whatever follows in the body is of no interest. */
  write(chunk: Uint8Array): boolean {
    const skipped = Math.min(this.#skip, chunk.byteLength)
    const taken = Math.min(chunk.byteLength - skipped, this.#expected)
    const plain = taken === chunk.byteLength
    this.#into.set(plain ? chunk : chunk.subarray(skipped, skipped + taken), this.#filled)
    this.#skip -= skipped
    this.#filled += taken
    this.#expected -= taken
    if (taken > 0) this.#onProgress?.(this.#filled)
    const excess = chunk.byteLength - skipped - taken
    return this.#expected === 0 && (excess > 0 || this.#wholeGoesOn)
  }

  /** The body has ended; throws HttpFailure when bytes are missing. */
  end(): void {
    if (!this.done)
      throw new HttpFailure(
        'BACKEND_SHORT_BODY',
        `the answer ended ${this.#into.byteLength - this.#filled} bytes early`,
      )
  }

  #bad(text: string): HttpFailure {
    return new HttpFailure('BACKEND_BAD_ANSWER', `the answer to ${this.range} ${text}`)
  }
}

export function contentLength(headers: Headers): number | undefined {
  const text = header(headers, 'content-length')
  return text !== undefined && /^\d{1,16}$/.test(text) ? Number(text) : undefined
}
