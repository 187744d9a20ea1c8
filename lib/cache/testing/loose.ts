/** Blobs whose chunks have no numbers. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { patternBlob } from '../../backend/testing/blob-server.js'
import { digestOf } from '../../base/testing/digest.js'
import { BLOB_FEATURE, type BlobInfo, type ChunkWant } from '../cache.js'

export interface WantedBlob {
  readonly info: BlobInfo
  readonly wants: readonly ChunkWant[]
}

/** A blob of a v5 image as an image of 2020 has it. */
export function asOf2020({ info, wants }: WantedBlob): WantedBlob {
  return {
    info: { ...info, chunkCount: 0, compressedSize: 0, uncompressedSize: 0, features: 0 },
    wants: wants.map(want => ({
      ...want,
      index: -1,
      ...(want.record && { record: { ...want.record, index: -1 } }),
    })),
  }
}

const TAR_BLOCK = 512

/** A tar in `dir` with `count` files of `size` bytes each, as a tarfs image refers to it. */
export function tarBlob(dir: string, count: number, size: number): WantedBlob {
  const step = TAR_BLOCK + Math.ceil(size / TAR_BLOCK) * TAR_BLOCK
  const bytes = patternBlob(count * step)
  const id = 'ab'.repeat(32)
  writeFileSync(join(dir, id), bytes)
  const wants = Array.from({ length: count }, (_, i): ChunkWant => {
    const uncompressedOffset = i * step + TAR_BLOCK
    const place = { index: -1, uncompressedOffset, uncompressedSize: size }
    const digest = digestOf('sha256', bytes.subarray(uncompressedOffset, uncompressedOffset + size))
    const stored = { compressedOffset: uncompressedOffset, compressedSize: size }
    return { ...place, digest, record: { ...place, ...stored, compressed: false, encrypted: false } }
  })
  const info: BlobInfo = {
    id,
    blobIndex: 0,
    rafsVersion: 6,
    features: BLOB_FEATURE.TARFS,
    compressor: 'none',
    digester: 'sha256',
    chunkSize: 1 << 20,
    chunkCount: count,
    compressedSize: bytes.length,
    uncompressedSize: bytes.length,
    ci: { compressor: 'none', offset: 0, compressedSize: 0, uncompressedSize: 0 },
  }
  return { info, wants }
}
