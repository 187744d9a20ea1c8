/**
 * The hot path: every load on every server, in turns (A B C, A B C, …), so that a machine that is slow for a while is
 * slow for all of them. What is printed are medians over the rounds, and ratios to nydusd of the same round.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { tmpdir } from 'node:os'
import { VhostFrontend } from '../../addon/test/frontend.js'
import { FuseClient } from '../../addon/test/fuse-client.js'
import type { BenchResult, BenchTarget } from '../../addon/test/native-frontend.js'
import { benchImage, FILES, FOLDERS, LARGE_FILE, LARGE_SIZE } from './image.js'
import { LOADS, type Load, type Targets } from './loads.js'
import { Server, SERVERS } from './servers.js'

export interface HotOptions {
  readonly rounds: number
  readonly seconds: number
  readonly queues: number
  /** Only loads whose name contains this. */
  readonly only: string
  readonly serverArguments: readonly string[]
}

export interface Sample {
  readonly server: string
  readonly load: string
  readonly round: number
  /** Requests a second. */
  readonly rate: number
  /** Nanoseconds. */
  readonly p50: number
  readonly p99: number
  readonly p999: number
  /** CPU microseconds of the server for one request. */
  readonly cpu: number
  readonly kicks: number
  readonly interrupts: number
  readonly bytesPerSecond: number
}

const OPEN_FLAGS = 0

/** A connected front-end with the targets of all loads looked up. */
class Guest {
  readonly frontend: VhostFrontend
  readonly targets: Targets

  private constructor(frontend: VhostFrontend, targets: Targets) {
    this.frontend = frontend
    this.targets = targets
  }

  static async connect(server: Server, queues: number): Promise<Guest> {
    const frontend = new VhostFrontend({
      path: server.socket,
      queueSize: 1024,
      requestQueues: queues,
      checkUsedLength: server.kind.usedLength,
      regions: [
        { gpa: 0, size: 0xa0000, file: 0, offset: 0 },
        { gpa: 0xc0000, size: (256 << 20) - 0xc0000, file: 0, offset: 0xc0000 },
      ],
    })
    await frontend.connect()
    await frontend.start()
    const fuse = new FuseClient(frontend)
    await fuse.init()
    const large = await fuse.lookup(1, Buffer.from(LARGE_FILE))
    const fh = (await fuse.open(large.nodeid, OPEN_FLAGS).catch(() => undefined))?.fh ?? 0n
    const none = new Uint8Array(0)
    const files: BenchTarget[] = []
    const folders: BenchTarget[] = []
    for (let d = 0; d < FOLDERS; d++) {
      const folder = await fuse.lookup(1, Buffer.from(`dir${d}`))
      const opened = (await fuse.opendir(folder.nodeid).catch(() => undefined))?.fh ?? 0n
      folders.push({ nodeid: folder.nodeid, fh: opened, size: 0, name: none })
      for (let f = 0; f < FILES; f++)
        files.push({ nodeid: folder.nodeid, fh: 0, size: 0, name: Buffer.from(`file-${f}.txt`) })
    }
    // Warm: every byte of the large file is in the server's cache before anything is measured.
    for (let at = 0; at < LARGE_SIZE; at += 1 << 20) await fuse.read(large.nodeid, fh, at, 1 << 20)
    return new Guest(frontend, {
      large: [{ nodeid: large.nodeid, fh, size: LARGE_SIZE, name: none }],
      files,
      folders,
    })
  }
}

function sample(server: Server, load: Load, round: number, result: BenchResult, cpu: number): Sample {
  if (result.problem !== '') throw new Error(`${server.kind.name}, ${load.name}: ${result.problem}`)
  if (result.errors > 0)
    throw new Error(`${server.kind.name}, ${load.name}: ${result.errors} replies with an error`)
  if (server.kind.usedLength && result.wrongUsedLengths > 0)
    throw new Error(
      `${server.kind.name}, ${load.name}: ${result.wrongUsedLengths} replies whose used.len is not their length`,
    )
  const seconds = result.nanoseconds / 1e9
  return {
    server: server.kind.name,
    load: load.name,
    round,
    rate: result.ops / seconds,
    p50: result.p50,
    p99: result.p99,
    p999: result.p999,
    cpu: (cpu * 1e6) / result.ops,
    kicks: result.kicks / result.ops,
    interrupts: result.interrupts / result.ops,
    bytesPerSecond: result.bytes / seconds,
  }
}

export interface HotReport {
  readonly samples: readonly Sample[]
  readonly missing: readonly string[]
  /** By server: resident bytes at the end. */
  readonly resident: Readonly<Record<string, { readonly all: number; readonly anonymous: number }>>
}

export async function runHot(
  cache: string,
  options: HotOptions,
  say: (line: string) => void,
): Promise<HotReport> {
  const image = benchImage(cache)
  const folder = mkdtempSync(join(tmpdir(), 'nydus-bench-'))
  const samples: Sample[] = []
  const running: { server: Server; guest: Guest }[] = []
  const resident: Record<string, { all: number; anonymous: number }> = {}
  const missing = SERVERS.filter(kind => kind.missing !== undefined).map(
    kind => `${kind.name}: ${kind.missing}`,
  )
  try {
    for (const kind of SERVERS.filter(kind => kind.missing === undefined)) {
      const server = await Server.start(
        kind,
        image,
        folder,
        kind.name === 'nydus-ts' ? options.serverArguments : [],
      )
      running.push({
        server,
        guest: await Guest.connect(server, kind.name === 'nydus-ts' ? options.queues : 1),
      })
    }
    for (let round = 0; round < options.rounds; round++)
      for (const load of LOADS.filter(load => load.name.includes(options.only)))
        for (const { server, guest } of running) {
          const queues = Array.from(
            { length: server.kind.name === 'nydus-ts' ? options.queues : 1 },
            (_, i) => i + 1,
          )
          const run = (seconds: number): Promise<BenchResult> =>
            guest.frontend.bench({
              ...load.options,
              queues,
              seconds,
              targets: guest.targets[load.targets],
              seed: round + 1,
            })
          await run(options.seconds / 10)
          const before = server.cpuSeconds()
          const result = await run(options.seconds)
          samples.push(sample(server, load, round, result, server.cpuSeconds() - before))
          say(`round ${round + 1}/${options.rounds}  ${load.name}  ${server.kind.name}`)
        }
    for (const { server } of running) resident[server.kind.name] = server.resident()
  } finally {
    for (const { server, guest } of running) {
      guest.frontend.close()
      await server.stop()
    }
    rmSync(folder, { recursive: true, force: true })
  }
  return { samples, missing, resident }
}
