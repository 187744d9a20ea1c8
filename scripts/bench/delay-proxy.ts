/**
 * A registry that is far away: a reverse proxy, in a process of its own, that waits before it hands a request on, and
 * counts. `node delay-proxy.js UPSTREAM_PORT DELAY_MS`, talked to over IPC.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { Agent, createServer, request } from 'node:http'
import { fileURLToPath } from 'node:url'

export interface Traffic {
  /** Requests, and bytes of answers' bodies. */
  readonly requests: number
  readonly bytes: number
}

interface Ready {
  readonly port: number
}

export class DelayProxy {
  readonly port: number
  readonly #child: ChildProcess

  private constructor(child: ChildProcess, port: number) {
    this.#child = child
    this.port = port
  }

  static async start(upstream: number, delayMs: number): Promise<DelayProxy> {
    const child = fork(fileURLToPath(import.meta.url), [String(upstream), String(delayMs)])
    const { port } = (await nextMessage(child)) as Ready
    return new DelayProxy(child, port)
  }

  /** What has passed since the last time that this was asked. */
  async traffic(): Promise<Traffic> {
    const answer = nextMessage(this.#child)
    this.#child.send('traffic')
    return (await answer) as Traffic
  }

  stop(): void {
    this.#child.kill('SIGKILL')
  }
}

function nextMessage(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    child.once('message', resolve)
    child.once('exit', code => reject(new Error(`the delay proxy ended with code ${code}`)))
  })
}

function serve(upstream: number, delayMs: number): void {
  const agent = new Agent({ keepAlive: true })
  let count = { requests: 0, bytes: 0 }
  const server = createServer((incoming, response) => {
    count.requests++
    setTimeout(() => {
      const { method = 'GET', url = '/', headers } = incoming
      const onward = request(
        { port: upstream, host: '127.0.0.1', method, path: url, headers, agent },
        answer => {
          response.writeHead(answer.statusCode ?? 502, answer.headers)
          answer.on('data', (chunk: Buffer) => (count.bytes += chunk.length))
          answer.pipe(response)
        },
      )
      onward.on('error', () => response.destroy())
      response.on('close', () => onward.destroy())
      incoming.pipe(onward)
    }, delayMs)
  })
  server.keepAliveTimeout = 60_000
  server.listen(0, '127.0.0.1', () => {
    const address = server.address()
    process.send?.({ port: typeof address === 'object' ? (address?.port ?? 0) : 0 } satisfies Ready)
  })
  process.on('message', () => {
    process.send?.(count satisfies Traffic)
    count = { requests: 0, bytes: 0 }
  })
  process.on('disconnect', () => process.exit(0))
}

const [, program, upstream, delay] = process.argv
if (program === fileURLToPath(import.meta.url)) serve(Number(upstream), Number(delay))
