import type { IncomingMessage, ServerResponse } from 'node:http'
import { BlobServer } from './blob-server.js'

/**
 * A registry and its token server in one process, whose every decision a test can turn. Real registries are in
 * registry-servers.test.ts; this one is for what they do only when it hurts.
 */
export class FakeRegistry {
  readonly server: BlobServer
  /** What a blob request must carry. */
  auth: 'none' | 'basic' | 'bearer' = 'none'
  user = 'user:password'
  /** Tokens that are good at the moment. */
  readonly good = new Set<string>()
  expiresIn: number | undefined = 600
  /** Tokens are good for `expiresIn` seconds only; otherwise until `revoke`. */
  forgets = false
  /** What the token server understands. */
  methods: readonly string[] = ['GET', 'POST']
  /** Status of the token server instead of a token. */
  tokenStatus = 200
  /** Sends blobs here. */
  redirect: ((path: string) => string) | undefined
  /** The challenge of a 401; undefined: what `auth` says. */
  challenge: string | undefined
  /** Requests of the token server: method, url, authorization, body. */
  readonly tokenRequests: { method: string; url: string; authorization: string | undefined; body: string }[] =
    []
  #serial = 0

  private constructor(server: BlobServer) {
    this.server = server
    server.hook = (request, response) => this.#handle(request, response)
  }

  static async start(blob: Buffer): Promise<FakeRegistry> {
    return new FakeRegistry(await BlobServer.start(blob))
  }

  get host(): string {
    return this.server.host
  }

  /** Sends blobs on to a server of its own, which is stopped when the test is over, at `urlOf` their path there. */
  async toStore(
    t: { teardown(end: () => unknown): void },
    urlOf: (path: string) => string = path => path,
  ): Promise<BlobServer> {
    const store = await BlobServer.start(this.server.blob)
    t.teardown(() => store.stop())
    this.redirect = path => store.url + urlOf(path)
    return store
  }

  /** Requests for blobs: status is not recorded, authorization is. */
  get blobRequests(): { url: string; authorization: string | undefined }[] {
    return this.server.requests
      .filter(request => request.url.startsWith('/v2/') && request.url !== '/v2/')
      .map(({ url, headers }) => ({ url, authorization: headers.authorization }))
  }

  /** Every token so far is worth nothing any more. */
  revoke(): void {
    this.good.clear()
  }

  #handle(request: IncomingMessage, response: ServerResponse): boolean {
    const url = request.url ?? ''
    if (url.startsWith('/token')) {
      void this.#token(request, response)
      return true
    }
    if (!url.startsWith('/v2/')) return false
    if (!this.#allowed(request.headers.authorization)) {
      const challenge =
        this.challenge ??
        (this.auth === 'basic'
          ? 'Basic realm="fake"'
          : `Bearer realm="${this.server.url}/token",service="fake, the \\"registry\\"",scope="repository:nydus/test:pull"`)
      response.writeHead(401, challenge === '' ? {} : { 'www-authenticate': challenge })
      response.end('{"errors":[{"code":"UNAUTHORIZED"}]}')
      return true
    }
    if (this.redirect === undefined) return false
    response.writeHead(307, { location: this.redirect(url) })
    response.end()
    return true
  }

  #allowed(authorization: string | undefined): boolean {
    if (this.auth === 'none') return true
    if (this.auth === 'basic') return authorization === `Basic ${Buffer.from(this.user).toString('base64')}`
    return authorization !== undefined && this.good.has(authorization.replace('Bearer ', ''))
  }

  async #token(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body: Buffer[] = []
    for await (const chunk of request) if (Buffer.isBuffer(chunk)) body.push(chunk)
    this.tokenRequests.push({
      method: request.method ?? '',
      url: request.url ?? '',
      authorization: request.headers.authorization,
      body: Buffer.concat(body).toString(),
    })
    const status = this.methods.includes(request.method ?? '') ? this.tokenStatus : 405
    response.writeHead(status, { 'content-type': 'application/json' })
    if (status !== 200) return void response.end('{"details":"no"}')
    const token = `t${++this.#serial}`
    this.good.add(token)
    if (this.forgets) setTimeout(() => this.good.delete(token), (this.expiresIn ?? 60) * 1000).unref()
    const key = this.#serial % 2 === 0 ? 'access_token' : 'token'
    response.end(JSON.stringify({ [key]: token, expires_in: this.expiresIn }))
  }
}
