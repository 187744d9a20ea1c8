/**
 * Encryption of a blob (blobs-and-cache.md §5): AES-128-XTS, key of 32 bytes, the same 16-byte tweak for every unit.
 * A unit of less than 16 bytes is padded so that XTS can take it.
 */
import { createCipheriv, randomBytes } from 'node:crypto'

/** Units of fewer bytes are padded. */
export const CIPHER_BLOCK = 16
/** What marks a padded unit: it is 18 bytes long and ends in these. */
const MARK = [0x78, 0x90]

export class BlobCipher {
  readonly key: Uint8Array
  readonly iv: Uint8Array

  constructor(key: Uint8Array = randomKey(), iv: Uint8Array = randomBytes(CIPHER_BLOCK)) {
    this.key = key
    this.iv = iv
  }

  encrypt(bytes: Uint8Array): Uint8Array {
    if (bytes.length === 0) return bytes
    const cipher = createCipheriv('aes-128-xts', this.key, this.iv)
    return Buffer.concat([cipher.update(padded(bytes)), cipher.final()])
  }
}

function padded(bytes: Uint8Array): Uint8Array {
  if (bytes.length >= CIPHER_BLOCK) return bytes
  const out = new Uint8Array(CIPHER_BLOCK + MARK.length).fill(CIPHER_BLOCK - bytes.length)
  out.set(bytes)
  out.set(MARK, CIPHER_BLOCK)
  return out
}

/** XTS refuses two equal key halves. */
function randomKey(): Buffer {
  for (;;) {
    const key = randomBytes(32)
    if (!key.subarray(0, 16).equals(key.subarray(16))) return key
  }
}
