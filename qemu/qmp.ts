/** A client of QEMU's machine protocol (QMP): commands, their answers, and the events that QEMU sends unasked. */
import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { NydusError } from '../lib/base/errors.js'

/** One line from QEMU; exactly one of `return`, `error` and `event` is there, or `QMP` in the greeting. */
interface Message {
  readonly id?: number
  readonly return?: unknown
  readonly error?: { readonly class: string; readonly desc: string }
  readonly event?: string
}

type Pending = { readonly command: string; resolve(value: unknown): void; reject(error: Error): void }

export class Qmp {
  /** Emits QEMU's events by their names: RESET, SHUTDOWN, DEVICE_DELETED, … */
  readonly events = new EventEmitter()
  readonly #socket: Socket
  readonly #pending = new Map<number, Pending>()
  #lastId = 0

  /** `socket` is connected to QEMU; the greeting may still be on its way. */
  constructor(socket: Socket) {
    this.#socket = socket
    createInterface({ input: socket })
      .on('line', line => this.#receive(JSON.parse(line) as Message))
      .on('error', () => {}) // 'close' follows, and the process's exit tells more
    socket.on('close', () => this.#close())
  }

  /** Leaves the greeting's mode; the first command of every session. */
  async negotiate(): Promise<void> {
    await this.execute('qmp_capabilities')
  }

  /** Runs a command; rejects with QMP_FAILED and QEMU's own words. */
  execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown> {
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(new NydusError('QMP_CLOSED', 'EIO', `QEMU is gone: ${command} can't be sent`))
        return
      }
      this.#pending.set(id, { command, resolve, reject })
      this.#socket.write(JSON.stringify({ execute: command, arguments: args, id }) + '\n')
    })
  }

  /** As the reset button does: the guest boots anew, QEMU and its connections stay. */
  async reset(): Promise<void> {
    await this.execute('system_reset')
  }

  /** Ends QEMU at once, guest or no guest. */
  async quit(): Promise<void> {
    await this.execute('quit')
  }

  /** Plugs `sizeMiB` of shared memory into the running guest. `id` must be new; the machine needs maxMemoryMiB. */
  async addMemory(id: string, sizeMiB: number): Promise<void> {
    const size = sizeMiB * 1024 * 1024
    await this.execute('object-add', { 'qom-type': 'memory-backend-memfd', id, size, share: true })
    await this.execute('device_add', { driver: 'pc-dimm', id: `${id}-dimm`, memdev: id })
  }

  #receive(message: Message): void {
    if (message.event !== undefined) {
      this.events.emit(message.event, message)
      return
    }
    const pending = message.id === undefined ? undefined : this.#pending.get(message.id)
    if (message.id === undefined || pending === undefined) return
    this.#pending.delete(message.id)
    if (message.error === undefined) pending.resolve(message.return)
    else
      pending.reject(
        new NydusError('QMP_FAILED', 'EINVAL', `QEMU refused ${pending.command}: ${message.error.desc}`),
      )
  }

  #close(): void {
    for (const pending of this.#pending.values()) {
      // QEMU may be gone before the answer to `quit` is read: that is what was asked for.
      if (pending.command === 'quit') pending.resolve(undefined)
      else pending.reject(new NydusError('QMP_CLOSED', 'EIO', `QEMU ended during ${pending.command}`))
    }
    this.#pending.clear()
  }
}
