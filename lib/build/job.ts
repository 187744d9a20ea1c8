/**
 * What the build and its Workers say to each other. One message a job, one back; bytes are handed over, not
 * copied.
 *
 *     build (order, dedup, layout) ── Job ──> Worker (read, split, digest, compress) ── Done ──> build
 */
import type { Compressor, Digester } from '../cache/cache.js'

export interface WorkerOptions {
  readonly compressor: Compressor
  readonly digester: Digester
  readonly chunkSize: number
  /** Files of one chunk and less than this are left uncompressed, to go into a batch; 0 = none. */
  readonly batchLimit: number
  /** Only digests are wanted: `Done.data` stays empty. */
  readonly discard?: boolean
}

/** A part of a file to be read by the Worker: whole chunks, or the file's rest. */
export interface FilePart {
  readonly path: Uint8Array
  readonly offset: number
  readonly length: number
  /** Size and time of the whole file when it was found; others are an error. */
  readonly fileSize: number
  readonly mtime: number
  readonly mtimeNs: number
}

/** Parts in two buffers that are handed over: hundreds of objects would be copied one by one. */
export interface PackedParts {
  /** Of each part: bytes of its path, then the numbers of FilePart in their order. */
  readonly numbers: Float64Array
  readonly paths: Uint8Array
}

const NUMBERS = 6

export function packParts(parts: readonly FilePart[]): PackedParts {
  const numbers = new Float64Array(parts.length * NUMBERS)
  const paths = new Uint8Array(parts.reduce((sum, part) => sum + part.path.length, 0))
  let at = 0
  parts.forEach(({ path, offset, length, fileSize, mtime, mtimeNs }, i) => {
    numbers.set([path.length, offset, length, fileSize, mtime, mtimeNs], i * NUMBERS)
    paths.set(path, at)
    at += path.length
  })
  return { numbers, paths }
}

export function* unpackParts({ numbers, paths }: PackedParts): Generator<FilePart> {
  let at = 0
  for (let i = 0; i < numbers.length; i += NUMBERS) {
    const [pathLength = 0, offset = 0, length = 0, fileSize = 0, mtime = 0, mtimeNs = 0] = numbers.subarray(i, i + NUMBERS)
    yield { path: paths.subarray(at, at + pathLength), offset, length, fileSize, mtime, mtimeNs }
    at += pathLength
  }
}

export type Job =
  | { readonly id: number; readonly kind: 'files'; readonly parts: PackedParts }
  /** Content that came in a stream: parts one behind the other; `fileSizes` are those of the whole files. */
  | {
      readonly id: number
      readonly kind: 'bytes'
      readonly bytes: Uint8Array
      readonly lengths: readonly number[]
      readonly fileSizes: readonly number[]
    }
  /** Compress only: a batch of small chunks. */
  | { readonly id: number; readonly kind: 'batch'; readonly bytes: Uint8Array }

/** Chunks of a job, one behind the other. */
export interface Done {
  readonly id: number
  /** Chunks in each part of the job. */
  readonly counts: Uint32Array
  /** 32 bytes a chunk; empty for a batch. */
  readonly digests: Uint8Array
  /** CRC-32C of each plain chunk. */
  readonly crcs: Uint32Array
  readonly plainSizes: Uint32Array
  readonly storedSizes: Uint32Array
  /** 1: compressed. */
  readonly compressed: Uint8Array
  /** The stored bytes of all chunks. */
  readonly data: Uint8Array
}

export interface Failed {
  readonly id: number
  readonly code: string
  readonly message: string
}
