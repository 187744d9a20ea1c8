/**
 * The typed border to frontend.node, the native half of the test front-end: the only file that loads it.
 *
 * Guest memory, rings and the interrupt thread are native (addon/test/frontend); what is said on the vhost-user
 * socket is decided in TypeScript.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { NydusError } from '../../lib/base/errors.js'

/** One answer to a FUSE request. */
export interface Completion {
  readonly unique: number
  /** 0 or a negative errno. */
  readonly error: number
  readonly body: Uint8Array
  /** What is wrong with the reply by vhost and FUSE rules; empty when nothing is. */
  readonly problem: string
}

export interface QueueState {
  readonly size: number
  /** Guest addresses of the ring's three parts. */
  readonly descriptors: number
  readonly avail: number
  readonly used: number
  /** used.idx: where a back-end that starts again goes on. */
  readonly usedIndex: number
  readonly kickFd: number
  readonly callFd: number
  readonly errorFd: number
  /** Times the back-end signalled `errorFd`. */
  readonly errors: number
  readonly inFlight: number
  readonly kicks: number
  readonly interrupts: number
}

/** A used element that no request asked for. */
export interface Stray {
  readonly id: number
  readonly length: number
}

/** A vhost-user message from the back-end. The receiver closes the fds. */
export interface VhostMessage {
  readonly request: number
  readonly flags: number
  readonly payload: Uint8Array
  readonly fds: number[]
}

export interface BenchTarget {
  readonly nodeid: number | bigint
  readonly fh: number | bigint
  /** Bytes of a file. */
  readonly size: number
  /** For lookups: a name in the folder `nodeid`. */
  readonly name: Uint8Array
}

export interface NativeBenchOptions {
  readonly kind: 'read' | 'seq' | 'getattr' | 'lookup' | 'stat' | 'readdirplus'
  readonly size: number
  readonly depth: number
  readonly poll: boolean
  readonly seconds: number
  readonly maxOps: number
  readonly seed: number
  /**
   * `read`: one of so many reads is of the next MiB from byte `coldFrom` on, each of which is read once, the others are
   * of the bytes below. 0: all are of the whole target.
   */
  readonly coldEvery: number
  readonly coldFrom: number
  readonly targets: readonly BenchTarget[]
}

export interface BenchResult {
  readonly ops: number
  /** Bytes of reply bodies. */
  readonly bytes: number
  readonly nanoseconds: number
  /** Replies with an error or of the wrong length. */
  readonly errors: number
  /** Replies whose used.len was not their length. */
  readonly wrongUsedLengths: number
  readonly kicks: number
  readonly interrupts: number
  /** Latency percentiles in ns. */
  readonly p50: number
  readonly p99: number
  readonly p999: number
  /** Why it ended early; empty when it did not. */
  readonly problem: string
}

export interface NativeFrontend {
  /** A memfd; returns its fd, which stays the front-end's own. Files are numbered from 0. */
  addFile(size: number): number
  addRegion(file: number, gpa: number, size: number, offset: number): void
  /** Where guest address 0 is mapped: what has to be added to a guest address to get a "user address". */
  base(): number
  readMemory(gpa: number, length: number): Uint8Array
  writeMemory(gpa: number, bytes: Uint8Array): void
  /** Guest address of zeroed memory that is never used otherwise. */
  allocate(length: number, alignment: number): number
  connect(path: string): void
  disconnect(): void
  /** Sends bytes as they are. */
  send(bytes: Uint8Array, fds: readonly number[]): void
  /** Undefined: nothing has come within the time; null: the back-end has closed the connection. */
  receive(timeoutMs: number): VhostMessage | null | undefined
  /** Makes queues in guest memory (those that there were are gone) and starts their interrupt thread. */
  makeQueues(
    count: number,
    size: number,
    eventIdx: boolean,
    indirect: boolean,
    checkUsedLength: boolean,
  ): void
  queue(index: number): QueueState
  resetQueue(index: number): void
  kick(index: number): void
  strays(index: number): Stray[]
  /** Returns the request's unique number, 0 when ring or memory are full. */
  submit(
    queue: number,
    opcode: number,
    nodeid: number | bigint,
    parts: readonly Uint8Array[],
    replyCapacity: number,
    pages: boolean,
    replies: boolean,
    sync: boolean,
  ): number
  /** Blocks until a request submitted with `sync` is answered; null when it takes too long. */
  wait(unique: number, timeoutMs: number): Completion | null
  bench(queues: readonly number[], options: NativeBenchOptions): Promise<BenchResult>
  close(): void
}

interface FrontendAddon {
  setErrorClass(errorClass: typeof NydusError): void
  readonly Frontend: new (
    addressSpace: number,
    onBatch: (batch: readonly Completion[]) => void,
  ) => NativeFrontend
}

function load(): FrontendAddon {
  // addon/test when tests run the sources, dist/addon/test when built.
  const candidates = ['../..', '../../..'].map(root =>
    join(import.meta.dirname, root, 'build/Release/frontend.node'),
  )
  const path = candidates.find(candidate => existsSync(candidate))
  if (path === undefined)
    throw new NydusError(
      'NATIVE_MISSING',
      'ENOSYS',
      `the test front-end is not built: ${candidates[0]} does not exist; run \`npm run build:addon\``,
    )
  const addon = createRequire(import.meta.url)(path) as FrontendAddon
  addon.setErrorClass(NydusError)
  return addon
}

export const { Frontend } = load()
