/**
 * `digest_validate` for v5 metadata: an inode's digest is checked before its first use (rafs-v5.md §8).
 *
 * A folder's digest covers the digests of its children, a file's those of its chunks, so whoever walks down from a
 * root that is right meets only content that belongs to it. Names, modes, owners and xattrs are not covered by this
 * format. Each inode is hashed once; the outcome is remembered in two bits.
 */
import type { Digester } from '../cache/cache.js'
import { DIGESTER_NUMBER, native } from '../native.js'
import type { Bootstrap } from './bootstrap.js'
import type { InodeV5 } from './inode-v5.js'
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './layout/flags.js'
import { ChunkV5, InodeV5 as Record } from './layout/v5.js'

const DIGEST_SIZE = 32
/** Children whose digests need no buffer of their own. */
const GATHER = 1024

export class DigestsV5 {
  readonly #boot: Bootstrap
  readonly #digester: 0 | 1
  readonly #good: Uint8Array
  readonly #bad: Uint8Array
  readonly #gathered = new Uint8Array(GATHER * DIGEST_SIZE)
  readonly #digest = new Uint8Array(DIGEST_SIZE)

  constructor(boot: Bootstrap, digester: Digester, inodes: number) {
    this.#boot = boot
    this.#digester = DIGESTER_NUMBER[digester]
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
    const at = record + Record.at.digest
    const right = digest !== undefined && digest.every((byte, i) => byte === this.#boot.bytes[at + i])
    const bits = right ? this.#good : this.#bad
    bits[byte] = (bits[byte] ?? 0) | bit
    return right
  }

  /** Undefined when a child cannot be found. */
  #compute(inode: InodeV5): Uint8Array | undefined {
    const type = inode.mode & S_IFMT
    if (type === S_IFLNK) return this.#digestOf(this.#slice(inode.symlink, inode.symlinkLength))
    const children = type === S_IFREG || type === S_IFDIR ? inode.childCount : 0
    const length = children * DIGEST_SIZE
    // Each child has a record that is longer than its digest.
    if (length > this.#boot.bytes.length) return undefined
    const gathered =
      length <= this.#gathered.length ? this.#gathered.subarray(0, length) : new Uint8Array(length)
    for (let i = 0; i < children; i++) {
      const at =
        type === S_IFREG
          ? inode.chunks + i * ChunkV5.size + ChunkV5.at.digest
          : inode.record(inode.childIndex + i) + Record.at.digest
      if (at < 0) return undefined
      gathered.set(this.#slice(at, DIGEST_SIZE), i * DIGEST_SIZE)
    }
    return this.#digestOf(gathered)
  }

  /** Valid until the next call. In one call: the objects of running digests hold memory that V8 does not see. */
  #digestOf(bytes: Uint8Array): Uint8Array {
    native.digestInto(this.#digester, bytes, this.#digest)
    return this.#digest
  }

  #slice(at: number, length: number): Uint8Array {
    return this.#boot.bytes.subarray(at, at + length)
  }
}
