/**
 * Real servers for tests: started on free ports of the loopback address, with all they write in one folder, and
 * stopped by their process id. scripts/test-servers.txt names the packages that bring them.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Certs } from './certs.js'
import { accepts, freePort } from './ports.js'

/** A server has this long to listen, in steps of so many milliseconds. */
const STEP_MS = 50
const STEPS = 400

export class ServerProcess {
  readonly port: number
  readonly #command: readonly [string, ...string[]]
  readonly #env: NodeJS.ProcessEnv
  #child: ChildProcess | undefined
  #output = ''

  constructor(port: number, command: readonly [string, ...string[]], env: NodeJS.ProcessEnv = {}) {
    this.port = port
    this.#command = command
    this.#env = env
  }

  get host(): string {
    return `127.0.0.1:${this.port}`
  }

  /** Starts it (again) and waits until it accepts connections. */
  async start(): Promise<void> {
    const [program, ...args] = this.#command
    const child = spawn(program, args, {
      env: { PATH: process.env['PATH'], ...this.#env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (this.#output = (this.#output + chunk.toString()).slice(-4000)))
    let failure: Error | undefined
    child.once('error', error => (failure = error))
    for (let step = 0; step < STEPS; step++) {
      if (failure !== undefined)
        throw new Error(`${program} cannot be started (${failure.message}): run scripts/setup --tests`)
      if (child.exitCode !== null) break
      if (await accepts(this.port)) return
      await new Promise(resolve => setTimeout(resolve, STEP_MS))
    }
    await this.stop()
    throw new Error(`${program} does not listen on ${this.port}: ${this.#output}`)
  }

  /** SIGKILL: as a crash. */
  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = new Promise(resolve => child.once('exit', resolve))
    child.kill(signal)
    await exited
  }
}

export interface RegistrySetup {
  /** Folder for its files. */
  readonly dir: string
  readonly certs?: Certs
  /** Lines of YAML below the top level. */
  readonly extra?: string
}

/** Debian's docker-registry (distribution 2.8) over a folder that `storeBlob` fills. */
export async function dockerRegistry(setup: RegistrySetup): Promise<ServerProcess> {
  const port = await freePort()
  const config = join(setup.dir, 'registry.yml')
  mkdirSync(join(setup.dir, 'data'), { recursive: true })
  const tls =
    setup.certs === undefined
      ? ''
      : `\n  tls:\n    certificate: ${setup.certs.cert}\n    key: ${setup.certs.key}`
  writeFileSync(
    config,
    `version: 0.1
log:
  accesslog: { disabled: false }
storage:
  filesystem: { rootdirectory: ${join(setup.dir, 'data')} }
http:
  addr: 127.0.0.1:${port}${tls}
${setup.extra ?? ''}
`,
  )
  const server = new ServerProcess(port, ['docker-registry', 'serve', config])
  await server.start()
  return server
}

/** Where the registry's filesystem driver keeps a blob, relative to its root. */
export function storedPath(digest: string): string {
  return `docker/registry/v2/blobs/sha256/${digest.slice(0, 2)}/${digest}/data`
}

/**
 * Puts a blob into the registry's folder as a push to `repo` would; returns its digest. Blobs that carry their own
 * metadata are not named by what they hold: the registry, which does not look, is told another `digest`.
 */
export function storeBlob(
  dir: string,
  repo: string,
  blob: Buffer,
  digest: string = createHash('sha256').update(blob).digest('hex'),
): string {
  const data = join(dir, 'data', storedPath(digest))
  const link = join(dir, 'data/docker/registry/v2/repositories', repo, '_layers/sha256', digest, 'link')
  mkdirSync(dirname(data), { recursive: true })
  mkdirSync(dirname(link), { recursive: true })
  writeFileSync(data, blob)
  writeFileSync(link, `sha256:${digest}`)
  return digest
}

/** nginx in the foreground, one process; `http` is what goes into its http block, `$PORT` its port. */
export async function nginx(dir: string, http: string): Promise<ServerProcess> {
  const port = await freePort()
  const config = join(dir, 'nginx.conf')
  mkdirSync(join(dir, 'tmp'), { recursive: true })
  const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    name => `${name}_temp_path ${join(dir, 'tmp', name)};`,
  )
  writeFileSync(
    config,
    `daemon off; master_process off; pid ${join(dir, 'nginx.pid')}; error_log stderr;
user root;
events {}
http {
  access_log ${join(dir, 'access.log')};
  ${temp.join('\n  ')}
  ${http.replaceAll('$PORT', String(port))}
}
`,
  )
  const server = new ServerProcess(port, ['nginx', '-c', config, '-p', dir])
  await server.start()
  return server
}

/**
 * squid as a forward proxy that fetches and caches whole objects in memory: what a P2P daemon is to a reader. With
 * `ranges` it hands each range on as it was asked for.
 */
export async function squid(dir: string, ranges = false): Promise<ServerProcess> {
  const port = await freePort()
  const config = join(dir, 'squid.conf')
  writeFileSync(
    config,
    `http_port 127.0.0.1:${port}
http_access allow all
pid_filename none
access_log none
cache_log /dev/null
cache_mem 64 MB
maximum_object_size_in_memory 64 MB
range_offset_limit ${ranges ? '0' : 'none'}
shutdown_lifetime 0 seconds
cache_effective_user proxy
coredump_dir none
dns_nameservers 127.0.0.1
netdb_filename none
memory_cache_shared off
`,
  )
  // The name keeps the shared memory of several squids apart.
  const server = new ServerProcess(port, ['squid', '-N', '-n', `nydus${port}`, '-f', config])
  await server.start()
  return server
}

/** Where `program` is: in the PATH, or among programs built outside of the project; undefined when it is absent. */
export function findProgram(program: string): string | undefined {
  const places = [...(process.env['PATH'] ?? '').split(':'), '/opt/peers/bin']
  return places.map(place => join(place, program)).find(path => existsSync(path))
}
