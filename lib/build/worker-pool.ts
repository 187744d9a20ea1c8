/**
 * The build's Workers: takes jobs, keeps every core busy, answers each job with a promise. The caller bounds what is
 * under way (`full`), and with it the memory.
 */
import { availableParallelism } from 'node:os'
import { Worker, type TransferListItem } from 'node:worker_threads'
import { NydusError, type Code } from '../base/errors.js'
import { workerEntry } from '../base/program-files.js'
import type { Done, Failed, Job, WorkerOptions } from './job.js'

type JobBody = Job extends infer J ? (J extends Job ? Omit<J, 'id'> : never) : never

interface Waiting {
  readonly resolve: (done: Done) => void
  readonly reject: (error: Error) => void
}

export class WorkerPool {
  readonly #workers: Worker[] = []
  readonly #load: number[] = []
  readonly #waiting = new Map<number, Waiting>()
  #next = 0
  #failed: Error | undefined
  /** Jobs that may be under way: two for each Worker, so that none waits for its next. */
  readonly depth: number

  constructor(options: WorkerOptions, count = Math.max(1, Math.min(8, availableParallelism()))) {
    this.depth = count * 2
    for (let i = 0; i < count; i++) {
      // Plain JavaScript that needs none of the loaders this process may have been started with.
      const worker = new Worker(workerEntry('build/build-worker'), { workerData: options, execArgv: [] })
      worker.on('message', (message: Done | Failed) => this.#answer(i, message))
      worker.on('error', error => this.#fail(error))
      this.#workers.push(worker)
      this.#load.push(0)
    }
  }

  run(body: JobBody): Promise<Done> {
    if (this.#failed !== undefined) return Promise.reject(this.#failed)
    const id = this.#next++
    let least = 0
    for (let i = 1; i < this.#load.length; i++) if ((this.#load[i] ?? 0) < (this.#load[least] ?? 0)) least = i
    this.#load[least] = (this.#load[least] ?? 0) + 1
    const worker = this.#workers[least] as Worker
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      const job = { ...body, id } as Job
      worker.postMessage(job, transferOf(job))
    })
  }

  #answer(worker: number, message: Done | Failed): void {
    this.#load[worker] = (this.#load[worker] ?? 1) - 1
    const waiting = this.#waiting.get(message.id)
    this.#waiting.delete(message.id)
    if ('message' in message) waiting?.reject(new NydusError(message.code as Code, 'EIO', message.message))
    else waiting?.resolve(message)
  }

  #fail(error: Error): void {
    this.#failed = error
    for (const waiting of this.#waiting.values()) waiting.reject(error)
    this.#waiting.clear()
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map(worker => worker.terminate()))
  }
}

function transferOf(job: Job): TransferListItem[] {
  const buffers =
    job.kind === 'files' ? [job.parts.numbers.buffer, job.parts.paths.buffer] : [job.bytes.buffer]
  return buffers as ArrayBuffer[]
}
