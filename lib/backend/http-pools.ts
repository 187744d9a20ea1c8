import { setFlagsFromString } from 'node:v8'
import { Agent, buildConnector, type Dispatcher, Pool, ProxyAgent } from 'undici'
import type { Trust } from './http-trust.js'
import { MAX_IN_FLIGHT } from './limiter.js'

// undici's parser is WebAssembly, which V8 would compile once more, optimized, as soon as a few answers were read: 80 ms of CPU
// time when a container starts and everything waits for it. It only reads heads of answers: 50 times as many are not too few.
setFlagsFromString('--wasm-tiering-budget=100000000')

/** An idle connection is kept this long: reads of a guest come in bursts with pauses of seconds between. */
const KEEP_ALIVE_MS = 30_000

/** Redirects lead to hosts that a server names; this many are enough for any blob store. */
const MAX_ORIGINS = 64

/** Origin that stands for a UNIX socket in URLs: nothing is ever resolved for it. */
export const UNIX_ORIGIN = 'http://localhost'

export interface PoolOptions {
  readonly trust: Trust
  readonly connectTimeoutMs: number
  /** Requests to UNIX_ORIGIN go to this socket. */
  readonly socketPath?: string
}

/**
 * The connections of one backend. Environment proxies are never used: the daemon of a node is told explicitly
 * what to go through. undici would open
 * a connection more where it holds one back for a turn of the event loop, so the limiter's number is its bound, too.
 */
export class Pools {
  readonly #options: PoolOptions
  #direct: Agent | undefined
  #unix: Pool | undefined
  readonly #proxied = new Map<string, ProxyAgent>()

  constructor(options: PoolOptions) {
    this.#options = options
  }

  /** Straight to the server. */
  direct(url: URL): Dispatcher {
    const { socketPath } = this.#options
    if (socketPath !== undefined && url.origin === UNIX_ORIGIN) {
      this.#unix ??= new Pool(UNIX_ORIGIN, { ...this.#common(), connect: this.#connector(socketPath) })
      return this.#unix
    }
    this.#direct ??= new Agent({ ...this.#common(), connect: this.#connector(), maxOrigins: MAX_ORIGINS })
    return this.#direct
  }

  /** Through an HTTP proxy: absolute URLs for http, a tunnel for https. */
  through(proxy: string): Dispatcher {
    let agent = this.#proxied.get(proxy)
    if (agent === undefined) {
      agent = new ProxyAgent({
        uri: proxy,
        proxyTunnel: false,
        requestTls: this.#tls(),
        proxyTls: this.#tls(),
        keepAliveTimeout: KEEP_ALIVE_MS,
        // The answer to CONNECT is part of connecting.
        clientFactory: (origin, options: Pool.Options) =>
          new Pool(origin, { ...options, headersTimeout: this.#options.connectTimeoutMs }),
        factory: (origin, options: Pool.Options) => new Pool(origin, { ...options, ...this.#common() }),
      })
      this.#proxied.set(proxy, agent)
    }
    return agent
  }

  /** Cuts what is in flight: whoever closes a backend has no readers any more. */
  async close(): Promise<void> {
    const all = [this.#direct, this.#unix, ...this.#proxied.values()]
    await Promise.all(all.filter(one => one !== undefined).map(one => one.destroy()))
  }

  #common(): { keepAliveTimeout: number; connections: number } {
    return { keepAliveTimeout: KEEP_ALIVE_MS, connections: MAX_IN_FLIGHT }
  }

  #tls(): buildConnector.BuildOptions {
    const { trust, connectTimeoutMs } = this.#options
    return {
      timeout: connectTimeoutMs,
      rejectUnauthorized: !trust.skipVerify,
      secureContext: trust.context,
    }
  }

  /** Makes the TLS context when the first TLS connection is made, if there ever is one. */
  #connector(socketPath?: string): buildConnector.connector {
    const plain = buildConnector({
      timeout: this.#options.connectTimeoutMs,
      ...(socketPath !== undefined && { socketPath }),
    })
    let secure: buildConnector.connector | undefined
    return (options, callback) => {
      if (options.protocol !== 'https:') return plain(options, callback)
      secure ??= buildConnector(this.#tls())
      secure(options, callback)
    }
  }
}
