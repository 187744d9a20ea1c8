/** The guest's side of a benchmark: a front-end that is connected, and INIT answered. */
import { FuseClient } from '../../addon/test/fuse-client.js'
import { VhostFrontend } from '../../addon/test/frontend.js'
import { NydusError } from '../../lib/base/errors.js'
import type { Server } from './servers.js'

export interface GuestOptions {
  /** Request queues; 1 when left out. */
  readonly queues?: number
  /** For each request, milliseconds. */
  readonly timeoutMs?: number
}

export interface Guest {
  readonly frontend: VhostFrontend
  readonly fuse: FuseClient
}

/** Of a server that loses the first kick; a machine that does it each time has something else. */
const STARTS = 3
const QUEUE_SIZE = 1024
const MEMORY = 256 << 20
/** As on a PC: there is no memory between the two. */
const LOW_END = 0xa0000
const HIGH_START = 0xc0000

/** Connects to a server that listens. Nothing is left open when it fails. */
export async function connectGuest(server: Server, options: GuestOptions = {}): Promise<Guest> {
  const frontend = new VhostFrontend({
    path: server.socket,
    queueSize: QUEUE_SIZE,
    requestQueues: options.queues ?? 1,
    checkUsedLength: server.kind.usedLength,
    regions: [
      { gpa: 0, size: LOW_END, file: 0, offset: 0 },
      { gpa: HIGH_START, size: MEMORY - HIGH_START, file: 0, offset: HIGH_START },
    ],
    ...(options.timeoutMs !== undefined && { timeoutMs: options.timeoutMs }),
  })
  try {
    await frontend.connect()
    await frontend.start()
    const fuse = new FuseClient(frontend)
    await fuse.init()
    return { frontend, fuse }
  } catch (error) {
    frontend.close()
    throw error
  }
}

/**
 * Starts a server and connects to it. On a busy machine nydusd 2.2 loses the first kick in one of 60 starts, and INIT
 * stays without an answer: it is started again. Ours has one try.
 */
export async function serve(
  start: () => Promise<Server>,
  options: GuestOptions = {},
): Promise<Guest & { readonly server: Server }> {
  for (let starts = 1; ; starts++) {
    const server = await start()
    try {
      return { server, ...(await connectGuest(server, options)) }
    } catch (error) {
      await server.stop()
      if (server.kind.name === 'nydus-ts' || starts === STARTS || !isTimeout(error)) throw error
    }
  }
}

/** A request had no answer in time. */
export function isTimeout(error: unknown): boolean {
  return error instanceof NydusError && error.code === 'FRONTEND_TIMEOUT'
}
