/**
 * The two digests of RAFS, 32 bytes over plain bytes, by other code than what is tested (addon/codec/digest.h): blake3 in its
 * default mode, sha256 as in FIPS 180-4.
 */
import { hash } from 'node:crypto'
import { blake3UrlSafeBase64 } from '@napi-rs/blake-hash'

export type DigestName = 'blake3' | 'sha256'

export function digestOf(name: DigestName, bytes: Uint8Array): Buffer {
  return name === 'sha256'
    ? Buffer.from(hash('sha256', bytes, 'hex'), 'hex')
    : Buffer.from(blake3UrlSafeBase64(bytes), 'base64url')
}
