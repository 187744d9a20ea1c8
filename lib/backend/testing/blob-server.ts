import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { listen } from './ports.js'

/** Bytes that tell their place: no two ranges of it look alike, so a wrong offset shows. */
export function patternBlob(length: number): Buffer {
  const blob = Buffer.alloc(length)
  let state = 0x9e3779b9
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    blob[i] = state >>> 24
  }
  return blob
}

/** Takes a request instead of the blob service; true = answered. */
export type Hook = (request: IncomingMessage, response: ServerResponse) => boolean

/** PEM files. */
export interface Tls {
  readonly cert: string
  readonly key: string
}

/** An HTTP(S) server of one blob under any path, with ranges done right, and a hook in front. */
export class BlobServer {
  readonly blob: Buffer
  readonly requests: { method: string; url: string; headers: IncomingMessage['headers'] }[] = []
  hook: Hook = () => false
  readonly #server: Server
  readonly #scheme: string
  #port = 0

  private constructor(blob: Buffer, tls: Tls | undefined) {
    this.blob = blob
    this.#scheme = tls === undefined ? 'http' : 'https'
    const serve = (request: IncomingMessage, response: ServerResponse) => this.#serve(request, response)
    this.#server =
      tls === undefined
        ? createServer(serve)
        : createSecureServer({ cert: readFileSync(tls.cert), key: readFileSync(tls.key) }, serve)
  }

  static async start(blob: Buffer, tls?: Tls): Promise<BlobServer> {
    const server = new BlobServer(blob, tls)
    server.#port = await listen(server.#server)
    return server
  }

  get host(): string {
    return `127.0.0.1:${this.#port}`
  }

  get url(): string {
    return `${this.#scheme}://${this.host}`
  }

  /** From now on every answer is this. */
  refuse(status: number, text = ''): void {
    this.hook = (_, response) => {
      response.writeHead(status).end(text)
      return true
    }
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise(resolve => this.#server.close(resolve))
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    this.requests.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers })
    if (this.hook(request, response)) return
    serveBlob(this.blob, request, response)
  }
}

/** RFC 9110 §14 for a single range. */
export function serveBlob(blob: Buffer, request: IncomingMessage, response: ServerResponse): void {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
  const head = request.method === 'HEAD'
  if (range === null) {
    response.writeHead(200, { 'content-length': blob.length, 'accept-ranges': 'bytes' })
    return void response.end(head ? undefined : blob)
  }
  const from = Number(range[1])
  const to = Math.min(range[2] === '' ? Infinity : Number(range[2]), blob.length - 1)
  if (from > to) {
    response.writeHead(416, { 'content-range': `bytes */${blob.length}` })
    return void response.end()
  }
  response.writeHead(206, {
    'content-range': `bytes ${from}-${to}/${blob.length}`,
    'content-length': to - from + 1,
  })
  response.end(head ? undefined : blob.subarray(from, to + 1))
}
