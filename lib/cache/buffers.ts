/**
 * Read buffers are used again when all of it is decoded: fresh ones would have to be zeroed, faulted in and
 * collected for every request.
 */
const MAX_KEPT = 8 << 20
const GRAIN = 64 << 10

export class Buffers {
  readonly #kept: ArrayBuffer[] = []
  #bytes = 0

  /** At least `size` bytes of anything. */
  take(size: number): ArrayBuffer {
    const at = this.#kept.findIndex(
      buffer => buffer.byteLength >= size && buffer.byteLength <= 2 * size + GRAIN,
    )
    const found = this.#kept[at]
    if (found === undefined) return new ArrayBuffer(Math.ceil(size / GRAIN) * GRAIN)
    this.#kept.splice(at, 1)
    this.#bytes -= found.byteLength
    return found
  }

  give(buffer: ArrayBuffer): void {
    if (buffer.byteLength === 0 || buffer.byteLength > MAX_KEPT) return
    this.#kept.push(buffer)
    this.#bytes += buffer.byteLength
    while (this.#bytes > MAX_KEPT) this.#bytes -= this.#kept.shift()?.byteLength ?? 0
  }
}
