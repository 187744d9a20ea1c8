/**
 * The lanes of a device, from the yard: starts their Workers, tells them of mounts, replaces one that dies, ends them.
 *
 *     MountTable ── broadcast ── port ── lane
 *     ColdReads  ── deferred  ── port ── lane
 */
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads'
import { explain, NydusError } from '../base/errors.js'
import { silentLog, type Log } from '../base/log.js'
import type { Device } from '../native.js'
import type { ColdRead } from '../vfs/filesystem.js'
import { newCounters } from './counters.js'
import { coldReads } from './deferrals.js'
import {
  received,
  type LaneData,
  type LaneFailure,
  type LaneReport,
  type Versioned,
} from './lane-messages.js'
import { RING_SIZE } from './ring.js'

export interface LanesOptions<Change extends Versioned> {
  readonly device: Pick<Device, 'id' | 'wakeLanes' | 'stop'>
  readonly lanes: number
  /** Module of the Worker (lane-worker.ts). */
  readonly entry: URL
  /** Nobody can change the mounts once the lanes have started (Nodes.fixed). */
  readonly fixedMounts: boolean
  /** All mounts, for a lane that starts to serve. */
  readonly snapshot: () => Change
  readonly onColdReads: (reads: ColdRead[]) => void
  /** native.quit: without it a process that exits would wait for lanes that block in native code. */
  readonly quit: () => void
  readonly log?: Log
  /** Milliseconds that a lane may take to apply a change, and to end. */
  readonly patienceMs?: number
}

const PATIENCE_MS = 30_000
/** A lane that died young before is replaced after a pause, which doubles up to the longest. */
const YOUNG_MS = 10_000
const PAUSE_MS = 100
const LONGEST_PAUSE_MS = 10_000

interface LaneState {
  readonly lane: number
  worker: Worker
  port: MessagePort
  startedAt: number
  /** Mount changes that it has acknowledged. */
  applied: number
  deaths: number
  /** What the last Worker of this lane died of. */
  failure: unknown
  restart: NodeJS.Timeout | undefined
  ended: boolean
}

interface Waiter {
  readonly version: number
  readonly failures: LaneFailure[]
  readonly resolve: (failures: readonly LaneFailure[]) => void
  readonly reject: (error: unknown) => void
  readonly timer: NodeJS.Timeout
}

export class Lanes<Change extends Versioned> {
  /** Counters of slot 0: pseudo folders and what belongs to no mount. */
  readonly counters: SharedArrayBuffer
  readonly #offered = new SharedArrayBuffer(4)
  readonly #options: Required<LanesOptions<Change>>
  readonly #lanes: LaneState[] = []
  readonly #waiters = new Set<Waiter>()
  readonly #onExit = (): void => this.#options.quit()
  #booted = false
  #serving = false
  #stopping = false
  #ended: (() => void) | undefined

  constructor(options: LanesOptions<Change>) {
    this.#options = { log: silentLog, patienceMs: PATIENCE_MS, ...options }
    this.counters = newCounters(options.lanes)
  }

  /**
   * Starts the Workers, which wait for the mounts: a Worker takes 30 ms, in which the yard can prepare them. The socket
   * should listen before.
   */
  boot(): void {
    if (this.#booted) return
    this.#booted = true
    process.on('exit', this.#onExit)
    for (let lane = 0; lane < this.#options.lanes; lane++) this.#lanes.push(this.#spawn(lane))
  }

  /** The mounts are as a guest shall see them first: lanes begin to answer. */
  start(): void {
    this.boot()
    this.#serving = true
    for (const { port } of this.#lanes) port.postMessage(this.#options.snapshot())
  }

  /**
   * Sends a change to all lanes; resolves when all have applied it, with what some could not open. Before `start` there
   * is nobody to tell.
   */
  broadcast(change: Change): Promise<readonly LaneFailure[]> {
    if (!this.#serving || this.#stopping) return Promise.resolve([])
    const { patienceMs } = this.#options
    const done = new Promise<readonly LaneFailure[]>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter)
        reject(this.#late(change.version))
      }, patienceMs)
      const waiter: Waiter = { version: change.version, failures: [], resolve, reject, timer }
      this.#waiters.add(waiter)
    })
    for (const { port } of this.#lanes) port.postMessage(change)
    this.#options.device.wakeLanes()
    return done
  }

  /** Stops the device and waits until every lane has ended. */
  async stop(): Promise<void> {
    this.#stopping = true
    this.#options.device.stop()
    for (const waiter of this.#waiters) this.#settle(waiter)
    for (const state of this.#lanes) {
      clearTimeout(state.restart)
      if (state.restart !== undefined) state.ended = true
      // It waits for mounts, and knows no device yet.
      if (!this.#serving) state.worker.terminate().catch(() => undefined)
    }
    const all = new Promise<void>(resolve => (this.#ended = resolve))
    const timer = setTimeout(() => this.#giveUp(), this.#options.patienceMs)
    this.#checkEnded()
    await all
    clearTimeout(timer)
    process.off('exit', this.#onExit)
  }

  #spawn(lane: number, deaths = 0, failure?: unknown): LaneState {
    const { port1, port2 } = new MessageChannel()
    const data: LaneData = {
      deviceId: this.#options.device.id,
      lane,
      ring: new SharedArrayBuffer(RING_SIZE),
      counters: this.counters,
      port: port2,
      offered: this.#offered,
      fixedMounts: this.#options.fixedMounts,
    }
    if (this.#serving) port1.postMessage(this.#options.snapshot())
    const worker = new Worker(this.#options.entry, {
      workerData: data,
      transferList: [port2],
      name: `lane-${lane}`,
    })
    const state: LaneState = {
      lane,
      worker,
      port: port1,
      startedAt: performance.now(),
      applied: -1,
      deaths,
      failure,
      restart: undefined,
      ended: false,
    }
    port1.on('message', (report: LaneReport) => this.#onReport(state, report))
    port1.unref()
    worker.on('error', error => (state.failure = error))
    worker.on('exit', code => this.#onEnd(state, code))
    return state
  }

  #onReport(state: LaneState, report: LaneReport): void {
    const { lane } = state
    if (report.kind === 'cold') return this.#options.onColdReads(coldReads(report.numbers))
    if (report.kind === 'exception') {
      const { opcode, nodeid, message, count } = report
      this.#options.log.error({ lane, opcode, nodeid, count, error: message }, 'a request failed: EIO')
      return
    }
    state.applied = report.version
    for (const failure of report.failures)
      this.#options.log.error(
        { lane, slot: failure.slot, error: failure.message },
        'a lane cannot open an image',
      )
    for (const waiter of this.#waiters) {
      if (waiter.version === report.version) waiter.failures.push(...report.failures)
      if (this.#lanes.every(({ applied }) => applied >= waiter.version)) this.#settle(waiter)
    }
  }

  #late(version: number): NydusError {
    const late = this.#lanes.filter(({ applied }) => applied < version)
    const names = late.map(({ lane }) => lane).join(', ')
    const cause = late.find(({ failure }) => failure !== undefined)?.failure
    const message = `lane ${names} did not take over a change of the mounts within ${this.#options.patienceMs / 1000} s`
    return new NydusError('FUSE_LANE_LATE', 'ETIMEDOUT', message, { cause })
  }

  #settle(waiter: Waiter): void {
    clearTimeout(waiter.timer)
    this.#waiters.delete(waiter)
    waiter.resolve(waiter.failures)
  }

  #onEnd(state: LaneState, code: number): void {
    // What it said before its end may still lie in the port: cold reads that nobody else knows of.
    for (const report of received<LaneReport>(state.port)) this.#onReport(state, report)
    state.port.close()
    state.ended = true
    if (this.#stopping) return this.#checkEnded()
    const { lane } = state
    const error = state.failure === undefined ? `exit code ${code}` : explain(state.failure)
    this.#options.log.error({ lane, error }, 'a lane ended; it is replaced')
    const young = performance.now() - state.startedAt < YOUNG_MS
    const deaths = young ? state.deaths + 1 : 0
    const pause = deaths <= 1 ? 0 : Math.min(PAUSE_MS * 2 ** (deaths - 2), LONGEST_PAUSE_MS)
    state.restart = setTimeout(() => {
      this.#lanes[lane] = this.#spawn(lane, deaths, state.failure)
    }, pause)
  }

  #checkEnded(): void {
    if (this.#lanes.every(({ ended }) => ended)) this.#ended?.()
  }

  /** A lane that does not end is cut off; nothing waits for it any more. */
  #giveUp(): void {
    for (const { lane, worker, ended } of this.#lanes) {
      if (ended) continue
      this.#options.log.error({ lane }, 'a lane did not end in time')
      worker.terminate().catch(() => undefined)
    }
    this.#ended?.()
  }
}
