/**
 * The hot path: every load on every server, in turns (A B C, C B A, …), so that a machine that is slow for a while is
 * slow for all of them. What is printed are medians over the rounds, and ratios to nydusd of the same round.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { tmpdir } from 'node:os'
import type { VhostFrontend } from '../../addon/test/frontend.js'
import type { FuseClient } from '../../addon/test/fuse-client.js'
import type { BenchResult, BenchTarget } from '../../addon/test/native-frontend.js'
import { serve } from './guest.js'
import { benchImage, CHUNK_SIZE, FILES, FOLDERS, LARGE_FILE, LARGE_SIZE } from './image.js'
import { LOADS, type Load, type Targets } from './loads.js'
import { Server, SERVERS, type BenchImage, type ServerKind } from './servers.js'

export interface HotOptions {
  readonly rounds: number
  readonly seconds: number
  /** Request queues of our server: one server for each number (the peers have one queue). */
  readonly queues: readonly number[]
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

/** A load of a number of requests ends then, whatever is missing. */
const LONGEST_S = 60
const OPEN_FLAGS = 0

/** The targets of all loads, looked up; `warm` bytes of the large file are read, so that they are in the server's cache. */
async function lookUpTargets(fuse: FuseClient, warm: number): Promise<Targets> {
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
  for (let at = 0; at < warm; at += 1 << 20) await fuse.read(large.nodeid, fh, at, 1 << 20)
  return { large: [{ nodeid: large.nodeid, fh, size: LARGE_SIZE, name: none }], files, folders }
}

function sample(
  name: string,
  kind: ServerKind,
  load: Load,
  round: number,
  result: BenchResult,
  cpu: number,
): Sample {
  if (result.problem !== '') throw new Error(`${name}, ${load.name}: ${result.problem}`)
  if (result.errors > 0) throw new Error(`${name}, ${load.name}: ${result.errors} replies with an error`)
  if (kind.usedLength && result.wrongUsedLengths > 0)
    throw new Error(
      `${name}, ${load.name}: ${result.wrongUsedLengths} replies whose used.len is not their length`,
    )
  const seconds = result.nanoseconds / 1e9
  return {
    server: name,
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

/** What is measured: a server, and how many queues its guest has. */
interface Contender {
  readonly kind: ServerKind
  readonly queues: number
}

/** The first of ours keeps its plain name, which is what peers are compared with. */
function nameOf({ kind, queues }: Contender, options: HotOptions): string {
  return kind.name !== 'nydus-ts' || queues === options.queues[0]
    ? kind.name
    : `${kind.name} ${queues} queues`
}

function contenders(options: HotOptions): Contender[] {
  return SERVERS.filter(kind => kind.missing === undefined).flatMap(kind =>
    (kind.name === 'nydus-ts' ? options.queues : [1]).map(queues => ({ kind, queues })),
  )
}

/** A server with its guest. */
class Pair {
  readonly server: Server
  readonly contender: Contender
  readonly name: string
  readonly #frontend: VhostFrontend
  readonly #targets: Targets
  readonly #queues: number[]

  private constructor(
    server: Server,
    frontend: VhostFrontend,
    targets: Targets,
    contender: Contender,
    name: string,
  ) {
    this.server = server
    this.contender = contender
    this.name = name
    this.#frontend = frontend
    this.#targets = targets
    this.#queues = Array.from({ length: contender.queues }, (_, i) => i + 1)
  }

  static async start(
    contender: Contender,
    image: BenchImage,
    folder: string,
    options: HotOptions,
    warm = LARGE_SIZE,
  ): Promise<Pair> {
    const { kind, queues } = contender
    const name = nameOf(contender, options)
    const extra = kind.name === 'nydus-ts' ? options.serverArguments : []
    const { server, frontend, fuse } = await serve(
      () => Server.start(kind, image, join(folder, name), extra),
      { queues },
    )
    return new Pair(server, frontend, await lookUpTargets(fuse, warm), contender, name)
  }

  async measure(load: Load, round: number, seconds: number): Promise<Sample> {
    const { cold } = load
    const targets = this.#targets[load.targets]
    const usual = { ...load.options, queues: this.#queues, seed: round + 1 }
    const warm = targets.map(target => ({ ...target, size: cold?.from ?? target.size }))
    const mixed = cold && {
      coldEvery: cold.every,
      coldFrom: cold.from,
      maxOps: ((LARGE_SIZE - cold.from) / CHUNK_SIZE) * cold.every,
      seconds: LONGEST_S,
    }
    // A server that was just started is not what it will be: V8 has compiled nothing yet.
    await this.#frontend.bench({ ...usual, targets: warm, seconds: cold ? 0.5 : seconds / 10 })
    const before = this.server.cpuSeconds()
    const result = await this.#frontend.bench({ ...usual, targets, seconds, ...mixed })
    return sample(this.name, this.contender.kind, load, round, result, this.server.cpuSeconds() - before)
  }

  async stop(): Promise<void> {
    this.#frontend.close()
    await this.server.stop()
  }
}

/** The same with a server whose cache is empty. */
async function measureCold(
  contender: Contender,
  image: BenchImage,
  options: HotOptions,
  load: Load,
  round: number,
): Promise<Sample> {
  const folder = mkdtempSync(join(tmpdir(), 'nydus-bench-'))
  try {
    const pair = await Pair.start(contender, image, folder, options, load.cold?.from)
    try {
      return await pair.measure(load, round, options.seconds)
    } finally {
      await pair.stop()
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export async function runHot(
  cache: string,
  options: HotOptions,
  say: (line: string) => void,
): Promise<HotReport> {
  const image = benchImage(cache)
  const folder = mkdtempSync(join(tmpdir(), 'nydus-bench-'))
  const samples: Sample[] = []
  const running: Pair[] = []
  const resident: Record<string, { all: number; anonymous: number }> = {}
  const missing = SERVERS.filter(kind => kind.missing !== undefined).map(
    kind => `${kind.name}: ${kind.missing}`,
  )
  try {
    for (const contender of contenders(options))
      running.push(await Pair.start(contender, image, folder, options))
    for (let round = 0; round < options.rounds; round++)
      for (const load of LOADS.filter(load => load.name.includes(options.only)))
        // Whoever comes first finds another machine than whoever comes next, where others are at work.
        for (const pair of round % 2 === 0 ? running : running.toReversed()) {
          if (load.cold && !pair.contender.kind.lazy) continue
          samples.push(
            load.cold
              ? await measureCold(pair.contender, image, options, load, round)
              : await pair.measure(load, round, options.seconds),
          )
          say(`round ${round + 1}/${options.rounds}  ${load.name}  ${pair.name}`)
        }
    for (const { name, server } of running) resident[name] = server.resident()
  } finally {
    for (const pair of running) await pair.stop()
    rmSync(folder, { recursive: true, force: true })
  }
  return { samples, missing, resident }
}
