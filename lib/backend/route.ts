/**
 * The ways to a backend's servers: through a P2P proxy, to a mirror, straight to the origin. They are tried in
 * this order; what a proxy or mirror cannot do, the next way does, within the same read. The origin has the last
 * word, so a broken helper can slow a read down but not fail it.
 */
import type { Dispatcher } from 'undici'
import { NydusError } from '../base/errors.js'
import type { Health } from './health.js'
import type { Pools } from './http-pools.js'

export interface Route {
  readonly kind: 'proxy' | 'mirror' | 'origin'
  /** For logs and messages. */
  readonly name: string
  /** Redirects found on routes of one family hold for all of them: a proxy shows the origin's. */
  readonly family: string
  /** Where a URL of the origin is asked. */
  begin(url: URL): URL
  /** What goes on the wire for a URL met on this way. */
  wire(url: URL): URL
  dispatcher(url: URL): Dispatcher
  /** Where credentials are asked for, and requests that are not about blobs: never a mirror's business. */
  readonly plain: (url: URL) => Dispatcher
  /** Headers for blob requests to the place where the way begins, or for all of them when it is a proxy. */
  readonly headers: Readonly<Record<string, string>>
  /** A mirror that authenticates on its own (auth_through); otherwise the origin's challenge counts. */
  readonly ownAuth: boolean
  /** undefined: always used. */
  readonly health: Health | undefined
}

export function originRoute(pools: Pools): Route {
  const direct = (url: URL) => pools.direct(url)
  return {
    kind: 'origin',
    name: 'origin',
    family: 'origin',
    begin: url => url,
    wire: url => url,
    dispatcher: direct,
    plain: direct,
    headers: {},
    ownAuth: true,
    health: undefined,
  }
}

/** Makes dfdaemon serve the request from its peers even when no rule of its configuration matches the URL. */
const USE_P2P = { 'x-dragonfly-use-p2p': 'true' }

/** `useHttp` turns https URLs into http ones, which a proxy can read and cache. */
export function proxyRoute(
  pools: Pools,
  proxy: { readonly url: string; readonly use_http: boolean },
  health: Health | undefined,
): Route {
  const { href } = parse(proxy.url, 'proxy.url')
  const through = () => pools.through(href)
  return {
    kind: 'proxy',
    name: `proxy ${new URL(href).host}`,
    family: 'origin',
    begin: url => url,
    wire: url => (proxy.use_http ? plainHttp(url) : url),
    dispatcher: through,
    plain: through,
    headers: USE_P2P,
    ownAuth: true,
    health,
  }
}

function plainHttp(url: URL): URL {
  if (url.protocol !== 'https:') return url
  const port = url.port === '' ? '' : `:${url.port}`
  return new URL(`http://${url.hostname}${port}${url.pathname}${url.search}`)
}

interface Mirror {
  readonly host: string
  readonly headers: Readonly<Record<string, string>>
  readonly auth_through: boolean
}

/** What a mirror is told, by names in lower case: `origin` is for a Dragonfly daemon that mirrors several registries. */
export function mirrorHeaders(mirror: Mirror, origin: string): Readonly<Record<string, string>> {
  const given = Object.entries(mirror.headers).map(([name, value]) => [name.toLowerCase(), value] as const)
  return { 'x-dragonfly-registry': origin, ...Object.fromEntries(given) }
}

export function mirrorRoute(pools: Pools, mirror: Mirror, origin: string, health: Health): Route {
  const base = parse(mirror.host, 'mirrors.host')
  const prefix = base.pathname.replace(/\/+$/, '')
  const direct = (url: URL) => pools.direct(url)
  return {
    kind: 'mirror',
    name: `mirror ${base.host}`,
    family: base.href,
    begin: url => new URL(`${base.origin}${prefix}${url.pathname}${url.search}`),
    wire: url => url,
    dispatcher: direct,
    plain: direct,
    headers: mirrorHeaders(mirror, origin),
    ownAuth: mirror.auth_through,
    health,
  }
}

/** A URL of the configuration; `http://` is understood when there is no scheme. Throws BACKEND_CONFIG. */
export function parse(text: string, key: string): URL {
  try {
    const url = new URL(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`)
    if (url.protocol === 'http:' || url.protocol === 'https:') return url
  } catch {
    // Said below.
  }
  throw new NydusError(
    'BACKEND_CONFIG',
    'EINVAL',
    `${key}: ${JSON.stringify(text)} is not a URL; expected http://HOST:PORT or https://HOST:PORT`,
  )
}
