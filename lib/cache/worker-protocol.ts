/**
 * What the yard and a chunk Worker say to each other. One job is one message with the compressed bytes handed
 * over, and one answer (two when somebody waits for the first units); nothing is copied but numbers.
 */
import type { Coding, Expected, UnitCoding } from './decode.js'

/** A member to check, and where to put it. */
export interface MemberTask extends Expected {
  /** Position in the unit's output, and bytes. */
  readonly at: number
  readonly size: number
  /** Where it goes in the file `ChunkJob.fd`; undefined when the whole output is stored. */
  readonly position?: number
}

export interface UnitTask extends UnitCoding {
  /** Where the stored bytes lie in the job's buffer. */
  readonly start: number
  readonly size: number
  readonly members: readonly MemberTask[]
  /** Store the whole output there, whatever its members' checks say. */
  readonly position?: number
  /** File to write to. */
  readonly fd: number
}

/** Decode, check and store units. */
export interface ChunkJob {
  readonly kind: 'chunks'
  readonly coding: Coding
  readonly buffer: ArrayBuffer
  /** Somebody waits for so many units at the front: they are reported before the rest is done. */
  readonly urgent: number
  readonly units: readonly UnitTask[]
}

/** Decrypt and decompress a chunk table and its header into a blob.meta image. */
export interface TableJob {
  readonly kind: 'table'
  readonly coding: Coding
  readonly buffer: ArrayBuffer
  readonly encrypted: boolean
  /** Bytes of the stored table in `buffer`; the header follows. */
  readonly storedSize: number
  readonly plainSize: number
  /** Bytes of the result; the header is its last part. */
  readonly resultSize: number
  readonly headerSize: number
}

/** Check chunks that were stored earlier. */
export interface RecheckJob {
  readonly kind: 'recheck'
  readonly coding: Coding
  readonly fd: number
  readonly members: readonly (Expected & { readonly position: number; readonly size: number })[]
}

export type WorkerJob = ChunkJob | TableJob | RecheckJob

/** undefined: checked and stored. */
export type MemberResult =
  | undefined
  | { readonly kind: 'damaged'; readonly message: string }
  | { readonly kind: 'store'; readonly message: string; readonly errno: string }

export interface WorkerReply {
  readonly id: number
  /** False: more comes. */
  readonly done: boolean
  /** 'chunks': results by unit, from unit `first` on. 'recheck': one list. */
  readonly first?: number
  readonly results?: readonly (readonly MemberResult[])[]
  /** 'table': the result. 'chunks': the job's buffer, given back. */
  readonly buffer?: ArrayBuffer
  /** The job as a whole failed. */
  readonly failure?: { readonly code: string; readonly message: string }
}

export interface WorkerRequest {
  readonly id: number
  readonly job: WorkerJob
}
