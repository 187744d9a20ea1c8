/**
 * The least of a Dragonfly scheduler that dfdaemon needs to start: gRPC over HTTP/2 without TLS, and answers that are
 * the same for all who ask. It knows no peers, so whoever wants to download is sent to the source.
 *
 *     /grpc.health.v1.Health/Check          → SERVING; without it dfdaemon does not start
 *     /scheduler.v2.Scheduler/AnnounceHost  → empty; without it dfdaemon does not start
 *     /scheduler.v2.Scheduler/DeleteHost    → empty
 *     /scheduler.v2.Scheduler/AnnouncePeer  → a stream: "back to source" for the first message
 *
 * Source: github.com/dragonflyoss/api, proto/scheduler.proto; gRPC's PROTOCOL-HTTP2.md for the frames.
 */
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { listen } from './ports.js'

/** HealthCheckResponse: field 1, status = 1 (SERVING). */
const SERVING = Buffer.of(0x08, 1)
/** google.protobuf.Empty. */
const EMPTY = Buffer.alloc(0)
/** AnnouncePeerResponse: field 3, need_back_to_source_response = {}. */
const BACK_TO_SOURCE = Buffer.of(0x1a, 0)

const UNIMPLEMENTED = '12'

export class DragonflyScheduler {
  /** Paths that were asked, in order. */
  readonly calls: string[] = []
  readonly #server: Http2Server
  readonly #sessions = new Set<ServerHttp2Session>()
  #port = 0

  private constructor() {
    this.#server = createServer()
    this.#server.on('session', (session: ServerHttp2Session) => {
      this.#sessions.add(session)
      session.on('close', () => this.#sessions.delete(session))
      session.on('error', () => {})
    })
    this.#server.on('stream', (stream: ServerHttp2Stream, headers: Readonly<Record<string, unknown>>) =>
      this.#serve(stream, String(headers[':path'])),
    )
  }

  static async start(): Promise<DragonflyScheduler> {
    const scheduler = new DragonflyScheduler()
    scheduler.#port = await listen(scheduler.#server)
    return scheduler
  }

  get host(): string {
    return `127.0.0.1:${this.#port}`
  }

  /** As a process that is killed. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return
    const closed = new Promise(resolve => this.#server.close(resolve))
    for (const session of this.#sessions) session.destroy()
    await closed
  }

  #serve(stream: ServerHttp2Stream, path: string): void {
    this.calls.push(path)
    stream.on('error', () => {})
    switch (path) {
      case '/grpc.health.v1.Health/Check':
        begin(stream).end(message(SERVING))
        return
      case '/scheduler.v2.Scheduler/AnnounceHost':
      case '/scheduler.v2.Scheduler/DeleteHost':
        begin(stream).end(message(EMPTY))
        return
      case '/scheduler.v2.Scheduler/AnnouncePeer':
        begin(stream).once('data', () => stream.write(message(BACK_TO_SOURCE)))
        stream.on('end', () => stream.end())
        return
      default:
        stream.respond(
          { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': UNIMPLEMENTED },
          { endStream: true },
        )
    }
  }
}

/** Sends the head, and sees to the status behind the last message. */
function begin(stream: ServerHttp2Stream): ServerHttp2Stream {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
  return stream.resume()
}

/** A gRPC frame: not compressed, length in four bytes big endian, bytes. */
function message(bytes: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(bytes.length, 1)
  return Buffer.concat([head, bytes])
}
