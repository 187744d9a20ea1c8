/**
 * `digest_validate` for v5 metadata: an inode's digest is checked before its first use (rafs-v5.md §8).
 *
 * A folder's digest covers the digests of its children, a file's those of its chunks, so whoever walks down from a
 * root that is right meets only content that belongs to it. Names, modes, owners and xattrs are not covered by this
 * format. Each inode is hashed once; the outcome is remembered in two bits.
 */
import { createHash } from 'node:crypto'
import { Blake3Hasher } from '@napi-rs/blake-hash'
import type { Digester } from '../cache/cache.js'
import type { Bootstrap } from './bootstrap.js'
import type { InodeV5 } from './inode-v5.js'
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './layout/flags.js'
import { ChunkV5, InodeV5 as Record } from './layout/v5.js'

const DIGEST_SIZE = 32
/** Digests gathered before they go to the hasher: one native call for many. */
const GATHER = 1024

export class DigestsV5 {
  readonly #boot: Bootstrap
  readonly #digester: Digester
  readonly #good: Uint8Array
  readonly #bad: Uint8Array
  readonly #gathered = new Uint8Array(GATHER * DIGEST_SIZE)

  constructor(boot: Bootstrap, digester: Digester, inodes: number) {
    this.#boot = boot
    this.#digester = digester
    this.#good = new Uint8Array((inodes >>> 3) + 1)
    this.#bad = new Uint8Array((inodes >>> 3) + 1)
  }

  /** Whether the digest of the inode that `inode` holds (its record is at `record`) is right. */
  check(inode: InodeV5, record: number): boolean {
    const byte = inode.ino >>> 3
    const bit = 1 << (inode.ino & 7)
    if (((this.#good[byte] ?? 0) & bit) !== 0) return true
    if (((this.#bad[byte] ?? 0) & bit) !== 0) return false
    const digest = this.#compute(inode)
    const right = digest !== undefined && digest.equals(this.#slice(record + Record.at.digest, DIGEST_SIZE))
    const bits = right ? this.#good : this.#bad
    bits[byte] = (bits[byte] ?? 0) | bit
    return right
  }

  /** Undefined when a child cannot be found. */
  #compute(inode: InodeV5): Buffer | undefined {
    const hasher = newHasher(this.#digester)
    const type = inode.mode & S_IFMT
    if (type === S_IFLNK) hasher.update(this.#slice(inode.symlink, inode.symlinkLength))
    if (type === S_IFREG || type === S_IFDIR) {
      let gathered = 0
      for (let i = 0; i < inode.childCount; i++) {
        const at =
          type === S_IFREG
            ? inode.chunks + i * ChunkV5.size + ChunkV5.at.digest
            : inode.record(inode.childIndex + i) + Record.at.digest
        if (at < 0) return undefined
        this.#gathered.set(this.#slice(at, DIGEST_SIZE), gathered)
        gathered += DIGEST_SIZE
        if (gathered === this.#gathered.length || i === inode.childCount - 1) {
          hasher.update(this.#gathered.subarray(0, gathered))
          gathered = 0
        }
      }
    }
    return hasher.digest()
  }

  #slice(at: number, length: number): Uint8Array {
    return this.#boot.bytes.subarray(at, at + length)
  }
}

interface Hasher {
  update(bytes: Uint8Array): void
  digest(): Buffer
}

function newHasher(digester: Digester): Hasher {
  if (digester === 'sha256') {
    const hash = createHash('sha256')
    return { update: bytes => void hash.update(bytes), digest: () => hash.digest() }
  }
  const hash = new Blake3Hasher()
  return { update: bytes => void hash.update(bytes), digest: () => hash.digestBuffer() }
}
