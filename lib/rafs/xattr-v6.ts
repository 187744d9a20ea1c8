/** RAFS v6 xattrs: inline entries behind the inode (rafs-v6.md §6.6). Shared xattrs do not exist in this format. */
import { ERRNO } from '../base/errors.js'
import type { ByteSink, ExtentSink } from '../vfs/filesystem.js'
import type { Bootstrap } from './bootstrap.js'
import type { InodeV6 } from './inode-v6.js'
import type { ImageXattrs } from './reader.js'
import { V6_XATTR_ALIGNMENT, V6_XATTR_PREFIX, XattrEntryV6, XattrHeaderV6 } from './layout/v6.js'

const ENTRY = XattrEntryV6.at
const NUL = new Uint8Array(1)
const NONE = new Uint8Array(0)
/** Prefix by namespace number; empty = no such namespace. */
const PREFIXES: readonly Uint8Array[] = Array.from({ length: 256 }, (_, index) =>
  V6_XATTR_PREFIX[index] === undefined
    ? NONE
    : Uint8Array.from(Buffer.from(V6_XATTR_PREFIX[index], 'latin1')),
)

/** One per reader; works on the inode that `inode` holds. The members are about the entry looked at last. */
export class XattrV6 implements ImageXattrs {
  readonly #boot: Bootstrap
  readonly #inode: InodeV6
  #prefix: Uint8Array = NONE
  #suffix = 0
  #suffixLength = 0
  #value = 0
  #valueLength = 0

  constructor(boot: Bootstrap, inode: InodeV6) {
    this.#boot = boot
    this.#inode = inode
  }

  get(bytes: Uint8Array, start: number, length: number, file: number, out: ExtentSink): number {
    let at = this.#first()
    while (at > 0) {
      at = this.#open(at)
      if (at < 0) return at
      if (this.#matches(bytes, start, length)) {
        if (this.#valueLength > 0 && !out.add(file, this.#value, this.#valueLength)) return -ERRNO.EIO
        return this.#valueLength
      }
    }
    return at < 0 ? at : -ERRNO.ENODATA
  }

  list(sink: ByteSink): number {
    let total = 0
    let room = true
    let at = this.#first()
    while (at > 0) {
      at = this.#open(at)
      if (at < 0) return at
      total += this.#prefix.length + this.#suffixLength + 1
      room =
        room &&
        sink.bytes(this.#prefix, 0, this.#prefix.length) &&
        sink.bytes(this.#boot.bytes, this.#suffix, this.#suffixLength) &&
        sink.bytes(NUL, 0, 1)
    }
    return at < 0 ? at : total
  }

  /** Offset of the first entry; 0 = none; -EIO. */
  #first(): number {
    const { xattrOffset, xattrSize } = this.#inode
    if (xattrSize === 0) return 0
    if (this.#boot.view.getUint8(xattrOffset + XattrHeaderV6.at.sharedCount) !== 0) return -ERRNO.EIO
    return xattrSize > XattrHeaderV6.size ? xattrOffset + XattrHeaderV6.size : 0
  }

  /** Decodes the entry at `at`; returns the offset of the next, 0 behind the last, -EIO. */
  #open(at: number): number {
    const view = this.#boot.view
    const end = this.#inode.xattrOffset + this.#inode.xattrSize
    if (at + XattrEntryV6.size > end) return -ERRNO.EIO
    const prefix = PREFIXES[view.getUint8(at + ENTRY.nameIndex)] ?? NONE
    this.#prefix = prefix
    this.#suffix = at + XattrEntryV6.size
    this.#suffixLength = view.getUint8(at + ENTRY.nameLength)
    this.#value = this.#suffix + this.#suffixLength
    this.#valueLength = view.getUint16(at + ENTRY.valueSize, true)
    const next = at + align(this.#value + this.#valueLength - at)
    if (prefix.length === 0 || next > end) return -ERRNO.EIO
    return next === end ? 0 : next
  }

  #matches(bytes: Uint8Array, start: number, length: number): boolean {
    const prefix = this.#prefix
    if (length !== prefix.length + this.#suffixLength) return false
    for (let i = 0; i < prefix.length; i++) if (bytes[start + i] !== prefix[i]) return false
    const suffix = start + prefix.length
    for (let i = 0; i < this.#suffixLength; i++)
      if (bytes[suffix + i] !== this.#boot.bytes[this.#suffix + i]) return false
    return true
  }
}

function align(size: number): number {
  return Math.ceil(size / V6_XATTR_ALIGNMENT) * V6_XATTR_ALIGNMENT
}
