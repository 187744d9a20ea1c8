/**
 * Cuts a gzip file into windows that can be inflated each by itself (blobs-and-cache.md §4). A window starts at a
 * deflate block border with the 32 KiB of history that it needs, and holds whole chunks.
 */
import { NydusError } from '../base/errors.js'
import { ZranWindowV6 } from '../rafs/layout/v6.js'
import type { GzipBorder, GzipPlace } from './gzip-source.js'

/** A window is closed when it has taken so many bytes of the file. */
const COMPRESSED_SPAN = 512 << 10
/** And before its plain bytes could become more than this with one more chunk. */
const PLAIN_SPAN = 2 << 20
/** What readers accept. */
const MAX_PLAIN_SPAN = 16 << 20

interface Window {
  readonly border: GzipBorder
  inEnd: number
  outEnd: number
}

export class ZranWindows {
  readonly #name: string
  readonly #chunkSize: number
  #windows: Window[] = []

  /** `name` is the file in messages. */
  constructor(name: string, chunkSize: number) {
    this.#name = name
    this.#chunkSize = chunkSize
  }

  get count(): number {
    return this.#windows.length
  }

  /** Takes the file's next chunk in; returns its window and its place in the window's output. */
  add(start: GzipPlace, end: GzipPlace): { readonly window: number; readonly offset: number } {
    let window = this.#windows.at(-1)
    if (window === undefined || this.#isFull(window, start)) {
      window = { border: start.border, inEnd: 0, outEnd: 0 }
      this.#windows.push(window)
    }
    window.inEnd = end.in
    window.outEnd = end.out
    const span = window.outEnd - window.border.out
    if (span > MAX_PLAIN_SPAN)
      throw new NydusError(
        'BUILD_ZRAN_WINDOW',
        'EFBIG',
        `${this.#name} cannot be referred to: its plain bytes ${window.border.out} to ${window.outEnd} would have to be inflated in one go, ` +
          `${MAX_PLAIN_SPAN} bytes are the limit; use a smaller --chunk-size, or --type targz-rafs`,
      )
    return { window: this.#windows.length - 1, offset: start.out - window.border.out }
  }

  #isFull(window: Window, next: GzipPlace): boolean {
    const { border } = next
    if (border.member !== window.border.member) return true
    // From the block in which the window started there is no other place to start.
    if (border.in === window.border.in && border.out === window.border.out) return false
    return (
      next.in - window.border.in >= COMPRESSED_SPAN ||
      next.out - window.border.out + this.#chunkSize >= PLAIN_SPAN
    )
  }

  /** Leaves only the windows of these numbers; they get new ones, in this order. */
  keep(windows: readonly number[]): void {
    this.#windows = windows.flatMap(number => this.#windows[number] ?? [])
  }

  /** Windows, then their dictionaries, as in the chunk information. */
  table(): Uint8Array {
    const dictionaries = this.#windows.reduce((sum, { border }) => sum + border.dictionary.length, 0)
    const records = this.#windows.length * ZranWindowV6.size
    const out = new Uint8Array(records + dictionaries)
    let at = 0
    this.#windows.forEach(({ border, inEnd, outEnd }, i) => {
      ZranWindowV6.write(
        out,
        {
          inOffset: BigInt(border.in),
          outOffset: BigInt(border.out),
          dictionaryOffset: BigInt(at),
          inLength: inEnd - border.in,
          outLength: outEnd - border.out,
          dictionaryLength: border.dictionary.length,
          byte: border.byte,
          bits: border.bits,
        },
        i * ZranWindowV6.size,
      )
      out.set(border.dictionary, records + at)
      at += border.dictionary.length
    })
    return out
  }
}
