/** RAFS v5 xattrs: pairs of length, name, NUL, value behind the inode (rafs-v5.md §6). */
import { ERRNO } from '../base/errors.js'
import type { ByteSink, ExtentSink } from '../vfs/filesystem.js'
import type { Bootstrap } from './bootstrap.js'
import type { InodeV5 } from './inode-v5.js'
import type { ImageXattrs } from './reader.js'
import { XATTR_NAME_MAX } from './layout/flags.js'
import { XattrPairV5 } from './layout/v5.js'

/** One per reader; works on the inode that `inode` holds. The members are about the pair looked at last. */
export class XattrV5 implements ImageXattrs {
  readonly #boot: Bootstrap
  readonly #inode: InodeV5
  #name = 0
  #nameLength = 0
  #end = 0

  constructor(boot: Bootstrap, inode: InodeV5) {
    this.#boot = boot
    this.#inode = inode
  }

  get(bytes: Uint8Array, start: number, length: number, file: number, out: ExtentSink): number {
    const end = this.#inode.xattrOffset + this.#inode.xattrSize
    for (let at = this.#inode.xattrOffset; at < end; at = this.#end) {
      if (!this.#open(at, end)) return -ERRNO.EIO
      if (!this.#matches(bytes, start, length)) continue
      const value = this.#name + length + 1
      const valueLength = this.#end - value
      if (valueLength > 0 && !out.add(file, value, valueLength)) return -ERRNO.EIO
      return valueLength
    }
    return -ERRNO.ENODATA
  }

  list(sink: ByteSink): number {
    const end = this.#inode.xattrOffset + this.#inode.xattrSize
    let total = 0
    let room = true
    for (let at = this.#inode.xattrOffset; at < end; at = this.#end) {
      if (!this.#open(at, end)) return -ERRNO.EIO
      // The NUL of the pair ends the name in the list, too.
      total += this.#nameLength + 1
      room = room && sink.bytes(this.#boot.bytes, this.#name, this.#nameLength + 1)
    }
    return total
  }

  #open(at: number, end: number): boolean {
    const { bytes, view } = this.#boot
    this.#name = at + XattrPairV5.size
    if (this.#name > end) return false
    this.#end = this.#name + view.getUint32(at, true)
    if (this.#end > end) return false
    let nul = this.#name
    while (nul < this.#end && nul - this.#name <= XATTR_NAME_MAX && bytes[nul] !== 0) nul++
    this.#nameLength = nul - this.#name
    return this.#nameLength > 0 && this.#nameLength <= XATTR_NAME_MAX && nul < this.#end
  }

  #matches(bytes: Uint8Array, start: number, length: number): boolean {
    if (length !== this.#nameLength) return false
    for (let i = 0; i < length; i++) if (bytes[start + i] !== this.#boot.bytes[this.#name + i]) return false
    return true
  }
}
