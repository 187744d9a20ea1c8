import { createHash, createPrivateKey, sign, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { Certs } from './certs.js'
import { listen } from './ports.js'

const base64url = (data: string | Buffer) => Buffer.from(data).toString('base64url')

/**
 * A token server for docker-registry (distribution specification, "Token Authentication"): JSON Web Tokens signed
 * with the key of `certs`, which the registry trusts by its rootcertbundle.
 */
export class TokenServer {
  readonly requests: { method: string; authorization: string | undefined; fields: URLSearchParams }[] = []
  /** user:password that it takes; anonymous when undefined. */
  user: string | undefined
  /** Seconds that its tokens live. */
  lifetime = 600
  /** Answers POST. */
  post = true
  readonly #certs: Certs
  readonly #server: Server
  #port = 0

  private constructor(certs: Certs) {
    this.#certs = certs
    this.#server = createServer(
      { cert: readFileSync(certs.cert), key: readFileSync(certs.key) },
      (request, response) => void this.#serve(request, response),
    )
  }

  static async start(certs: Certs): Promise<TokenServer> {
    const server = new TokenServer(certs)
    server.#port = await listen(server.#server)
    return server
  }

  get realm(): string {
    return `https://127.0.0.1:${this.#port}/token`
  }

  /** What the registry needs to know, as YAML. */
  get config(): string {
    return `auth:
  token:
    realm: ${this.realm}
    service: test-registry
    issuer: test-issuer
    rootcertbundle: ${this.#certs.ca}
`
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise(resolve => this.#server.close(resolve))
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body: Buffer[] = []
    for await (const chunk of request) if (Buffer.isBuffer(chunk)) body.push(chunk)
    const url = new URL(request.url ?? '', this.realm)
    const fields =
      request.method === 'POST' ? new URLSearchParams(Buffer.concat(body).toString()) : url.searchParams
    const { authorization } = request.headers
    this.requests.push({ method: request.method ?? '', authorization, fields })
    const expected = this.user === undefined ? undefined : `Basic ${base64(this.user)}`
    if (request.method === 'POST' && !this.post) return void response.writeHead(404).end()
    if (authorization !== expected)
      return void response.writeHead(401).end('{"details":"incorrect username or password"}')
    const token = this.#token(fields.get('service') ?? '', fields.get('scope') ?? '')
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ token, expires_in: this.lifetime }))
  }

  #token(audience: string, scope: string): string {
    const [type, name, actions] = scope.split(':')
    const now = Math.floor(Date.now() / 1000)
    const certificate = new X509Certificate(readFileSync(this.#certs.cert))
    const header = { typ: 'JWT', alg: 'ES256', x5c: [certificate.raw.toString('base64')] }
    const claims = {
      iss: 'test-issuer',
      sub: 'user',
      aud: audience,
      exp: now + this.lifetime,
      nbf: now - 10,
      iat: now,
      jti: createHash('sha256').update(String(this.requests.length)).digest('hex'),
      access: [{ type, name, actions: actions?.split(',') }],
    }
    const text = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(claims))}`
    const key = createPrivateKey(readFileSync(this.#certs.key))
    const signature = sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' })
    return `${text}.${base64url(signature)}`
  }
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}
