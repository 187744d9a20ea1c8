/** The compressors a builder may use (blobs-and-cache.md §2): raw LZ4 blocks, single zstd frames at level 3. */
import { native } from '../native.js'
import type { Compressor } from '../cache/cache.js'
import { NydusError } from '../base/errors.js'

/** Level of the reference builder. */
export const ZSTD_LEVEL = 3

/** Bytes that `length` plain bytes can grow to. */
export function compressBound(compressor: Compressor, length: number): number {
  if (compressor === 'lz4_block') return length + Math.floor(length / 255) + 16
  if (compressor === 'zstd')
    return length + (length >>> 8) + (length < 128 << 10 ? ((128 << 10) - length) >>> 11 : 0)
  return length
}

/** Compresses into `into`, which has room for `compressBound`; returns the bytes, 0 for "store it as it is". */
export function compressInto(compressor: Compressor, bytes: Uint8Array, into: Uint8Array): number {
  if (bytes.length === 0) return 0
  switch (compressor) {
    case 'none':
      return 0
    case 'lz4_block':
      return native.lz4Compress(bytes, into)
    case 'zstd':
      return native.zstdCompress(bytes, into, ZSTD_LEVEL)
    case 'gzip':
      throw new NydusError('BUILD_COMPRESSOR', 'EINVAL', 'gzip is read, not written: use zstd or lz4_block')
  }
}

/** `bytes` compressed, or `bytes` themselves when that does not make them smaller. */
export function compressIfSmaller(
  compressor: Compressor,
  bytes: Uint8Array,
): { bytes: Uint8Array; compressed: boolean } {
  const into = new Uint8Array(compressBound(compressor, bytes.length))
  const size = compressInto(compressor, bytes, into)
  return size > 0 && size < bytes.length
    ? { bytes: into.subarray(0, size), compressed: true }
    : { bytes, compressed: false }
}
