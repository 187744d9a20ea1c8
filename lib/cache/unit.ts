/**
 * Units: what has to be read and decoded in one go to get at a chunk. Most often the chunk itself; a window of
 * many chunks where a builder batched small files, or where a gzip stream can only be entered at some places.
 */

/** A chunk inside the output of a unit. */
export interface Member {
  /** Number of the chunk in its blob; -1 where chunks have none. */
  readonly index: number
  /** First byte in the unit's output. */
  readonly at: number
  readonly size: number
  /** Its place in the data file. */
  readonly uncompressedOffset: number
  readonly crc32?: number
}

/** Entry point into a gzip stream (blobs-and-cache.md §4). */
export interface ZranEntry {
  readonly dictionary: Uint8Array
  readonly byte: number
  readonly bits: number
}

export interface Unit {
  /** Identifies the unit among those of its blob. */
  readonly key: number
  /** Bytes in the blob file. */
  readonly offset: number
  /** Upper bound only where `open` is set: cut to the end of the blob. */
  readonly size: number
  readonly open?: true
  readonly compressed: boolean
  readonly encrypted: boolean
  /** Bytes of the output. */
  readonly outputSize: number
  readonly zran?: ZranEntry
  readonly members: readonly Member[]
}

/** Largest output of a unit: the largest chunk size; windows obey it too (blobs-and-cache.md §3, §4). */
export const MAX_OUTPUT = 16 << 20
/** Most bytes a unit may take in the blob: deflate's and LZ4's worst expansion stays far below. */
export const MAX_STORED = MAX_OUTPUT + (1 << 20)

/** Keys of windows are below zero, those of chunks are not. */
export function windowKey(window: number): number {
  return -1 - window
}
