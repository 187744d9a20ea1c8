import type { BackendConfig, RegistryOptions } from './backend.js'
import type { Answer, HttpRequest } from './http-exchange.js'
import type { HttpFailure } from './http-failure.js'
import type { ObjectSource, Way } from './http-visit.js'
import { HttpBackend, type Seams, systemSeams } from './http.js'
import type { BackendContext } from './open.js'
import { RegistryAuth } from './registry-auth.js'
import { parse } from './route.js'

/** Blobs of an OCI registry (distribution specification, "Pulling blobs"). */
export function openRegistry(
  config: Extract<BackendConfig, { type: 'registry' }>,
  context: BackendContext,
  seams: Seams = systemSeams,
): HttpBackend {
  const options = config.registry
  const { auth, registry_token: registryToken } = options
  const registryAuth = new RegistryAuth(seams.clock, seams.random, { auth, registryToken })
  return new HttpBackend({
    type: 'registry',
    source: new RegistrySource(options, registryAuth),
    http: options,
    log: context.log,
    seams,
    mirrorPing: '/v2/',
    reconfigure: settings => {
      const fresh = settings['registry_auth']
      if (fresh !== undefined) registryAuth.setCredentials({ auth: fresh, registryToken: null })
    },
  })
}

class RegistrySource implements ObjectSource {
  readonly #options: RegistryOptions
  readonly #auth: RegistryAuth
  readonly #scope: string
  /** Nobody speaks TLS there, and the configuration does not insist (skip_verify): rule 6 of nydusd.md 2.5. */
  #plain: boolean
  #https = false

  /** Throws BACKEND_CONFIG. */
  constructor(options: RegistryOptions, auth: RegistryAuth) {
    this.#options = options
    this.#auth = auth
    this.#scope = `repository:${options.repo}:pull`
    this.#plain = options.scheme === 'http'
    parse(`http://${options.host}`, 'registry.host')
  }

  url(blobId: string): URL {
    const { host, repo } = this.#options
    return new URL(`${this.#plain ? 'http' : 'https'}://${host}/v2/${repo}/blobs/sha256:${blobId}`)
  }

  async sign(_: HttpRequest, way: Way): Promise<Readonly<Record<string, string>>> {
    const sent = await this.#auth.authorization(place(way), this.#scope, way)
    return sent === undefined ? {} : { authorization: sent }
  }

  async refused(request: HttpRequest, answer: Answer, way: Way): Promise<boolean> {
    if (answer.status !== 401) return false
    const sent = request.headers['authorization']
    // A mirror could name a token server of its own liking; only one that may authenticate gets credentials.
    const { headers } = way.ownAuth ? answer : await this.#askOrigin(way)
    return this.#auth.challenged(place(way), this.#scope, headers['www-authenticate'], sent, way)
  }

  accepted(request: HttpRequest): void {
    this.#auth.accepted(request.headers['authorization'])
  }

  /** `blob_url_scheme` and `blob_redirected_host` correct what the registry says of its blob store. */
  redirected(url: URL): URL {
    const { blob_url_scheme: scheme, blob_redirected_host: host } = this.#options
    if (scheme === '' && host === '') return url
    const protocol = scheme === '' ? url.protocol : `${scheme}:`
    return new URL(`${protocol}//${host === '' ? url.host : host}${url.pathname}${url.search}`)
  }

  instead(url: URL, failure: HttpFailure): URL | undefined {
    const { skip_verify: lenient } = this.#options
    // Once TLS has worked, its failure is an outage or an attack, not a registry without TLS.
    if (!lenient || this.#https || url.protocol !== 'https:') return undefined
    if (failure.code !== 'BACKEND_TLS' && failure.code !== 'BACKEND_REFUSED') return undefined
    const plain = new URL(url)
    plain.protocol = 'http:'
    return plain
  }

  answered(url: URL, status: number): void {
    if (url.protocol === 'https:') this.#https = true
    // A TLS port answers plain HTTP with 400, for instance while the registry restarts.
    else if (status !== 400 && !this.#https) this.#plain = true
  }

  #askOrigin(way: Way): Promise<Answer> {
    return way.send({ method: 'GET', url: new URL('/v2/', way.origin), headers: {} })
  }
}

/** Tokens belong to whoever wants them: the mirror, if it authenticates on its own, or the registry. */
function place(way: Way): string {
  return way.ownAuth ? way.begin.origin : way.origin.origin
}
