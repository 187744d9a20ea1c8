import type { Clock } from '../base/clock.js'
import type { Log } from '../base/log.js'
import type { HttpOptions, MirrorOptions, ProxyOptions } from './backend.js'
import { Health } from './health.js'
import { exchange } from './http-exchange.js'
import type { Pools } from './http-pools.js'
import { mirrorHeaders, mirrorRoute, originRoute, parse, proxyRoute, type Route } from './route.js'

/** Failures in a row after which a proxy is left alone; mirrors have a setting for it. */
const PROXY_FAILURES = 3
const PING_TIMEOUT_MS = 5000
/** Mirrors have no setting for it; the proxy's default serves. */
const MIRROR_PAUSE_MS = 300_000

export interface RoutesOptions {
  readonly pools: Pools
  readonly http: HttpOptions
  /** Origin of the store: `https://host`. */
  readonly origin: string
  /** Health endpoint of a mirror that names none, appended to its host; absent: no pings for it. */
  readonly mirrorPing?: string | undefined
  readonly log: Log
  readonly clock: Clock
}

/** The routes of one backend, and which of them a request tries. */
export class Routes {
  readonly #options: RoutesOptions
  readonly #origin: Route
  readonly #mirrors: readonly Route[]
  #proxy: Route | undefined
  readonly #closing = new AbortController()

  /** Throws BACKEND_CONFIG. */
  constructor(options: RoutesOptions) {
    this.#options = options
    const { pools, http, origin } = options
    this.#origin = originRoute(pools)
    this.#mirrors = http.mirrors.map(mirror => mirrorRoute(pools, mirror, origin, this.#mirrorHealth(mirror)))
    this.#proxy = this.#makeProxy(http.proxy)
  }

  /** How many routes may have to fail before the origin is asked. */
  get detours(): number {
    return this.#mirrors.length + (this.#proxy === undefined ? 0 : 1)
  }

  /**
   * The routes of one attempt, in order; never empty. `fresh`: the last bytes were wrong, and whoever keeps
   * copies is under suspicion.
   */
  candidates(fresh: boolean): Route[] {
    if (this.#proxy !== undefined && !this.#options.http.proxy.fallback) return [this.#proxy]
    if (fresh) return [this.#origin]
    const helpers = this.#proxy === undefined ? this.#mirrors : [this.#proxy, ...this.#mirrors]
    return [...helpers.filter(route => route.health?.use() !== false), this.#origin]
  }

  /** Another proxy, or none (`''`). Throws BACKEND_CONFIG and changes nothing when it is not a URL. */
  setProxy(url: string): void {
    const made = this.#makeProxy({ ...this.#options.http.proxy, url })
    this.#proxy?.health?.close()
    this.#proxy = made
  }

  close(): void {
    this.#closing.abort(new Error('closed'))
    for (const route of [this.#proxy, ...this.#mirrors]) route?.health?.close()
  }

  #makeProxy(proxy: ProxyOptions): Route | undefined {
    if (proxy.url === '') return undefined
    const name = `proxy ${proxy.url}`
    // Without a fallback there is nothing to choose, so nobody needs to know.
    const health = proxy.fallback
      ? new Health(this.#options.clock, {
          failureLimit: PROXY_FAILURES,
          intervalMs: proxy.check_interval * 1000,
          pauseMs: proxy.check_pause_elapsed * 1000,
          ...this.#ping(proxy.ping_url, 'proxy.ping_url'),
          onChange: this.#report(name),
        })
      : undefined
    return proxyRoute(this.#options.pools, proxy, health)
  }

  #mirrorHealth(mirror: MirrorOptions): Health {
    const { mirrorPing, origin } = this.#options
    const fallback = mirrorPing === undefined ? '' : mirror.host.replace(/\/+$/, '') + mirrorPing
    return new Health(this.#options.clock, {
      failureLimit: mirror.failure_limit,
      intervalMs: mirror.health_check_interval * 1000,
      pauseMs: MIRROR_PAUSE_MS,
      ...this.#ping(mirror.ping_url === '' ? fallback : mirror.ping_url, 'mirrors.ping_url', {
        origin: parse(mirror.host, 'mirrors.host').origin,
        headers: mirrorHeaders(mirror, origin),
      }),
      onChange: this.#report(`mirror ${mirror.host}`),
    })
  }

  /**
   * Any answer that is not a server error will do: `/v2/` of a registry answers 401. A ping of the mirror itself
   * carries its headers, or a Dragonfly daemon would ask the registry that is its default for `/v2/`.
   */
  #ping(
    text: string,
    key: string,
    mirror?: { readonly origin: string; readonly headers: Readonly<Record<string, string>> },
  ): { ping?: () => Promise<boolean> } {
    if (text === '') return {}
    const url = parse(text, key)
    const headers = mirror?.origin === url.origin ? mirror.headers : {}
    const { pools, clock } = this.#options
    return {
      ping: async () => {
        const answer = await exchange(
          pools.direct(url),
          { method: 'GET', url, headers },
          { clock, signal: this.#closing.signal, timeoutMs: PING_TIMEOUT_MS },
        )
        return answer.status < 500
      },
    }
  }

  #report(route: string): (healthy: boolean, why: string) => void {
    const { log } = this.#options
    return (healthy, why) => {
      if (healthy) log.info({ route, why }, 'backend route is used again')
      else log.warn({ route, why }, 'backend route is not used until it is healthy')
    }
  }
}
