/**
 * Starts QEMU and watches over it: a machine is its process, its console, its QMP connection and the raw
 * connection to the agent's port. Knows how to start, stop and explain a machine; what runs in the guest is not its
 * business.
 *
 *     startMachine → Machine { console, qmp, agent } → stop / kill / exited
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { explain, NydusError } from '../lib/base/errors.js'
import { qemuArguments, type ControlSockets, type MachineShape } from './args.js'
import { Console } from './console.js'
import { Qmp } from './qmp.js'

const PROGRAM = 'qemu-system-x86_64'
const CONNECT_MS = 20_000
const QUIT_MS = 5_000

/** Listens on `path` for one connection. */
async function acceptOne(path: string): Promise<{ connected: Promise<Socket>; close(): void }> {
  const server = createServer()
  const connected = once(server, 'connection', { signal: AbortSignal.timeout(CONNECT_MS) }).then(
    ([socket]) => socket as Socket,
  )
  server.listen(path)
  await once(server, 'listening')
  return { connected, close: () => server.close() }
}

export class Machine {
  readonly console: Console
  readonly qmp: Qmp
  /** Bytes to and from the guest's port AGENT_PORT. */
  readonly agent: Socket
  /** Resolves, never rejects, when QEMU has ended, with a sentence that says how. */
  readonly exited: Promise<string>
  readonly #process: ChildProcess
  readonly #stderr: () => string

  constructor(
    process: ChildProcess,
    parts: { console: Console; qmp: Qmp; agent: Socket; exited: Promise<string>; stderr: () => string },
  ) {
    this.#process = process
    this.console = parts.console
    this.qmp = parts.qmp
    this.agent = parts.agent
    this.exited = parts.exited
    this.#stderr = parts.stderr
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  /** What to show with a failure: QEMU's own messages and the last lines of the console. */
  report(): string {
    const stderr = this.#stderr()
    const messages = stderr === '' ? '' : `\n--- QEMU's messages\n${stderr}`
    return `${messages}\n--- last lines of the guest's console\n${this.console.tail()}\n---`
  }

  /** Ends QEMU in an orderly way (its devices say goodbye to the daemon), by force after a while. */
  async stop(): Promise<void> {
    const force = setTimeout(() => this.#process.kill('SIGKILL'), QUIT_MS)
    await this.qmp.quit().catch(() => {})
    await this.exited
    clearTimeout(force)
  }

  /** Ends QEMU as a crash or the OOM killer would. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.exited
  }
}

/**
 * Starts a machine and returns when QEMU has connected both control sockets; the guest is then only about to boot.
 * QEMU ends when this process does, however that ends. Throws QEMU_FAILED with QEMU's own messages.
 */
export async function startMachine(shape: MachineShape): Promise<Machine> {
  const folder = await mkdtemp(join(tmpdir(), 'nydus-qemu-'))
  const control: ControlSockets = { qmp: join(folder, 'qmp'), agent: join(folder, 'agent') }
  const qmp = await acceptOne(control.qmp)
  const agent = await acceptOne(control.agent)
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', PROGRAM, ...qemuArguments(shape, control)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-8192)))
  const exited = new Promise<string>(resolve => {
    child.on('error', error => resolve(`${PROGRAM} can't be started (${error.message}): run scripts/setup`))
    child.on('close', (code, signal) =>
      resolve(signal === null ? `QEMU ended with exit code ${code}` : `QEMU was ended by ${signal}`),
    )
  })
  const guestConsole = new Console(child.stdin, child.stdout)
  const ended = exited.then(reason => {
    throw new Error(reason)
  })
  try {
    const [qmpSocket, agentSocket] = await Promise.race([
      Promise.all([qmp.connected, agent.connected]),
      ended,
    ])
    const parts = { console: guestConsole, qmp: new Qmp(qmpSocket), agent: agentSocket, exited }
    await parts.qmp.negotiate()
    return new Machine(child, { ...parts, stderr: () => stderr })
  } catch (cause) {
    child.kill('SIGKILL')
    const words = `${explain(cause)}\n${stderr}${guestConsole.tail()}`.trim()
    throw new NydusError('QEMU_FAILED', 'EIO', `the virtual machine did not start: ${words}`)
  } finally {
    qmp.close()
    agent.close()
    await rm(folder, { recursive: true, force: true })
  }
}
