import type { BackendConfig } from './backend.js'
import { UNIX_ORIGIN } from './http-pools.js'
import { HttpBackend, type Seams, systemSeams } from './http.js'
import type { BackendContext } from './open.js'
import { parse } from './route.js'

/** Blobs as plain files of an HTTP server, which may listen on a UNIX socket: `<addr><path>/<blob id>`. */
export function openHttpProxy(
  config: Extract<BackendConfig, { type: 'http-proxy' }>,
  context: BackendContext,
  seams: Seams = systemSeams,
): HttpBackend {
  const options = config['http-proxy']
  const socketPath = options.addr.startsWith('/') ? options.addr : undefined
  const base = parse(socketPath === undefined ? options.addr : UNIX_ORIGIN, 'http-proxy.addr')
  const path = `${base.pathname}/${options.path}`.replaceAll(/\/+/g, '/').replace(/\/$/, '')
  return new HttpBackend({
    type: 'http-proxy',
    source: { url: blobId => new URL(`${base.origin}${path}/${blobId}`) },
    http: options,
    log: context.log,
    seams,
    ...(socketPath !== undefined && { socketPath }),
  })
}
