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

export type Job =
  | { readonly id: number; readonly kind: 'files'; readonly parts: readonly FilePart[] }
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
