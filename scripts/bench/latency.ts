/**
 * Waits that people notice: from the start of the process to the first byte read, and a warm read while cold ones wait
 * for a slow backend.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, statSync } from 'node:fs'
import { createServer, type Server as HttpServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { FuseClient } from '../../addon/test/fuse-client.js'
import type { BenchResult } from '../../addon/test/native-frontend.js'
import { connectGuest, isTimeout } from './guest.js'
import { benchImage, LARGE_FILE } from './image.js'
import { median } from './report.js'
import { Server, SERVERS } from './servers.js'

const MIB = 1 << 20
/** The part of the file that is warm, and where cold reads begin. */
const WARM = 16 * MIB
const COLD_READS = 64
/** A cold read waits for longer than a measurement takes. */
const SLOW_MS = 4000
const MEASURE_S = 1
const SETTLE_MS = 300
/** nydusd loses the first request of a front-end that connects the moment it listens, about once in 50 starts. */
const LOST_MS = 5000

/** Milliseconds from spawn; medians. */
interface Start {
  readonly listens: number
  readonly firstRead: number
  /** Starts whose first request was never answered; they are left out of the medians. */
  readonly lost: number
}

export interface LatencyReport {
  /** By server, with an empty cache. */
  readonly start: Readonly<Record<string, Start>>
  readonly warm?: Warm
}
/** Nanoseconds of warm 4 KiB reads, ours, without cold reads and while they wait; medians. */
interface Warm {
  readonly alone: Percentiles
  readonly beside: Percentiles
}
interface Percentiles {
  readonly p50: number
  readonly p99: number
}

/** A backend that answers ranges of the files of a folder after `delayMs`, which may change. */
class SlowBackend {
  delayMs = 0
  /** Requests so far; whoever wants to count from some moment on sets it to 0. */
  asked = 0
  readonly #server: HttpServer

  constructor(folder: string) {
    this.#server = createServer((request, response) => {
      this.asked++
      const path = join(folder, request.url ?? '')
      const { size } = statSync(path)
      const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')
      const first = Number(range?.[1] ?? 0)
      const last = Math.min(Number(range?.[2] ?? size - 1), size - 1)
      setTimeout(() => {
        if (request.method === 'HEAD') return void response.writeHead(200, { 'content-length': size }).end()
        const bytes = Buffer.alloc(last - first + 1)
        const fd = openSync(path, 'r')
        readSync(fd, bytes, 0, bytes.length, first)
        closeSync(fd)
        const headers = {
          'content-length': bytes.length,
          ...(range !== null && { 'content-range': `bytes ${first}-${last}/${size}` }),
        }
        response.writeHead(range === null ? 200 : 206, headers).end(bytes)
      }, this.delayMs)
    })
  }

  async listen(): Promise<string> {
    await new Promise<void>(resolve => this.#server.listen(0, '127.0.0.1', resolve))
    const address = this.#server.address()
    return `http://127.0.0.1:${typeof address === 'object' ? (address?.port ?? 0) : 0}`
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}

async function startToFirstRead(
  rounds: number,
  cache: string,
  folder: string,
): Promise<Record<string, Start>> {
  const image = benchImage(cache)
  const times = new Map<string, { listens: number[]; firstRead: number[]; lost: number }>()
  for (let round = 0; round < rounds; round++)
    for (const kind of SERVERS.filter(kind => kind.missing === undefined)) {
      const of = times.get(kind.name) ?? { listens: [], firstRead: [], lost: 0 }
      times.set(kind.name, of)
      const begin = performance.now()
      const server = await Server.start(kind, image, join(folder, `start-${round}`))
      const listens = performance.now() - begin
      try {
        const { frontend, fuse } = await connectGuest(server, { timeoutMs: LOST_MS })
        const { nodeid } = await fuse.lookup(1, Buffer.from(LARGE_FILE))
        const fh = (await fuse.open(nodeid, 0).catch(() => undefined))?.fh ?? 0n
        await fuse.read(nodeid, fh, 0, 4096)
        of.firstRead.push(performance.now() - begin)
        of.listens.push(listens)
        frontend.close()
      } catch (error) {
        if (!isTimeout(error)) throw error
        of.lost++
      } finally {
        await server.stop()
      }
    }
  return Object.fromEntries(
    [...times].map(([name, { listens, firstRead, lost }]) => [
      name,
      { listens: median(listens), firstRead: median(firstRead), lost },
    ]),
  )
}

async function warmBesideCold(rounds: number, cache: string, folder: string): Promise<Warm> {
  const image = benchImage(cache)
  const backend = new SlowBackend(image.blobs)
  const [ours] = SERVERS
  if (ours === undefined) throw new Error('no server')
  const addr = await backend.listen()
  const results: { alone: BenchResult[]; beside: BenchResult[] } = { alone: [], beside: [] }
  try {
    for (let round = 0; round < rounds; round++) {
      backend.delayMs = 0
      const variation = { backend: { type: 'http-proxy', config: { addr } } }
      const server = await Server.start(ours, image, join(folder, `cold-${round}`), [], variation)
      const { frontend } = await connectGuest(server, { queues: 2 })
      const fuse = new FuseClient(frontend, { queue: 2 })
      const { nodeid } = await fuse.lookup(1, Buffer.from(LARGE_FILE))
      for (let at = 0; at < WARM; at += MIB) await fuse.read(nodeid, 0n, at, MIB)
      const targets = [{ nodeid, fh: 0n, size: WARM, name: new Uint8Array(0) }]
      const load = { kind: 'read', size: 4096, depth: 1, poll: true, queues: [1], targets } as const
      await frontend.bench({ ...load, seconds: MEASURE_S / 4 })
      results.alone.push(await frontend.bench({ ...load, seconds: MEASURE_S }))
      backend.delayMs = SLOW_MS
      backend.asked = 0
      let waiting = COLD_READS
      const cold = Array.from({ length: COLD_READS }, async (_, i) => {
        await fuse.read(nodeid, 0n, 2 * WARM + i * MIB, 4096)
        waiting--
      })
      // All of them have been handed to the backend: what is measured is the wait, not the way there.
      while (backend.asked === 0) await sleep(10)
      await sleep(SETTLE_MS)
      results.beside.push(await frontend.bench({ ...load, seconds: MEASURE_S }))
      if (waiting !== COLD_READS) throw new Error('cold reads were answered while warm ones were measured')
      await Promise.all(cold)
      frontend.close()
      await server.stop()
    }
  } finally {
    backend.close()
  }
  const of = (all: readonly BenchResult[]): Percentiles => ({
    p50: median(all.map(one => one.p50)),
    p99: median(all.map(one => one.p99)),
  })
  return { alone: of(results.alone), beside: of(results.beside) }
}

/** `startOnly`: without the warm reads, whose rounds take 10 s each. */
export async function runLatency(rounds: number, startOnly: boolean, cache: string): Promise<LatencyReport> {
  const folder = mkdtempSync(join(tmpdir(), 'nydus-bench-'))
  try {
    const start = await startToFirstRead(rounds, cache, folder)
    return startOnly ? { start } : { start, warm: await warmBesideCold(rounds, cache, folder) }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export function latencyTable({ start, warm }: LatencyReport): string {
  const us = (ns: number): string => `${(ns / 1000).toFixed(1)} µs`
  const lines = [
    'from spawn to a socket that listens, and to the first 4 KiB read',
    ...Object.entries(start).map(
      ([name, { listens, firstRead, lost }]) =>
        `  ${name.padEnd(10)} ${listens.toFixed(0).padStart(5)} ms ${firstRead.toFixed(0).padStart(5)} ms` +
        (lost === 0 ? '' : `; ${lost} starts whose first request was never answered`),
    ),
  ]
  if (warm === undefined) return lines.join('\n')
  const { alone, beside } = warm
  return [
    ...lines,
    `warm 4 KiB reads, alone:                     p50 ${us(alone.p50)}, p99 ${us(alone.p99)}`,
    `the same while ${COLD_READS} cold reads wait ${SLOW_MS / 1000} s:     p50 ${us(beside.p50)}, p99 ${us(beside.p99)}`,
    `p99 ${(beside.p99 / alone.p99).toFixed(2)}x (wanted at most 2x)`,
  ].join('\n')
}
