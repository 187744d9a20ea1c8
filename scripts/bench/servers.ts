/**
 * The servers that are compared: ours at its default settings, and the peers when they are installed. Each listens on
 * a vhost-user socket of its own and serves the same tree.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export interface BenchImage {
  readonly bootstrap: string
  readonly blobs: string
  /** The same tree as a folder. */
  readonly folder: string
}

export interface ServerKind {
  readonly name: 'nydus-ts' | 'nydusd' | 'virtiofsd'
  /** It has a cache that fills when something is read for the first time. */
  readonly lazy: boolean
  /** What used.len has to be is checked only for servers that keep to virtio. */
  readonly usedLength: boolean
  readonly program: string
  /** Installed? Otherwise why it is left out. */
  readonly missing: string | undefined
  arguments(image: BenchImage, socket: string, config: string): string[]
}

/** A `backend` section of a version 1 configuration. */
export interface BackendSection {
  readonly type: string
  readonly config: Readonly<Record<string, unknown>>
}

/** What differs from the usual configuration: blobs in a folder, a cache. */
export interface Variation {
  readonly backend?: BackendSection
  /** Keys of the top level. */
  readonly settings?: Readonly<Record<string, unknown>>
}

const PEERS = process.env['NYDUS_BENCH_PEERS'] ?? '/opt/peers/bin'

function peer(name: string): Pick<ServerKind, 'program' | 'missing'> {
  const program = join(PEERS, name)
  return {
    program,
    missing: existsSync(program)
      ? undefined
      : `${program} is not there; scripts/bench/install-peers builds it`,
  }
}

export const SERVERS: readonly ServerKind[] = [
  {
    name: 'nydus-ts',
    lazy: true,
    usedLength: true,
    program: 'dist/bin/nydusd',
    missing: undefined,
    arguments: (image, socket, config) => [
      'virtiofs',
      '--sock',
      socket,
      '--config',
      config,
      '--bootstrap',
      image.bootstrap,
      '--log-level',
      'warn',
    ],
  },
  {
    name: 'nydusd',
    lazy: true,
    usedLength: false,
    ...peer('nydusd'),
    arguments: (image, socket, config) => [
      'virtiofs',
      '--sock',
      socket,
      '--config',
      config,
      '--bootstrap',
      image.bootstrap,
      '--log-level',
      'error',
      '--rlimit-nofile',
      '0',
    ],
  },
  {
    name: 'virtiofsd',
    lazy: false,
    usedLength: true,
    ...peer('virtiofsd'),
    arguments: (image, socket) => [
      `--socket-path=${socket}`,
      `--shared-dir=${image.folder}`,
      '--cache=always',
      '--sandbox=none',
      '--readonly',
      '--rlimit-nofile=0',
      '--log-level=error',
    ],
  },
]

/** Whether somebody listens there: a socket that is only bound refuses connections (proc(5): flag 0x10000). */
function listens(socket: string): boolean {
  const line = readFileSync('/proc/net/unix', 'latin1')
    .split('\n')
    .find(at => at.endsWith(` ${socket}`))
  return line?.split(' ')[3] === '00010000'
}

/** A running server. */
export class Server {
  readonly kind: ServerKind
  readonly socket: string
  readonly #child: ChildProcess
  #stderr = ''

  private constructor(kind: ServerKind, socket: string, child: ChildProcess) {
    this.kind = kind
    this.socket = socket
    this.#child = child
    child.stderr?.on(
      'data',
      (bytes: Buffer) => (this.#stderr = (this.#stderr + bytes.toString()).slice(-2000)),
    )
    child.stdout?.resume()
  }

  static async start(
    kind: ServerKind,
    image: BenchImage,
    folder: string,
    extra: readonly string[] = [],
    { backend, settings }: Variation = {},
  ): Promise<Server> {
    const work = join(folder, kind.name)
    await mkdir(join(work, 'cache'), { recursive: true })
    const config = join(work, 'config.json')
    await writeFile(
      config,
      JSON.stringify({
        device: {
          backend: backend ?? { type: 'localfs', config: { dir: image.blobs } },
          cache: { type: 'blobcache', config: { work_dir: join(work, 'cache') } },
        },
        mode: 'direct',
        digest_validate: false,
        enable_xattr: true,
        ...settings,
      }),
    )
    const socket = join(work, 'vhost.sock')
    const child = spawn(kind.program, [...kind.arguments(image, socket, config), ...extra], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const server = new Server(kind, socket, child)
    await server.#listening()
    return server
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  async #listening(): Promise<void> {
    for (let tries = 0; tries < 10_000; tries++) {
      if (this.#child.exitCode !== null) throw new Error(`${this.kind.name} ended: ${this.#stderr}`)
      if (listens(this.socket)) return
      await sleep(1)
    }
    throw new Error(`${this.kind.name} does not listen on ${this.socket}: ${this.#stderr}`)
  }

  /** CPU seconds of the whole process since its start (proc(5), stat: utime and stime in ticks of 10 ms). */
  cpuSeconds(): number {
    const stat = readFileSync(`/proc/${this.pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) / 100
  }

  /** Resident bytes: all, and what is not backed by files. */
  resident(): { readonly all: number; readonly anonymous: number } {
    const status = readFileSync(`/proc/${this.pid}/status`, 'latin1')
    const kib = (field: string): number =>
      Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
    return { all: kib('VmRSS') * 1024, anonymous: kib('RssAnon') * 1024 }
  }

  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.#child.exitCode !== null) return
    const ended = new Promise(resolve => this.#child.once('exit', resolve))
    this.#child.kill(signal)
    await ended
  }
}
