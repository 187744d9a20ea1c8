/**
 * The typed border to the C++ addon: the only file that loads the `.node`. Nothing else may import it untyped.
 *
 * Every function throws NydusError-shaped errors for system calls: `code` such as `SYS_ENOENT`, `errno`,
 * `syscall` (the addon gets this project's error class once, at load).
 */
import { createRequire } from 'node:module'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { NydusError } from './base/errors.js'

/** Digesters by the addon's numbers (addon/codec/digest.h). */
export const DIGESTER_NUMBER = { blake3: 0, sha256: 1 } as const
type DigesterNumber = (typeof DIGESTER_NUMBER)[keyof typeof DIGESTER_NUMBER]

/** How the vhost-user device of a daemon looks to its front-end. */
export interface VhostDeviceOptions {
  /** Path to listen on; its folder must exist. The caller has removed a stale socket. Mode 0600. */
  readonly path?: string
  /** An inherited listening socket instead of `path`. */
  readonly listenFd?: number
  /** Request queues offered, 1 to 64; the hiprio queue comes on top. */
  readonly requestQueues: number
  /** Lanes that will attach; queue q is served by lane (q - 1) mod lanes, hiprio natively. */
  readonly lanes: number
  /** Upper bound of adaptive polling in µs; 0 turns polling off. */
  readonly pollUs: number
  /** virtio-fs tag for front-ends that ask the back-end for it. */
  readonly tag?: string
}

/** Something the device wants to have logged; `kind` is stable. Rare: never one per request. */
export interface DeviceEvent {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  /** 'listening' | 'connected' | 'disconnected' | 'memory' | 'ring-started' | 'ring-stopped' | 'ring-broken' | 'protocol' | 'refused' | 'session-init' | 'session-destroy' | … */
  readonly kind: string
  readonly message: string
  readonly queue?: number
}

/** One device: a listening socket, at most one front-end at a time, its memory, queues and FUSE session. */
export interface Device {
  /** Process-wide handle that lanes attach to. */
  readonly id: number
  /**
   * Ends a deferred request. `status` 0: sends the extents the lane gave, or those of `extents` (triples
   * file, offset, length) when given; negative: an errno. Copies on the calling thread. False when the request
   * is gone (ring stopped, session ended): nothing was written.
   */
  completeDeferred(ticket: number, status: number, extents?: Float64Array): boolean
  /** Makes every lane return from `turn` with 0, so that it looks into its mailbox. */
  wakeLanes(): void
  /** The kernel's references into mount slot `slot` (LOOKUP, READDIRPLUS, less FORGET); 0 when none is known. */
  lookupCount(slot: number): number
  /** Deferred requests that have not been completed. */
  deferredCount(): number
  /** Counters by name since start: requests, kicks, interrupts, bytes, badRequests, reconnects, … */
  counters(): Record<string, number>
  /** Closes the front-end and the socket (removes its file), answers open requests with EIO, makes every lane return -1. */
  stop(): void
}

/** A lane's end of the ring; lives in the Worker that made it. */
export interface LaneRing {
  /**
   * Completes the last batch (`completed` slots, 0 at first), then waits for the next. Returns how many slots
   * hold a request (>= 1), 0 when the mailbox should be looked at, -1 when the device has stopped. After a batch
   * with deferred slots it does not wait: the lane has to tell the yard about them (0 when there is no request).
   */
  turn(completed: number): number
}

/** Reads a gzip file as a stream and keeps where its last deflate block began, for images that refer to the file. */
export interface GzipIndexer {
  /**
   * Goes on with `src`, the file's next bytes, until they are used up or `dst` is full. `progress` gets: bytes taken,
   * bytes written, block borders passed since the start, 1 when the file may end here (between members). Throws
   * CODEC_CORRUPT with what is wrong.
   */
  step(src: Uint8Array, dst: Uint8Array, progress: Float64Array): void
  /**
   * The last border. `fields` gets: bytes of the file and plain bytes before it, the byte and the bits of
   * a zran entry (lib/cache/unit.ts), members before its own. Fills `dictionary` (32 KiB) and returns how much of it.
   */
  border(fields: Float64Array, dictionary: Uint8Array): number
}

/** Settings of `createJobPool`; sizes in bytes. */
export interface JobPoolOptions {
  readonly threads: number
  readonly slots: number
  /** What a slot takes at most: parts, plain bytes, bytes of paths. */
  readonly parts: number
  readonly bytes: number
  readonly paths: number
  /** 0 none, 1 lz4_block, 2 zstd. */
  readonly compressor: number
  /** Of zstd. */
  readonly level: number
  /** 0 blake3, 1 sha256. */
  readonly digester: number
  readonly chunkSize: number
  /** Files of one chunk and less than this are left as they are; 0 = none. */
  readonly batchLimit: number
  /** Only digests are wanted: no data comes back. */
  readonly discard: boolean
}

/**
 * A job is done: `chunks` results stand in its slot. Failed when `part` is given: `error` says why that part could not be
 * read; without, the file had changed (it has `foundSize` bytes now).
 */
export type JobDone = (
  slot: number,
  chunks: number,
  part?: number,
  foundSize?: number,
  error?: NydusError,
) => void

/** Threads that read, cut, digest and compress for the image builder (addon/build). Keeps the process alive. */
export interface JobPool {
  /** A slot's parts, input, results and data (lib/build/slot.ts): the pool's own memory, for as long as they are used. */
  memory(slot: number): [parts: ArrayBuffer, input: ArrayBuffer, results: ArrayBuffer, data: ArrayBuffer]
  /**
   * Starts a job over the slot's first `parts` parts; its memory must be left alone until it is done. `kind`: 0 parts of
   * files, 1 contents in `input`, 2 the same as one part that is only compressed.
   */
  submit(slot: number, kind: 0 | 1 | 2, parts: number): void
  /** Ends the threads; jobs that have not begun are forgotten. */
  close(): void
}

/** A member (by position) of the `unit`-th unit that ended is not there; `failed`: nothing is known of the whole unit. */
export interface DecodeFailure {
  readonly unit: number
  readonly member: number
  readonly kind: 'damaged' | 'store' | 'failed'
  /** Name, EIO when no system call failed. */
  readonly errno: string
  readonly message: string
}

/**
 * Units over the memory of `stored` and `target`, which must not change (or be detached) until they have ended; records and
 * what they point to are taken over. Records, numbers of compressors: lib/cache/decoder.ts. `cipher`: key and IV, or empty.
 */
export type DecodeUnits = readonly [
  compressor: number,
  digester: DigesterNumber,
  cipher: Uint8Array,
  stored: Uint8Array,
  target: Uint8Array,
  records: Uint8Array,
  extra: Uint8Array,
]

/** Threads that carry units from stored bytes to checked chunks in a file (addon/decode). */
export interface DecodePool {
  /** Throws NATIVE_BAD_ARGUMENT. */
  submit(...units: readonly [...DecodeUnits, urgent: boolean]): void
  /** Puts a unit that waits among the urgent ones. */
  promote(id: number): void
  /** Waits for the units that have begun; others are forgotten, none is reported any more. */
  close(): void
}

export interface Native {
  /** The addon's offsets of the request ring, to compare with lib/fuse/ring.ts. */
  ringLayout(): Record<string, number>

  // addon/sys: files
  /**
   * Maps `length` bytes of `fd` from its start; the fd may be closed afterwards. 'r': private, read-only (a
   * store into it crashes: never do). 'rw': shared. Unmapped when garbage-collected. A page that vanishes under
   * the mapping (file truncated, disk error) reads as zeros and counts in `mappingFaults()`.
   */
  mapFile(fd: number, length: number, mode: 'r' | 'rw'): ArrayBuffer
  mappingFaults(): number
  /**
   * Makes `fd` known for extents, process-wide; returns its file id (>= 1). The addon dups the fd and maps
   * `length` bytes; what lies beyond (a file that grew) is read with pread.
   */
  registerFile(fd: number, length: number): number
  /** Forgets a file id once requests that use it have ended. Ids are never used again. */
  releaseFile(file: number): void
  lgetxattr(path: Uint8Array, name: Uint8Array): Uint8Array
  llistxattr(path: Uint8Array): Uint8Array
  /**
   * Every entry of a folder, `.` and `..` left out, in the order of their names' bytes: records of lib/build/scan-record.ts with what
   * lstat, readlink and the xattr calls say of it. Throws with the path of the entry that could not be read.
   */
  scanFolder(path: Uint8Array): Uint8Array
  lsetxattr(path: Uint8Array, name: Uint8Array, value: Uint8Array): void
  mknod(path: Uint8Array, mode: number, major: number, minor: number): void
  /** Next data (`whence` 3) or hole (4) at or behind `offset`; -1 when there is none (ENXIO). */
  seekData(fd: number, offset: number, whence: 3 | 4): number
  fallocatePunch(fd: number, offset: number, length: number): void
  /**
   * flock(2), exclusive unless `shared`; false when another holds it and `wait` is false: then a lock that `fd` had
   * is gone as well.
   */
  lockFile(fd: number, wait: boolean, shared?: boolean): boolean
  /** RLIMIT_NOFILE as [soft, hard]; Infinity for unlimited. */
  getFileLimit(): [soft: number, hard: number]
  /** Sets the soft (and, where allowed, hard) limit; returns the soft limit in force afterwards. Never throws for lack of rights. */
  setFileLimit(limit: number): number
  /**
   * A descriptor that listens at `path`, mode 0600; the caller removes the file. Who sees it can connect. Throws SYS_*.
   */
  listenUnix(path: string): number
  /**
   * Unmaps the pages of Node's code and constants (used ones come back from the page cache), and gives freed memory back.
   * Returns the bytes of the pages that were resident.
   */
  dropProgramPages(): number
  mount(source: string, target: string, type: string, flags: number, data: string): void
  umount(target: string, flags: number): void

  // addon/codec: synchronous, into the caller's buffer; for Workers
  /** Worst case LZ4_compressBound; returns bytes written, 0 when it does not fit into `dst`. */
  lz4Compress(src: Uint8Array, dst: Uint8Array): number
  zstdCompress(src: Uint8Array, dst: Uint8Array, level: number): number
  createGzipIndexer(): GzipIndexer
  /** Digest (0 blake3, 1 sha256) of `bytes` into the 32 bytes of `into`. */
  digestInto(digester: DigesterNumber, bytes: Uint8Array, into: Uint8Array): void

  // addon/build
  createJobPool(options: JobPoolOptions, done: JobDone): JobPool

  // addon/decode
  /** `ended`: numbers of units that ended since the last call, and what went wrong, in the same order. */
  createDecodePool(
    threads: number,
    ended: (ids: Float64Array, failures: readonly DecodeFailure[]) => void,
  ): DecodePool

  /** On the calling thread; returns what went wrong. */
  decodeUnits(...units: DecodeUnits): readonly DecodeFailure[]

  // addon/vhost, addon/fuse
  createVhostDevice(options: VhostDeviceOptions, onEvent: (event: DeviceEvent) => void): Device
  /** In a Worker: `ring` is a view over the whole SharedArrayBuffer of RING_SIZE bytes. */
  attachLane(deviceId: number, lane: number, ring: Uint8Array): LaneRing
  /** Wakes every lane of every device with -1; for process exit (a lane blocked in native code would hang it). */
  quit(): void

  /** Called once per isolate: the class that native errors are made of. */
  setErrorClass(errorClass: typeof NydusError): void
}

function load(): Native {
  const here = dirname(fileURLToPath(import.meta.url))
  // lib/native.ts when tests run the sources, dist/lib/native.js when built.
  const candidates = [join(here, '..'), join(here, '..', '..')].map(root =>
    join(root, 'build/Release/addon.node'),
  )
  const path = candidates.find(candidate => existsSync(candidate))
  if (path === undefined)
    throw new NydusError(
      'NATIVE_MISSING',
      'ENOSYS',
      `the addon is not built: ${candidates[0]} does not exist; run \`npm run build\``,
    )
  const addon = createRequire(import.meta.url)(path) as Native
  addon.setErrorClass(NydusError)
  return addon
}

export const native: Native = load()
