/** The two digests of RAFS: 32 bytes over plain bytes. blake3 in its default mode, sha256 as in FIPS 180-4. */
import { createHash, hash } from 'node:crypto'
import { Blake3Hasher, blake3UrlSafeBase64 } from '@napi-rs/blake-hash'

export type DigestName = 'blake3' | 'sha256'

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

export function digestOf(name: DigestName, bytes: Uint8Array): Buffer {
  // In one call each: over small chunks the objects of a running digest cost several times what they compute.
  // As texts: buffers that native code makes take longer than these and their decoding.
  return name === 'sha256'
    ? Buffer.from(hash('sha256', bytes, 'hex'), 'hex')
    : Buffer.from(blake3UrlSafeBase64(bytes), 'base64url')
}

/** Digest over pieces that come one by one. */
export interface RunningDigest {
  update(bytes: Uint8Array): void
  digest(): Buffer
}

export function startDigest(name: DigestName): RunningDigest {
  if (name === 'sha256') {
    const running = createHash('sha256')
    return { update: bytes => void running.update(bytes), digest: () => running.digest() }
  }
  const running = new Blake3Hasher()
  return { update: bytes => void running.update(asBuffer(bytes)), digest: () => running.digestBuffer() }
}
