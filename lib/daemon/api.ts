/**
 * The HTTP API on a UNIX socket: node:http and a table of routes.
 *
 *     client ── node:http ── table (api/routes-*.ts) ── Control (control.ts) ── daemon
 *
 * Idle connections are never closed: the snapshotter keeps one open and takes its end for the daemon's death
 * (nydusd.md 6.5). No path has parameters, so a Map is the router. It knows nothing of how a mount is made.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { explain, NydusError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { native } from '../native.js'
import { ApiFailure, badRequest, failureOf, missingQuery, NO_ROUTE } from './api/failure.js'
import { decodeBody, readBody } from './api/read-body.js'
import type { Answer, Route } from './api/route.js'
import { routesMetrics } from './api/routes-metrics.js'
import { routesV1 } from './api/routes-v1.js'
import { routesV2 } from './api/routes-v2.js'
import type { Control } from './control.js'
import { reason } from './reason.js'
import { removeSocket } from './sockets.js'

export const ROUTES: readonly Route[] = [...routesV1, ...routesV2, ...routesMetrics]

/** A leak in some client must not take the descriptors that blobs need. */
const MAX_CONNECTIONS = 1024

const byPath = new Map<string, Route[]>()
for (const row of ROUTES) byPath.set(row.path, [...(byPath.get(row.path) ?? []), row])

export interface ApiServer {
  /** Stops listening, removes the socket and ends all connections. */
  close(): Promise<void>
}

/** Listens on `path`, which is free (clearSocketPath). Throws NydusError START_SOCKET_LISTEN. */
export async function startApi(path: string, control: Control, log: Log): Promise<ApiServer> {
  const server = createServer({ keepAliveTimeout: 0, headersTimeout: 0, requestTimeout: 0 })
  server.timeout = 0
  server.maxConnections = MAX_CONNECTIONS
  server.on('request', (request, response) => void answer(control, log, request, response))
  server.on('clientError', (error, socket) => {
    log.debug({ error: explain(error) }, 'API: a client sent something that is not HTTP')
    if (!socket.writable) return
    const body = JSON.stringify({ code: 'UNDEFINED', message: 'BadRequest: Invalid request.' })
    socket.end(
      `HTTP/1.1 400 Bad Request\r\nServer: Nydus API\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
  })
  await listen(server, path)
  return {
    async close() {
      await removeSocket(path)
      await new Promise<void>(closed => {
        server.close(() => closed())
        server.closeAllConnections()
      })
    },
  }
}

/**
 * Not by Node, which makes the file some time before it listens, for everybody: clients that saw it were refused, and
 * whoever may write to it may mount and sees the effects of secrets.
 */
async function listen(server: Server, path: string): Promise<void> {
  try {
    const fd = native.listenUnix(path)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ fd }, resolve)
    })
  } catch (error) {
    throw new NydusError(
      'START_SOCKET_LISTEN',
      'EIO',
      `--apisock ${path}: cannot listen there: ${reason(error)}`,
    )
  }
}

async function answer(
  control: Control,
  log: Log,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    const result = await dispatch(control, request)
    if (result.afterwards) response.once('finish', result.afterwards)
    send(response, result.body === undefined ? 204 : 200, result.body)
  } catch (error) {
    const failure = error instanceof ApiFailure ? error : failureOf(error, 'Internal')
    log.warn(
      { method: request.method, url: request.url, status: failure.status, error: failure.message },
      'API: a request failed',
    )
    // What is left of a body that was refused is not read: the connection cannot be used again.
    if (!request.complete) response.setHeader('Connection', 'close')
    send(response, failure.status, { code: 'UNDEFINED', message: failure.message })
  }
}

function send(response: ServerResponse, status: number, body: object | undefined): void {
  response.sendDate = false
  response.setHeader('Server', 'Nydus API')
  if (!response.hasHeader('Connection')) response.setHeader('Connection', 'keep-alive')
  response.statusCode = status
  if (body === undefined) {
    response.end()
    return
  }
  const text = JSON.stringify(body)
  response.setHeader('Content-Type', 'application/json')
  response.setHeader('Content-Length', Buffer.byteLength(text))
  response.end(text)
}

async function dispatch(control: Control, request: IncomingMessage): Promise<Answer> {
  const [path = '', search = ''] = (request.url ?? '').split('?', 2)
  const body = await readBody(request)
  const rows = byPath.get(path)
  if (!rows) throw NO_ROUTE
  const query = new URLSearchParams(search)
  const row = rows.find(at => at.method === request.method && (at.when?.(query) ?? true))
  if (!row) throw badRequest(`${request.method} is not possible here`)
  if (row.method === 'GET' && body.length > 0) throw badRequest('GET takes no body')
  const values: Record<string, string> = {}
  for (const [name, { required }] of Object.entries(row.query ?? {})) {
    const value = query.get(name)
    if (value !== null) values[name] = value
    else if (required) throw missingQuery(name)
  }
  const decoded = row.body && (await decodeBody(await row.body(), body))
  try {
    return await row.handle({ control, query: values, body: decoded })
  } catch (error) {
    throw failureOf(error, row.operation)
  }
}
