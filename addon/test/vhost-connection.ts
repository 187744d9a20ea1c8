/**
 * The talk on a vhost-user socket, from the front-end's end: messages, their replies and acknowledgements.
 */
import { closeSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { NydusError } from '../../lib/base/errors.js'
import type { NativeFrontend, VhostMessage } from './native-frontend.js'
import { MESSAGE_FLAG, MessageHeader, PROTOCOL_FEATURE, U64, VHOST, VringState } from './vhost-protocol.js'

/** Which messages ask for an acknowledgement: those of QEMU, those of Rust VMMs, none. */
export type Acks = 'memory' | 'all' | 'none'

export class VhostConnection {
  readonly native: NativeFrontend
  /** Negotiated protocol features; 0 before. */
  protocolFeatures = 0n
  readonly #acks: Acks
  readonly #timeoutMs: number

  constructor(native: NativeFrontend, acks: Acks, timeoutMs: number) {
    this.native = native
    this.#acks = acks
    this.#timeoutMs = timeoutMs
  }

  has(protocolFeature: bigint): boolean {
    return (this.protocolFeatures & protocolFeature) !== 0n
  }

  /** Sends one message; `flags` beside the version. No reply is awaited. */
  send(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
    flags = 0,
  ): void {
    const message = new Uint8Array(MessageHeader.size + payload.length)
    MessageHeader.write(message, {
      request,
      flags: MESSAGE_FLAG.VERSION | flags,
      size: payload.length,
    })
    message.set(payload, MessageHeader.size)
    this.native.send(message, fds)
  }

  /** The next message of the back-end; null when it has closed the connection. */
  async receive(timeoutMs = this.#timeoutMs): Promise<VhostMessage | null> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      // In slices: a back-end in this process may need this thread to answer.
      const message = this.native.receive(2)
      if (message !== undefined) return message
      if (performance.now() > deadline)
        throw new NydusError('FRONTEND_TIMEOUT', 'ETIMEDOUT', `no vhost-user reply within ${timeoutMs} ms`)
      await setImmediate()
    }
  }

  /** The reply to `request`; its fds, if any, belong to the caller. */
  async reply(request: number): Promise<VhostMessage> {
    const message = await this.receive()
    if (message === null) throw closed(request)
    const expected = MESSAGE_FLAG.VERSION | MESSAGE_FLAG.REPLY
    if (message.request === request && message.flags === expected) return message
    for (const fd of message.fds) closeSync(fd)
    throw refused(
      `reply to request ${message.request} with flags ${message.flags}, wanted ${request} and ${expected}`,
    )
  }

  /** A request whose reply is a u64. */
  async ask(request: number): Promise<bigint> {
    this.send(request)
    return U64.read((await this.reply(request)).payload).value
  }

  /** A request without a reply of its own; acknowledged as the options say. Throws FRONTEND_REFUSED. */
  async tell(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
  ): Promise<void> {
    const memory = [VHOST.SET_MEM_TABLE, VHOST.ADD_MEM_REG, VHOST.REM_MEM_REG].some(r => r === request)
    const wanted = this.#acks === 'all' || (this.#acks === 'memory' && memory)
    const ack = wanted && this.has(PROTOCOL_FEATURE.REPLY_ACK)
    this.send(request, payload, fds, ack ? MESSAGE_FLAG.NEED_REPLY : 0)
    if (!ack) return
    const { value } = U64.read((await this.reply(request)).payload)
    if (value !== 0n) throw refused(`the back-end refuses request ${request}`)
  }

  async eventFd(request: number, queue: number, fd: number): Promise<void> {
    await this.tell(request, u64(BigInt(queue)), [fd])
  }
}

export function u64(value: bigint): Uint8Array {
  const out = new Uint8Array(U64.size)
  U64.write(out, { value })
  return out
}

export function state(index: number, num: number): Uint8Array {
  const out = new Uint8Array(VringState.size)
  VringState.write(out, { index, num })
  return out
}

export function refused(message: string): NydusError {
  return new NydusError('FRONTEND_REFUSED', 'EPROTO', message)
}

function closed(request: number): NydusError {
  return new NydusError(
    'FRONTEND_CLOSED',
    'EIO',
    `the back-end closed the connection instead of answering request ${request}`,
  )
}
