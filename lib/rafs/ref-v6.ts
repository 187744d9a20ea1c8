/**
 * How a lane names a chunk of a v6 image to the yard: where its index record is, and how many plain bytes the chunk
 * has (the record does not say; the last chunk of a file is shorter). Both fit into one double: records are
 * 8-aligned in a bootstrap of at most 4 GiB (29 bits), a chunk has 1 to 2^24 bytes (24 bits).
 */
import { MAX_CHUNK_SIZE } from './layout/flags.js'
import { ChunkIndexV6 } from './layout/v6.js'

/** Biggest bootstrap that can be mapped (an ArrayBuffer of Node 20) and packed. */
export const MAX_BOOTSTRAP_SIZE = 2 ** 32

export function packRefV6(recordOffset: number, length: number): number {
  return (recordOffset / ChunkIndexV6.size) * MAX_CHUNK_SIZE + (length - 1)
}

export function recordOfRefV6(ref: number): number {
  return Math.floor(ref / MAX_CHUNK_SIZE) * ChunkIndexV6.size
}

export function lengthOfRefV6(ref: number): number {
  return (ref % MAX_CHUNK_SIZE) + 1
}
