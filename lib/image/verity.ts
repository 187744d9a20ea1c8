/**
 * The hash tree of dm-verity (Linux Documentation/admin-guide/device-mapper/verity.rst, format 1) behind the data that
 * it guards: sha256 without salt or superblock, blocks of 4096 bytes, the level below the root first.
 */
import { createHash } from 'node:crypto'
import type { Output } from './output.js'

export const VERITY_BLOCK = 4096
const DIGEST = 32
const PER_BLOCK = VERITY_BLOCK / DIGEST
/** Bytes of data that are read at once. */
const PIECE = 1 << 20

export interface Verity {
  readonly dataBlocks: number
  /** Bytes: where the tree starts. */
  readonly hashOffset: number
  /** Hex. */
  readonly rootHash: string
}

function sha256(block: Uint8Array): Buffer {
  return createHash('sha256').update(block).digest()
}

/** Digests of all blocks of `bytes`, one behind the other; the last block is padded with zeros. */
function hashBlocks(bytes: Uint8Array): Buffer {
  const out: Buffer[] = []
  for (let at = 0; at < bytes.length; at += VERITY_BLOCK)
    out.push(sha256(bytes.subarray(at, at + VERITY_BLOCK)))
  return Buffer.concat(out)
}

function padded(digests: Uint8Array): Buffer {
  const length = Math.ceil(digests.length / VERITY_BLOCK) * VERITY_BLOCK
  return Buffer.concat([digests, Buffer.alloc(length - digests.length)])
}

/** Hashes the first `size` bytes (a multiple of the block size) and writes the tree behind them. */
export async function appendVerity(output: Output, size: number): Promise<Verity> {
  const digests: Buffer[] = []
  for (let at = 0; at < size; at += PIECE) {
    const piece = new Uint8Array(Math.min(PIECE, size - at))
    await output.readAt(piece, at)
    digests.push(hashBlocks(piece))
  }
  /** Levels from the data up; each is one digest for each block of the one before. */
  const levels: Buffer[] = []
  let top: Buffer = Buffer.concat(digests)
  while (top.length > DIGEST) {
    const level = padded(top)
    levels.push(level)
    top = hashBlocks(level)
  }
  let at = size
  for (const level of levels.reverse()) {
    await output.writeAt(level, at)
    at += level.length
  }
  return { dataBlocks: size / VERITY_BLOCK, hashOffset: size, rootHash: top.toString('hex') }
}

/** Levels and bytes of a tree over `dataBlocks` blocks. */
export function veritySize(dataBlocks: number): number {
  let blocks = 0
  for (let level = dataBlocks; level > 1;) {
    level = Math.ceil(level / PER_BLOCK)
    blocks += level
  }
  return blocks * VERITY_BLOCK
}
