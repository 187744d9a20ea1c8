import type { BackendMetrics, BlobReader, ReadOptions } from './backend.js'
import { BlobPlace } from './blob-place.js'
import type { Answer } from './http-exchange.js'
import { HttpFailure } from './http-failure.js'
import { contentLength, RangeTarget } from './http-range.js'
import { countRead } from './metrics.js'
import type { Route } from './route.js'

/** Something to ask about a blob, retries included. */
export interface Task {
  readonly method: 'GET' | 'HEAD'
  readonly what: string
  readonly blob: HttpBlob
  readonly target?: RangeTarget
  readonly options: ReadOptions | undefined
}

/** One blob of an HTTP backend: its size, and on which route it is found where. */
export class HttpBlob implements BlobReader {
  readonly blobId: string
  readonly #metrics: BackendMetrics
  readonly #run: (task: Task) => Promise<Answer>
  readonly #places = new Map<string, BlobPlace>()
  readonly #avoided = new Map<string, number>()
  #size: number | undefined

  constructor(blobId: string, metrics: BackendMetrics, run: (task: Task) => Promise<Answer>) {
    this.blobId = blobId
    this.#metrics = metrics
    this.#run = run
  }

  async size(options?: ReadOptions): Promise<number> {
    if (options?.fresh === true) this.#refresh()
    this.#size ??= await this.#askSize(options)
    return this.#size
  }

  async read(into: Uint8Array, offset: number, options?: ReadOptions): Promise<void> {
    if (into.byteLength === 0) return
    if (options?.fresh === true) this.#refresh()
    await countRead(this.#metrics, into.byteLength, options?.signal, () => this.#fill(into, offset, options))
  }

  async close(): Promise<void> {
    this.#refresh()
  }

  /** Where `route` found this blob. */
  place(route: Route): BlobPlace {
    let place = this.#places.get(route.family)
    if (place === undefined) {
      place = new BlobPlace()
      this.#places.set(route.family, place)
    }
    return place
  }

  /** Whether `route` said lately that it does not have this blob. */
  avoids(route: Route, now: number): boolean {
    return (this.#avoided.get(route.name) ?? 0) > now
  }

  avoid(route: Route, until: number): void {
    this.#avoided.set(route.name, until)
  }

  #refresh(): void {
    this.#avoided.clear()
    this.#size = undefined
    for (const place of this.#places.values()) place.reset()
  }

  async #fill(into: Uint8Array, offset: number, options: ReadOptions | undefined): Promise<void> {
    const what = `blob ${this.blobId}, ${into.byteLength} bytes at ${offset}`
    const target = new RangeTarget(into, offset, options?.onProgress)
    await this.#run({ method: 'GET', what, blob: this, target, options })
    this.#size ??= target.total
  }

  async #askSize(options: ReadOptions | undefined): Promise<number> {
    const what = `size of blob ${this.blobId}`
    try {
      const answer = await this.#run({ method: 'HEAD', what, blob: this, options })
      const size = contentLength(answer.headers)
      if (size !== undefined) return size
    } catch (error) {
      // Some stores sign the URLs that they redirect to for GET alone, and some proxies know no HEAD.
      const known = error instanceof HttpFailure ? error.code : undefined
      if (known !== 'BACKEND_DENIED' && known !== 'BACKEND_REJECTED') throw error
    }
    const target = new RangeTarget(new Uint8Array(1), 0)
    await this.#run({ method: 'GET', what, blob: this, target, options })
    if (target.total !== undefined) return target.total
    throw new HttpFailure('BACKEND_BAD_ANSWER', `${what}: the server does not tell`)
  }
}
