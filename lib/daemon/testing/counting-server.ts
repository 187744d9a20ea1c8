/** A server of one blob that writes down every range, when it came and how many others were under way. */
import type { ServerResponse } from 'node:http'
import { BlobServer, serveBlob } from '../../backend/testing/blob-server.js'

export interface SeenRange {
  readonly from: number
  /** Of the last byte. */
  readonly to: number
  /** performance.now() */
  readonly at: number
  /** The client went away before its answer. */
  dropped: boolean
}

export class CountingServer {
  readonly ranges: SeenRange[] = []
  /** Milliseconds that an answer takes. */
  delayMs = 0
  /** Most requests under way at once. */
  most = 0
  #active = 0
  #held: (() => void)[] | undefined
  readonly #server: BlobServer
  readonly #waiting = new Set<() => void>()

  private constructor(server: BlobServer) {
    this.#server = server
    server.hook = (request, response) => {
      const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? []
      const seen: SeenRange = { from: Number(from), to: Number(to), at: performance.now(), dropped: false }
      this.ranges.push(seen)
      this.#watch(response, seen)
      const serve = (): void => serveBlob(server.blob, request, response)
      if (this.#held !== undefined) this.#held.push(serve)
      else setTimeout(serve, this.delayMs)
      return true
    }
  }

  static async start(blob: Buffer): Promise<CountingServer> {
    return new CountingServer(await BlobServer.start(blob))
  }

  get url(): string {
    return this.#server.url
  }

  get active(): number {
    return this.#active
  }

  /** No request is answered until `release`. */
  hold(): void {
    this.#held ??= []
  }

  release(): void {
    for (const serve of this.#held ?? []) serve()
    this.#held = undefined
  }

  /** Resolves when `is` holds, looked at after each request that comes or ends. */
  async until(is: () => boolean): Promise<void> {
    while (!is()) await new Promise<void>(resolve => this.#waiting.add(resolve))
  }

  async stop(): Promise<void> {
    await this.#server.stop()
  }

  #watch(response: ServerResponse, seen: SeenRange): void {
    this.#active++
    this.most = Math.max(this.most, this.#active)
    this.#changed()
    response.once('close', () => {
      this.#active--
      seen.dropped = !response.writableFinished
      this.#changed()
    })
  }

  #changed(): void {
    for (const wake of this.#waiting) wake()
    this.#waiting.clear()
  }
}
