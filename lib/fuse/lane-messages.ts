/**
 * What a lane and the yard tell each other, besides requests.
 */
import { receiveMessageOnPort, type MessagePort } from 'node:worker_threads'

/** What lies in a port, without waiting for the event loop: the other end may be gone by then, or there is none. */
export function* received<Message>(port: MessagePort): Generator<Message> {
  for (;;) {
    const next: { message: Message } | undefined = receiveMessageOnPort(port)
    if (next === undefined) return
    yield next.message
  }
}

/** A change of the mounts; lib/vfs/changes.ts says what is in it. */
export interface Versioned {
  readonly version: number
}

/** `workerData` of a lane's Worker. */
export interface LaneData {
  readonly deviceId: number
  readonly lane: number
  /** The request ring, RING_SIZE bytes, this lane's alone. */
  readonly ring: SharedArrayBuffer
  /** Counters of slot 0: a stripe per lane. */
  readonly counters: SharedArrayBuffer
  readonly port: MessagePort
  /** One word: the flags that the guest's kernel offered in INIT, for all lanes (init.ts). */
  readonly offered: SharedArrayBuffer
  /** The mounts that the lane starts with never change (Nodes.fixed). */
  readonly fixedMounts: boolean
}

/** An image that a lane could not open, as plain data. */
export interface LaneFailure {
  readonly slot: number
  readonly code: string
  readonly errno: string
  readonly message: string
}

export type LaneReport =
  /** All mount changes up to `version` are in force. */
  | { readonly kind: 'applied'; readonly version: number; readonly failures: readonly LaneFailure[] }
  /** Deferred reads (deferrals.ts), after the batch was handed over. */
  | { readonly kind: 'cold'; readonly numbers: Float64Array }
  /** A request ended in an exception; one report a second at most, `count` of them since the last. */
  | {
      readonly kind: 'exception'
      readonly opcode: number
      readonly nodeid: number
      readonly message: string
      readonly count: number
    }
