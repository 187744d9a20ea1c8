/**
 * A lane: the loop that serves requests, in a Worker of its own.
 *
 *     mounts ── turn ── n requests ── Server answers each ── turn (completes them, waits for the next)
 *                 └──── 0: the mailbox has a change of the mounts
 *
 * It runs until the device stops and never returns to the event loop, so what the yard has to say comes through a
 * port that is read synchronously. It knows mounts only as `LaneTree`.
 */
import { explain, NydusError } from '../base/errors.js'
import type { LaneRing } from '../native.js'
import type { Nodes } from '../vfs/filesystem.js'
import { Deferrals } from './deferrals.js'
import {
  received,
  type LaneData,
  type LaneFailure,
  type LaneReport,
  type Versioned,
} from './lane-messages.js'
import type { RingMemory } from './ring-memory.js'
import { Server } from './server.js'

/** At most one report of exceptions in this time. */
const REPORT_INTERVAL_MS = 1000

/** The mounts, as a lane uses them: nodes to serve, and changes to apply. */
export interface LaneTree<Change extends Versioned> extends Nodes {
  apply(change: Change): readonly { readonly slot: number; readonly error: unknown }[]
}

export class Lane<Change extends Versioned> {
  readonly server: Server
  readonly #ring: LaneRing
  readonly #port: Pick<LaneData, 'port'>['port']
  readonly #tree: LaneTree<Change>
  readonly #deferrals = new Deferrals()
  #exceptions = 0
  #lastReport = -Infinity

  constructor(
    ring: LaneRing,
    memory: RingMemory,
    tree: LaneTree<Change>,
    data: Pick<LaneData, 'port' | 'offered'>,
  ) {
    this.#ring = ring
    this.#port = data.port
    this.#tree = tree
    this.server = new Server(memory, tree, this.#deferrals, {
      offered: new Uint32Array(data.offered),
      onException: (opcode, nodeid, error) => this.#reportException(opcode, nodeid, error),
    })
  }

  /** Serves until the device stops. `mounts`: those that a guest sees first; without them it sees an empty root. */
  run(mounts?: Change): void {
    if (mounts !== undefined) this.#apply(mounts)
    const { server } = this
    const ring = this.#ring
    const deferrals = this.#deferrals
    for (let count = 0; ;) {
      count = ring.turn(count)
      // The last batch was handed over: from here on the addon knows the tickets of its deferred reads.
      if (!deferrals.empty) this.#reportColdReads()
      if (count < 0) return
      if (count === 0) this.#readMailbox()
      for (let index = 0; index < count; index++) server.handle(index)
    }
  }

  #readMailbox(): void {
    for (const change of received<Change>(this.#port)) this.#apply(change)
  }

  #apply(change: Change): void {
    const failures = this.#tree.apply(change).map(({ slot, error }) => asFailure(slot, error))
    this.server.mountsChanged()
    this.#report({ kind: 'applied', version: change.version, failures })
  }

  #reportColdReads(): void {
    const numbers = this.#deferrals.take()
    this.#port.postMessage({ kind: 'cold', numbers } satisfies LaneReport, [numbers.buffer])
  }

  #reportException(opcode: number, nodeid: number, error: unknown): void {
    this.#exceptions++
    if (performance.now() - this.#lastReport < REPORT_INTERVAL_MS) return
    this.#lastReport = performance.now()
    const count = this.#exceptions
    this.#exceptions = 0
    this.#report({ kind: 'exception', opcode, nodeid, message: explain(error), count })
  }

  #report(report: LaneReport): void {
    this.#port.postMessage(report)
  }
}

function asFailure(slot: number, error: unknown): LaneFailure {
  const known = error instanceof NydusError
  return {
    slot,
    code: known ? error.code : 'VFS_OPEN',
    errno: known ? error.errno : 'EIO',
    message: explain(error),
  }
}
