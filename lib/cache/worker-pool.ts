/**
 * The chunk Workers of a daemon: started when there is work for them, as many as cores allow, one job after
 * another. A Worker that dies takes its jobs with it: they are rejected with CACHE_WORKER_DIED (their buffers are
 * gone), and the next job starts another Worker.
 */
import { availableParallelism } from 'node:os'
import { Worker, type TransferListItem } from 'node:worker_threads'
import { explain, NydusError } from '../base/errors.js'
import { workerEntry } from '../base/program-files.js'
import type { WorkerJob, WorkerReply, WorkerRequest } from './worker-protocol.js'

/** More would only compete with the lanes; two keep a second core busy while the first reads. */
const MAX_WORKERS = 4
/** Jobs that a Worker has at once: the next one is there when it has finished one. */
const DEPTH = 2

interface Task {
  readonly id: number
  readonly job: WorkerJob | (() => WorkerJob)
  readonly transfer: readonly TransferListItem[]
  readonly options: RunOptions
  readonly resolve: (reply: WorkerReply) => void
  readonly reject: (error: unknown) => void
}

export interface RunOptions {
  /** Gets answers before the last one. */
  readonly onPart?: (reply: WorkerReply) => void
  /** Nobody waits for this job: it gives way to others until this says that somebody does. */
  readonly wanted?: () => boolean
}

interface Slot {
  readonly worker: Worker
  readonly tasks: Map<number, Task>
}

export interface WorkerPoolOptions {
  readonly size?: number
  /** Module that the Workers run; for tests. */
  readonly entry?: URL
}

export class WorkerPool {
  readonly #size: number
  readonly #entry: URL
  readonly #slots = new Set<Slot>()
  readonly #queue: Task[] = []
  #nextId = 1
  #closed = false

  constructor(options: WorkerPoolOptions = {}) {
    this.#size = options.size ?? Math.min(availableParallelism(), MAX_WORKERS)
    this.#entry = options.entry ?? workerEntry('cache/chunk-worker')
  }

  /** Starts the first Worker, so that the first job need not wait for it. */
  warm(): void {
    if (!this.#closed && this.#slots.size === 0) this.#start()
  }

  /**
   * Runs a job; `transfer` is handed over. A job can be made when its turn has come. Rejects with CACHE_WORKER_DIED, or
   * with the job's own failure (EIO).
   */
  run(
    job: WorkerJob | (() => WorkerJob),
    transfer: readonly TransferListItem[],
    options: RunOptions = {},
  ): Promise<WorkerReply> {
    if (this.#closed) return Promise.reject(closedError())
    return new Promise((resolve, reject) => {
      this.#queue.push({ id: this.#nextId++, job, transfer, options, resolve, reject })
      this.#dispatch()
    })
  }

  /** Jobs that were given and not answered. */
  get pending(): number {
    let sum = this.#queue.length
    for (const slot of this.#slots) sum += slot.tasks.size
    return sum
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const task of this.#queue.splice(0)) task.reject(closedError())
    await Promise.all([...this.#slots].map(slot => slot.worker.terminate()))
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      let slot = this.#idlest()
      const busy = slot === undefined || slot.tasks.size > 0
      if (busy && this.#slots.size < this.#size) slot = this.#start()
      if (slot === undefined || slot.tasks.size >= DEPTH) return
      const task = this.#next(slot.tasks.size === 0)
      if (task === undefined) return
      try {
        const job = typeof task.job === 'function' ? task.job() : task.job
        const request: WorkerRequest = { id: task.id, job }
        slot.worker.postMessage(request, task.transfer)
      } catch (error) {
        task.reject(error)
        continue
      }
      slot.tasks.set(task.id, task)
      slot.worker.ref()
    }
  }

  /** The oldest job that somebody waits for; else the oldest, which may only occupy a Worker that has nothing to do. */
  #next(idle: boolean): Task | undefined {
    const at = this.#queue.findIndex(({ options }) => options.wanted?.() !== false)
    if (at < 0) return idle ? this.#queue.shift() : undefined
    return this.#queue.splice(at, 1)[0]
  }

  #idlest(): Slot | undefined {
    let best: Slot | undefined
    for (const slot of this.#slots) if (best === undefined || slot.tasks.size < best.tasks.size) best = slot
    return best
  }

  #start(): Slot {
    const worker = new Worker(this.#entry, { name: 'nydus-chunks' })
    const slot: Slot = { worker, tasks: new Map() }
    this.#slots.add(slot)
    let reason = 'it exited'
    worker.unref()
    worker.on('message', (reply: WorkerReply) => this.#answer(slot, reply))
    worker.on('error', error => {
      reason = explain(error)
    })
    worker.on('exit', () => {
      this.#slots.delete(slot)
      const error = new NydusError('CACHE_WORKER_DIED', 'EIO', `a chunk Worker died: ${reason}`)
      for (const task of slot.tasks.values()) task.reject(this.#closed ? closedError() : error)
      slot.tasks.clear()
      this.#dispatch()
    })
    return slot
  }

  #answer(slot: Slot, reply: WorkerReply): void {
    const task = slot.tasks.get(reply.id)
    if (task === undefined) return
    if (!reply.done) {
      task.options.onPart?.(reply)
      return
    }
    slot.tasks.delete(reply.id)
    if (slot.tasks.size === 0) slot.worker.unref()
    this.#dispatch()
    if (reply.failure === undefined) task.resolve(reply)
    else
      task.reject(
        new NydusError(
          reply.failure.code.startsWith('CODEC_') ? 'CODEC_CORRUPT' : 'CACHE_WORKER_FAILED',
          'EIO',
          reply.failure.message,
        ),
      )
  }
}

function closedError(): NydusError {
  return new NydusError('CACHE_CLOSED', 'EIO', 'the chunk cache was closed')
}
