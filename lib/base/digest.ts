/** The two digests of RAFS: 32 bytes over plain bytes. blake3 in its default mode, sha256 as in FIPS 180-4. */
import { createHash } from 'node:crypto'
import { Blake3Hasher } from '@napi-rs/blake-hash'

export type DigestName = 'blake3' | 'sha256'

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

export function digestOf(name: DigestName, bytes: Uint8Array): Buffer {
  return name === 'sha256'
    ? createHash('sha256').update(bytes).digest()
    : new Blake3Hasher().update(asBuffer(bytes)).digestBuffer()
}

/** Digest over pieces that come one by one. */
export interface RunningDigest {
  update(bytes: Uint8Array): void
  digest(): Buffer
}

export function startDigest(name: DigestName): RunningDigest {
  if (name === 'sha256') {
    const hash = createHash('sha256')
    return { update: bytes => void hash.update(bytes), digest: () => hash.digest() }
  }
  const hash = new Blake3Hasher()
  return { update: bytes => void hash.update(asBuffer(bytes)), digest: () => hash.digestBuffer() }
}
