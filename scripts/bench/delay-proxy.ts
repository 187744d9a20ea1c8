/**
 * A registry that is far away: a relay of bytes, in a process of its own, that holds what a client sends for a while, and
 * counts. It does not parse answers: what it costs would count as the servers' time. `node delay-proxy.js UPSTREAM_PORT
 * DELAY_MS`, talked to over IPC.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { connect, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'

export interface Traffic {
  /** Requests, and bytes of answers with their headers (some hundred bytes each). */
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
    const ended = (code: number | null): void => reject(new Error(`the delay proxy ended with code ${code}`))
    child.once('exit', ended)
    child.once('message', message => {
      child.off('exit', ended)
      resolve(message)
    })
  })
}

/** Clients send a request (no body, no pipelining) in one piece; its first bytes are a method. */
const METHOD = /^(?:GET|HEAD) /

function serve(upstream: number, delayMs: number): void {
  let count = { requests: 0, bytes: 0 }
  const server = createServer({ noDelay: true }, client => {
    const registry = connect({ port: upstream, host: '127.0.0.1', noDelay: true })
    client.on('data', bytes => {
      if (METHOD.test(bytes.subarray(0, 5).toString('latin1'))) count.requests++
      setTimeout(() => registry.write(bytes), delayMs)
    })
    registry.on('data', bytes => {
      count.bytes += bytes.length
      if (client.write(bytes)) return
      registry.pause()
      client.once('drain', () => registry.resume())
    })
    for (const [one, other] of [
      [client, registry],
      [registry, client],
    ] as const) {
      one.on('error', () => other.destroy())
      one.on('close', () => other.destroy())
    }
  })
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
