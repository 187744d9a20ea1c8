import { request } from 'node:http'
import { connect, type Socket } from 'node:net'

export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
}

/** One request on a UNIX socket, body as JSON (or as it is, when it is a text). */
export function call(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Reply> {
  const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const length =
      text === undefined || 'Transfer-Encoding' in headers
        ? {}
        : { 'Content-Length': Buffer.byteLength(text) }
    const outgoing = request(
      { socketPath, method, path, headers: { ...length, ...headers }, agent: false },
      response => {
        let received = ''
        response.setEncoding('utf8')
        response.on('data', (part: string) => (received += part))
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text: received }),
        )
        response.on('error', reject)
      },
    )
    outgoing.on('error', reject)
    outgoing.end(text)
  })
}

/** A raw connection: writes what a client might write, collects what comes back. */
export class RawConnection {
  readonly #socket: Socket
  received = ''
  ended = false
  #wake: () => void = () => {}

  constructor(path: string) {
    this.#socket = connect(path)
    this.#socket.setEncoding('utf8')
    this.#socket.on('data', (part: string) => {
      this.received += part
      this.#wake()
    })
    this.#socket.on('close', () => {
      this.ended = true
      this.#wake()
    })
    this.#socket.on('error', () => {})
  }

  write(text: string): void {
    this.#socket.write(text)
  }

  /** Resolves when what came matches, or the connection has ended. */
  async until(pattern: RegExp): Promise<string> {
    while (!pattern.test(this.received) && !this.ended)
      await new Promise<void>(resolve => (this.#wake = resolve))
    return this.received
  }

  close(): void {
    this.#socket.destroy()
  }
}
