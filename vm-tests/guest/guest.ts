/**
 * A guest as tests and the demo see it: a machine whose agent (agent.cc) answers.
 *
 * Every call has a deadline and fails with the guest's last console lines: a guest that hangs ends a test with an
 * explanation, not with the runner's time-out.
 */
import { NydusError } from '../../lib/base/errors.js'
import type { Machine } from '../../qemu/launch.js'

const CALL_MS = 90_000
const BOOT_MS = 60_000

/** What `compare` found. */
export interface Comparison {
  readonly entries: number
  readonly differences: number
  /** The first differences, one line a path. */
  readonly lines: readonly string[]
}

/** What a shell command printed (both streams) and how it ended. */
export interface ShellResult {
  readonly code: number
  readonly output: string
}

/** An errno that a call in the guest ended with; `errno` is its number. */
export class GuestError extends Error {
  override readonly name = 'GuestError'
  readonly errno: number

  constructor(errno: number, message: string) {
    super(message)
    this.errno = errno
  }
}

type Pending = { resolve(payload: Buffer): void; reject(error: Error): void }

function encode(word: string): string {
  return word.replaceAll(/[^\w./:-]/gu, encodeURIComponent)
}

/** `text` as one word of a shell command. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

export class Guest {
  readonly machine: Machine
  readonly #pending = new Map<number, Pending>()
  #received = Buffer.alloc(0)
  #lastId = 0
  #greeting: Promise<string>

  private constructor(machine: Machine) {
    this.machine = machine
    this.#greeting = this.#expect(0)
    machine.agent.on('data', (chunk: Buffer) => this.#receive(chunk))
    machine.agent.on('error', () => {}) // the machine's exit says more
    void machine.exited.then(reason => this.#failAll(`${reason} while the guest was at work`))
  }

  /** Waits until the guest's agent answers. */
  static async boot(machine: Machine): Promise<Guest> {
    const guest = new Guest(machine)
    await guest.#deadline(guest.#greeting, BOOT_MS, 'the guest boots')
    return guest
  }

  /** The release of the guest's kernel. */
  async release(): Promise<string> {
    return await this.#greeting
  }

  /** Runs `command` in the guest's shell; a command that fails is an error with its output. */
  async sh(command: string): Promise<string> {
    const { code, output } = await this.trySh(command)
    if (code !== 0) throw new GuestError(0, `in the guest: ${command}: exit code ${code}\n${output}`)
    return output
  }

  /** Runs `command` in the guest's shell and tells how it ended. */
  async trySh(command: string): Promise<ShellResult> {
    const text = (await this.#call('sh', [], Buffer.from(command))).toString()
    const end = text.indexOf('\n')
    return { code: Number(text.slice(0, end)), output: text.slice(end + 1) }
  }

  async mount(tag: string, folder: string): Promise<void> {
    await this.sh(
      `mkdir -p ${shellQuote(folder)} && mount -t virtiofs ${shellQuote(tag)} ${shellQuote(folder)}`,
    )
  }

  async umount(folder: string): Promise<void> {
    await this.sh(`umount ${shellQuote(folder)}`)
  }

  /** Forgets every page, entry and inode that the guest has cached and can forget. */
  async dropCaches(): Promise<void> {
    await this.sh('echo 3 > /proc/sys/vm/drop_caches')
  }

  /** Compares everything below `folder` with `expected`, the text of a manifest. */
  async compare(folder: string, expected: string | Buffer): Promise<Comparison> {
    const text = (await this.#call('compare', [folder], Buffer.from(expected))).toString()
    const [counts, ...lines] = text.trimEnd().split('\n')
    const [entries, differences] = (counts ?? '').split(' ').map(Number)
    return { entries: entries ?? NaN, differences: differences ?? NaN, lines }
  }

  /** The manifest of everything below `folder`. */
  async manifest(folder: string): Promise<string> {
    return (await this.#call('manifest', [folder])).toString()
  }

  /** Opens a file or folder and keeps it open; GuestError when that fails. */
  async open(path: string): Promise<number> {
    return Number((await this.#call('open', [path])).toString())
  }

  /** Reads of an open file, shorter only at its end. */
  async read(fd: number, offset: number, length: number): Promise<Buffer> {
    return await this.#call('read', [String(fd), String(offset), String(length)])
  }

  async close(fd: number): Promise<void> {
    await this.#call('close', [String(fd)])
  }

  /** Opens, reads and closes. */
  async readFile(path: string, offset = 0, length = 64 << 20): Promise<Buffer> {
    const fd = await this.open(path)
    try {
      return await this.read(fd, offset, length)
    } finally {
      await this.close(fd)
    }
  }

  /** Presses the reset button and waits until the agent answers again. Open calls fail. */
  async reset(): Promise<void> {
    const reset = new Promise<void>(resolve => this.machine.qmp.events.once('RESET', () => resolve()))
    await this.machine.qmp.reset()
    await this.#deadline(reset, BOOT_MS, 'the machine resets')
    await this.#bootAgain()
  }

  /** Reboots from inside the guest, as `reboot` does after unmounting. */
  async reboot(): Promise<void> {
    const reset = new Promise<void>(resolve => this.machine.qmp.events.once('RESET', () => resolve()))
    this.trySh('reboot -f').catch(() => {}) // never answered: the guest is gone
    await this.#deadline(reset, BOOT_MS, 'the guest reboots')
    await this.#bootAgain()
  }

  /** Shuts the guest down from inside; QEMU ends with it. */
  async powerOff(): Promise<void> {
    this.trySh('poweroff -f').catch(() => {}) // never answered: the guest is gone
    await this.#deadline(this.machine.exited, CALL_MS, 'the guest shuts down')
  }

  async #bootAgain(): Promise<void> {
    this.#failAll('the guest was rebooted')
    this.#received = Buffer.alloc(0)
    this.#greeting = this.#expect(0)
    await this.#deadline(this.#greeting, BOOT_MS, 'the guest boots again')
  }

  #expect(id: number): Promise<string> {
    const payload = new Promise<Buffer>((resolve, reject) => this.#pending.set(id, { resolve, reject }))
    return payload.then(String)
  }

  async #call(name: string, args: readonly string[], payload: Buffer = Buffer.alloc(0)): Promise<Buffer> {
    const id = ++this.#lastId
    const answer = new Promise<Buffer>((resolve, reject) => this.#pending.set(id, { resolve, reject }))
    const head = [id, payload.length, name, ...args.map(encode)].join(' ')
    this.machine.agent.write(Buffer.concat([Buffer.from(`${head}\n`), payload]))
    return await this.#deadline(answer, CALL_MS, `the guest answers ${name} ${args.join(' ')}`)
  }

  async #deadline<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const words = `waited ${ms / 1000} s until ${what}, in vain${this.machine.report()}`
        reject(new NydusError('GUEST_TIMEOUT', 'ETIMEDOUT', words))
      }, ms)
    })
    try {
      return await Promise.race([promise, late])
    } finally {
      clearTimeout(timer)
    }
  }

  #failAll(reason: string): void {
    for (const pending of this.#pending.values())
      pending.reject(new NydusError('GUEST_GONE', 'EIO', `${reason}${this.machine.report()}`))
    this.#pending.clear()
  }

  #receive(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk])
    for (;;) {
      const end = this.#received.indexOf('\n')
      if (end < 0) return
      const [id, status, length] = this.#received.toString('latin1', 0, end).split(' ').map(Number)
      const next = end + 1 + (length ?? 0)
      if (this.#received.length < next) return
      const payload = Buffer.from(this.#received.subarray(end + 1, next))
      this.#received = this.#received.subarray(next)
      const pending = this.#pending.get(id ?? -1)
      this.#pending.delete(id ?? -1)
      if (status === 0) pending?.resolve(payload)
      else pending?.reject(new GuestError(status ?? 0, payload.toString()))
    }
  }
}
