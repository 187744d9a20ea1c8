/**
 * An HTTP proxy that does wrong on demand, in front of one server (reverse) or of all (forward).
 *
 *     client ── FaultProxy ── upstream
 *
 * Every request takes the next fault of the queue, or the standing one, and is written down: a test counts them.
 */
import {
  createServer,
  type IncomingMessage,
  request as httpRequest,
  type Server,
  type ServerResponse,
} from 'node:http'
import { connect, type Socket } from 'node:net'
import { listen } from './ports.js'

export type Fault =
  | 'pass'
  /** Takes the request and never answers. */
  | 'hang'
  /** Sends something that is not HTTP. */
  | 'garbage'
  /** Cuts the connection with a TCP reset after so many bytes of body (-1: before the head). */
  | { readonly resetAfter: number }
  /** Sends so many bytes of body, then nothing, with the connection open. */
  | { readonly stallAfter: number }
  /** Sends the body in pieces of a byte, one per millisecond. */
  | 'trickle'
  /** Ends the body in order, but so many bytes early and without saying so (chunked). */
  | { readonly shortBy: number }
  /** Sends so many bytes too many, chunked. */
  | { readonly longBy: number }
  /** Answers the whole object, as a server that does not know Range. */
  | 'ignore-range'
  /** Replaces headers of the answer; undefined removes one. */
  | { readonly headers: Readonly<Record<string, string | undefined>> }
  /** Flips every bit of the body. */
  | 'corrupt'
  /** Answers by itself. */
  | {
      readonly status: number
      readonly headers?: Readonly<Record<string, string>>
      readonly body?: string
    }

export interface SeenRequest {
  readonly method: string
  /** As sent: a path, or a whole URL when the proxy is used as one. */
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly fault: Fault
}

export class FaultProxy {
  readonly requests: SeenRequest[] = []
  /** Milliseconds before each answer: a server far away. */
  delayMs = 0
  #standing: Fault | ((request: IncomingMessage) => Fault) = 'pass'
  readonly #queue: Fault[] = []
  readonly #upstream: URL | undefined
  readonly #sockets = new Set<Socket>()
  #server: Server | undefined
  #port = 0

  private constructor(upstream: URL | undefined) {
    this.#upstream = upstream
  }

  /** Without `upstream` it is a forward proxy: absolute URLs and CONNECT. With it, all goes there. */
  static async start(upstream?: string): Promise<FaultProxy> {
    const proxy = new FaultProxy(upstream === undefined ? undefined : new URL(upstream))
    await proxy.start()
    return proxy
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  get host(): string {
    return `127.0.0.1:${this.#port}`
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#sockets.size
  }

  /** Faults of the next requests, in order. */
  next(...faults: Fault[]): void {
    this.#queue.push(...faults)
  }

  /** The fault of every request that finds the queue empty. */
  always(fault: Fault | ((request: IncomingMessage) => Fault)): void {
    this.#standing = fault
  }

  /** Listens (again, on the same port). */
  async start(): Promise<void> {
    const server = createServer((request, response) => void this.#serve(request, response))
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
      socket.on('error', () => {})
    })
    server.on('connect', (request: IncomingMessage, socket: Socket) => this.#tunnel(request, socket))
    this.#port = await listen(server, this.#port)
    this.#server = server
  }

  /** As a process that is killed: connections are reset, and new ones refused. */
  async stop(): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    this.#server = undefined
    const closed = new Promise(resolve => server.close(resolve))
    for (const socket of this.#sockets) {
      // libuv refuses to reset a socket that is shut down for writing, and Node then never closes it.
      if (socket.writableEnded) socket.destroy()
      else socket.resetAndDestroy()
    }
    await closed
  }

  #fault(request: IncomingMessage): Fault {
    const standing = this.#standing
    const fault = this.#queue.shift() ?? (typeof standing === 'function' ? standing(request) : standing)
    this.requests.push({
      method: request.method ?? '',
      url: request.url ?? '',
      headers: request.headers,
      fault,
    })
    return fault
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const fault = this.#fault(request)
    const body: Buffer[] = []
    for await (const chunk of request) if (Buffer.isBuffer(chunk)) body.push(chunk)
    if (this.delayMs > 0) await new Promise(resolve => setTimeout(resolve, this.delayMs))
    if (fault === 'hang') return
    if (fault === 'garbage') return void response.socket?.end('SSH-2.0-OpenSSH_9.2\r\n')
    if (typeof fault === 'object' && 'resetAfter' in fault && fault.resetAfter < 0)
      return void response.socket?.resetAndDestroy()
    if (typeof fault === 'object' && 'status' in fault) {
      response.writeHead(fault.status, fault.headers)
      return void response.end(fault.body)
    }
    this.#forward(request, Buffer.concat(body), fault, response)
  }

  #forward(request: IncomingMessage, body: Buffer, fault: Fault, response: ServerResponse): void {
    // Closed while its body was read: nobody would end the way onward.
    if (response.destroyed) return
    const target = new URL(request.url ?? '/', this.#upstream)
    if (this.#upstream !== undefined) target.host = this.#upstream.host
    const headers = { ...request.headers, connection: 'close' }
    if (fault === 'ignore-range') delete headers.range
    const onward = httpRequest(target, { method: request.method ?? 'GET', headers, agent: false }, answer => {
      void spoil(answer, fault, response)
    })
    onward.on('error', () => {
      if (response.headersSent) response.destroy()
      else response.writeHead(502).end()
    })
    response.on('close', () => onward.destroy())
    onward.end(body)
  }

  #tunnel(request: IncomingMessage, socket: Socket): void {
    const fault = this.#fault(request)
    if (typeof fault === 'object' && 'status' in fault)
      return void socket.end(`HTTP/1.1 ${fault.status} No\r\ncontent-length: 0\r\n\r\n`)
    if (fault === 'hang') return
    if (fault !== 'pass') return void socket.resetAndDestroy()
    const [host, port] = (request.url ?? '').split(':')
    const onward = connect(Number(port), host ?? '')
    onward.on('connect', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      onward.pipe(socket).pipe(onward)
    })
    onward.on('error', () => socket.destroy())
    socket.on('close', () => onward.destroy())
  }
}

/** Hands an answer on, with its fault. */
async function spoil(answer: IncomingMessage, fault: Fault, response: ServerResponse): Promise<void> {
  const headers: Record<string, string | string[] | undefined> = { ...answer.headers }
  delete headers['connection']
  const chunked = typeof fault === 'object' && ('shortBy' in fault || 'longBy' in fault)
  if (chunked) delete headers['content-length']
  if (typeof fault === 'object' && 'headers' in fault && !('status' in fault))
    for (const [name, value] of Object.entries(fault.headers)) {
      delete headers[name]
      if (value !== undefined) headers[name] = value
    }
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined) response.setHeader(name, value)
  response.writeHead(answer.statusCode ?? 502)
  if (typeof fault !== 'object' && fault !== 'trickle' && fault !== 'corrupt')
    return void answer.pipe(response)
  const chunks: Buffer[] = []
  for await (const chunk of answer) if (Buffer.isBuffer(chunk)) chunks.push(chunk)
  const whole = Buffer.concat(chunks)
  if (fault === 'corrupt') return void response.end(whole.map(byte => byte ^ 0xff))
  if (fault === 'trickle') return void trickle(whole, response)
  if ('shortBy' in fault) return void response.end(whole.subarray(0, whole.length - fault.shortBy))
  if ('longBy' in fault) return void response.end(Buffer.concat([whole, Buffer.alloc(fault.longBy, 0x58)]))
  if ('stallAfter' in fault) return void response.write(whole.subarray(0, fault.stallAfter))
  if ('resetAfter' in fault)
    return void response.write(whole.subarray(0, fault.resetAfter), () => response.socket?.resetAndDestroy())
  response.end(whole)
}

async function trickle(whole: Buffer, response: ServerResponse): Promise<void> {
  for (const byte of whole) {
    if (response.destroyed) return
    response.write(Buffer.of(byte))
    await new Promise(resolve => setTimeout(resolve, 1))
  }
  response.end()
}
