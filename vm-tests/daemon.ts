/**
 * nydusd as its users run it: the program in a process of its own, its sockets in a temporary folder, its API over
 * HTTP. Tests and the demo go through this and never through lib/.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from 'undici'
import { NydusError } from '../lib/base/errors.js'
import { projectRoot } from './project.js'

const START_MS = 20_000
const STOP_MS = 20_000

/** Settings of one instance that tests vary; the rest is what the snapshotter sends. */
export interface InstanceOptions {
  /** Folder of the blobs (backend localfs). */
  readonly blobs: string
  /** Where the cache lives; no cache at all when not given. */
  readonly workDir?: string
  readonly digestValidate?: boolean
}

/** The program under test: ours, or the one that NYDUSD names. */
export function nydusdPath(): string {
  return process.env['NYDUSD'] ?? join(projectRoot, 'dist/bin/nydusd')
}

/** A version 1 configuration, as text. */
export function instanceConfig(options: InstanceOptions): string {
  const cache =
    options.workDir === undefined ? {} : { type: 'blobcache', config: { work_dir: options.workDir } }
  return JSON.stringify({
    device: { backend: { type: 'localfs', config: { dir: options.blobs } }, cache },
    mode: 'direct',
    digest_validate: options.digestValidate ?? false,
    enable_xattr: true,
  })
}

/** An answer of the API that is not a success. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export class Daemon {
  /** Holds the sockets and is removed by `stop`; callers may put files of theirs in it. */
  readonly folder: string
  readonly sock: string
  readonly apisock: string
  /** The command line, for people. */
  readonly command: string
  readonly #process: ChildProcess
  readonly #exited: Promise<string>
  readonly #api: Client
  #log = ''

  private constructor(folder: string, args: readonly string[]) {
    this.folder = folder
    this.sock = join(folder, 'vhost-user-fs.sock')
    this.apisock = join(folder, 'api.sock')
    const all = [...args, '--sock', this.sock, '--apisock', this.apisock]
    this.command = `nydusd ${all.join(' ')}`
    // Ends when this process does, however that ends.
    this.#process = spawn('setpriv', ['--pdeathsig', 'KILL', nydusdPath(), ...all], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [this.#process.stdout, this.#process.stderr])
      stream?.on('data', (chunk: Buffer) => (this.#log += chunk.toString()))
    this.#exited = new Promise(resolve => {
      this.#process.on('error', error => resolve(error.message))
      this.#process.on('close', (code, signal) => resolve(signal ?? `exit code ${code}`))
    })
    this.#api = new Client('http://localhost', { socketPath: this.apisock })
  }

  /** Starts nydusd with `args` and returns when both sockets are there. */
  static async start(args: readonly string[] = ['virtiofs'], folder?: string): Promise<Daemon> {
    const daemon = new Daemon(folder ?? mkdtempSync(join(tmpdir(), 'nydus-daemon-')), args)
    let ended: string | undefined
    void daemon.#exited.then(how => (ended = how))
    const deadline = Date.now() + START_MS
    while (!existsSync(daemon.sock) || !existsSync(daemon.apisock)) {
      if (ended !== undefined || Date.now() > deadline) {
        const how = ended ?? `no sockets after ${START_MS / 1000} s`
        await daemon.stop()
        throw new NydusError('DAEMON_FAILED', 'EIO', `${daemon.command}: ${how}\n${daemon.log}`)
      }
      await delay(20)
    }
    return daemon
  }

  get pid(): number {
    return this.#process.pid ?? 0
  }

  /** Everything the daemon has logged so far. */
  get log(): string {
    return this.#log
  }

  /** One call of the API: its body, parsed when there is one. Throws ApiError for anything but 2xx. */
  async api(method: 'GET' | 'PUT' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<unknown> {
    const response = await this.#api.request({
      method,
      path: `/api/v1/${path}`,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.body.text()
    if (response.statusCode >= 300)
      throw new ApiError(response.statusCode, `${method} ${path}: ${response.statusCode} ${text}`)
    return text === '' ? undefined : (JSON.parse(text) as unknown)
  }

  /** Mounts `bootstrap` at `mountpoint` of the daemon's tree. */
  async mount(mountpoint: string, bootstrap: string, options: InstanceOptions): Promise<void> {
    const config = instanceConfig(options)
    const path = `mount?mountpoint=${encodeURIComponent(mountpoint)}`
    await this.api('POST', path, { fs_type: 'rafs', source: bootstrap, config })
  }

  async umount(mountpoint: string): Promise<void> {
    await this.api('DELETE', `mount?mountpoint=${encodeURIComponent(mountpoint)}`)
  }

  /** Stops the daemon as an operator does (SIGTERM) and removes its folder. Tells how it ended. */
  async stop(): Promise<string> {
    const force = setTimeout(() => this.#process.kill('SIGKILL'), STOP_MS)
    await this.#api.destroy()
    this.#process.kill('SIGTERM')
    const how = await this.#exited
    clearTimeout(force)
    rmSync(this.folder, { recursive: true, force: true })
    return how
  }
}

/** Writes `text` into the folder of a daemon to be; returns the path. */
export function daemonFile(folder: string, name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}
