/**
 * FUSE requests of the test front-end as promises: many in flight, each with a deadline; what does not fit into the
 * ring waits, as in a guest.
 */
import { NydusError } from '../../lib/base/errors.js'
import { OP, OPCODES } from '../../lib/fuse/abi.js'
import { Frontend } from './native-frontend.js'
import type { Completion, NativeFrontend } from './native-frontend.js'

export interface FuseReply {
  /** 0 or a negative errno. */
  readonly error: number
  readonly body: Uint8Array
}

export interface RequestOptions {
  /** Queue index; by default 1, for FORGET 0. */
  readonly queue?: number
  readonly timeoutMs?: number
}

/** Requests whose answer goes to page-cache pages in Linux. */
const PAGED: ReadonlySet<number> = new Set([OP.READ, OP.READDIR, OP.READDIRPLUS, OP.READLINK])
const FORGETS: ReadonlySet<number> = new Set([OP.FORGET, OP.BATCH_FORGET])
const NAMES: ReadonlyMap<number, string> = new Map(OPCODES.map(op => [op.code, op.name]))

interface Submission {
  readonly queue: number
  readonly opcode: number
  readonly nodeid: number | bigint
  readonly parts: readonly Uint8Array[]
  readonly capacity: number
}

interface Waiting {
  readonly submission: Submission
  readonly resolve: (reply: FuseReply) => void
  readonly reject: (error: NydusError) => void
}

export class Requests {
  readonly native: NativeFrontend
  readonly #timeoutMs: number
  readonly #inFlight = new Map<number, Waiting>()
  readonly #backlog = new Set<Waiting>()

  /** `addressSpace`: guest addresses are below it. */
  constructor(addressSpace: number, timeoutMs: number) {
    this.#timeoutMs = timeoutMs
    this.native = new Frontend(addressSpace, batch => {
      for (const completion of batch) this.#complete(completion)
      this.#sendBacklog()
    })
  }

  /** Sends a request; `parts` are its arguments, each a descriptor of its own. Rejects for a reply that breaks the rules. */
  send(
    opcode: number,
    nodeid: number | bigint,
    parts: readonly Uint8Array[],
    capacity: number,
    options: RequestOptions = {},
  ): Promise<FuseReply> {
    const submission = { queue: queueOf(opcode, options), opcode, nodeid, parts, capacity }
    return new Promise((resolve, reject) => {
      const timeoutMs = options.timeoutMs ?? this.#timeoutMs
      const timer = setTimeout(() => {
        this.#backlog.delete(waiting)
        reject(failure('FRONTEND_TIMEOUT', 'ETIMEDOUT', submission, `no answer within ${timeoutMs} ms`))
      }, timeoutMs)
      const waiting: Waiting = {
        submission,
        resolve: reply => {
          clearTimeout(timer)
          resolve(reply)
        },
        reject: error => {
          clearTimeout(timer)
          reject(error)
        },
      }
      this.#backlog.add(waiting)
      this.#sendBacklog()
    })
  }

  /**
   * The same, blocking this thread. Not for requests that need this thread to be answered (a back-end in this
   * process, with something to fetch).
   */
  sendSync(
    opcode: number,
    nodeid: number | bigint,
    parts: readonly Uint8Array[],
    capacity: number,
    options: RequestOptions = {},
  ): FuseReply {
    const submission = { queue: queueOf(opcode, options), opcode, nodeid, parts, capacity }
    const unique = this.#submit(submission, true)
    if (unique === 0) throw failure('FRONTEND_FULL', 'EAGAIN', submission, 'the ring is full')
    const completion = this.native.wait(unique, options.timeoutMs ?? this.#timeoutMs)
    if (completion === null) throw failure('FRONTEND_TIMEOUT', 'ETIMEDOUT', submission, 'no answer')
    const problem = problemOf(completion, submission)
    if (problem !== undefined) throw problem
    return { error: completion.error, body: completion.body }
  }

  /** Requests without an answer yet. */
  get count(): number {
    return this.#inFlight.size + this.#backlog.size
  }

  /** Ends all of them: nobody will answer. */
  fail(reason: string): void {
    const all = [...this.#inFlight.values(), ...this.#backlog]
    this.#inFlight.clear()
    this.#backlog.clear()
    for (const { submission, reject } of all) reject(failure('FRONTEND_CLOSED', 'EIO', submission, reason))
  }

  #submit(submission: Submission, sync: boolean): number {
    const { queue, opcode, nodeid, parts, capacity } = submission
    const forget = FORGETS.has(opcode)
    return this.native.submit(queue, opcode, nodeid, parts, capacity, PAGED.has(opcode), !forget, sync)
  }

  #sendBacklog(): void {
    for (const waiting of this.#backlog) {
      const unique = this.#submit(waiting.submission, false)
      if (unique === 0) return
      this.#backlog.delete(waiting)
      this.#inFlight.set(unique, waiting)
    }
  }

  #complete(completion: Completion): void {
    const waiting = this.#inFlight.get(completion.unique)
    if (waiting === undefined) return
    this.#inFlight.delete(completion.unique)
    const problem = problemOf(completion, waiting.submission)
    if (problem === undefined) waiting.resolve({ error: completion.error, body: completion.body })
    else waiting.reject(problem)
  }
}

function queueOf(opcode: number, options: RequestOptions): number {
  return options.queue ?? (FORGETS.has(opcode) ? 0 : 1)
}

function failure(
  code: 'FRONTEND_TIMEOUT' | 'FRONTEND_FULL' | 'FRONTEND_CLOSED' | 'FRONTEND_BAD_REPLY',
  errno: 'ETIMEDOUT' | 'EAGAIN' | 'EIO',
  { opcode, nodeid, queue }: Submission,
  problem: string,
): NydusError {
  const name = NAMES.get(opcode) ?? `opcode ${opcode}`
  return new NydusError(code, errno, `${name} of node ${nodeid} on queue ${queue}: ${problem}`)
}

function problemOf(completion: Completion, submission: Submission): NydusError | undefined {
  if (completion.problem === '') return undefined
  return failure('FRONTEND_BAD_REPLY', 'EIO', submission, completion.problem)
}
