/**
 * An image's metadata as a FileSystem, on the mapped bootstrap: the same for both versions, which differ in the three
 * parts that it is made of. No state but the inode looked at last.
 */
import { ERRNO } from '../base/errors.js'
import type { Attr, ByteSink, DirSink, ExtentSink, FileSystem, StatFs } from '../vfs/filesystem.js'
import type { Blobs } from './blobs.js'
import type { Bootstrap } from './bootstrap.js'
import { newChunkPlace, readChunks, seekChunks, type ChunkList } from './chunks.js'
import { DigestsV5 } from './digests-v5.js'
import { DirV5 } from './dir-v5.js'
import { DirV6 } from './dir-v6.js'
import { InodeV5 } from './inode-v5.js'
import { InodeV6 } from './inode-v6.js'
import { NAME_MAX, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './layout/flags.js'
import { NO_TABLE } from './name-index.js'
import type { RafsSuper } from './super.js'
import { XattrV5 } from './xattr-v5.js'
import { XattrV6 } from './xattr-v6.js'

/** The inode looked at last. */
export interface ImageInode extends ChunkList {
  /** st_mode with type bits. */
  readonly mode: number
  /** Points it at another inode and checks that; 0 or -EIO. */
  load(ino: number): number
  /** `uid`, `gid`: to be shown when the image does not know owners. */
  attr(out: Attr, uid: number, gid: number): void
  /** A symlink's target as extents of `file`; its length or -EIO. */
  target(file: number, out: ExtentSink): number
}

/** The folder that the inode is. */
export interface ImageDir {
  /** What `find` would say of any folder, whichever is loaded; NO_TABLE: `find` has to be asked. */
  known(folder: number, bytes: Uint8Array, start: number, length: number): number
  find(bytes: Uint8Array, start: number, length: number): number
  parent(): number
  list(cookie: number, sink: DirSink): number
}

/** The xattrs of the inode; values as extents of `file`. */
export interface ImageXattrs {
  get(bytes: Uint8Array, start: number, length: number, file: number, out: ExtentSink): number
  list(sink: ByteSink): number
}

export interface ReaderOptions {
  /** The bootstrap as registered for extents; 0 where nobody asks for extents of it. */
  readonly bootstrapFile: number
  /** `enable_xattr`. */
  readonly xattrs: boolean
  /** `digest_validate`: inode digests are checked before an inode is used. */
  readonly validate: boolean
  /** Owner shown where the image does not know any (`--repeatable`): the daemon's own. */
  readonly uid: number
  readonly gid: number
}

export class RafsReader implements FileSystem {
  readonly rootIno: number
  readonly hasXattrs: boolean
  readonly #sb: RafsSuper
  readonly #blobs: Blobs
  readonly #options: ReaderOptions
  readonly #inode: ImageInode
  readonly #dir: ImageDir
  readonly #xattrs: ImageXattrs
  readonly #place = newChunkPlace()

  constructor(boot: Bootstrap, sb: RafsSuper, blobs: Blobs, options: ReaderOptions) {
    this.rootIno = sb.rootIno
    this.hasXattrs = options.xattrs && sb.hasXattrs
    this.#sb = sb
    this.#blobs = blobs
    this.#options = options
    if (sb.version === 5) {
      const digests = options.validate ? new DigestsV5(boot, sb.digester, sb.inodeTableEntries) : undefined
      const inode = new InodeV5(boot, sb, blobs, digests)
      this.#inode = inode
      this.#dir = new DirV5(boot, inode)
      this.#xattrs = new XattrV5(boot, inode)
    } else {
      const inode = new InodeV6(boot, sb, blobs)
      this.#inode = inode
      this.#dir = new DirV6(boot, inode, sb.blockSize)
      this.#xattrs = new XattrV6(boot, inode)
    }
  }

  lookup(parent: number, bytes: Uint8Array, start: number, length: number): number {
    const known = this.#dir.known(parent, bytes, start, length)
    if (known !== NO_TABLE) return known
    const status = this.#load(parent, S_IFDIR, ERRNO.ENOTDIR)
    if (status !== 0) return status
    if (length > NAME_MAX) return -ERRNO.ENAMETOOLONG
    return this.#dir.find(bytes, start, length)
  }

  parent(ino: number): number {
    const status = this.#load(ino, S_IFDIR, ERRNO.ENOTDIR)
    return status !== 0 ? status : this.#dir.parent()
  }

  getattr(ino: number, out: Attr): number {
    const status = this.#inode.load(ino)
    if (status === 0) this.#inode.attr(out, this.#options.uid, this.#options.gid)
    return status
  }

  readdir(ino: number, cookie: number, sink: DirSink): number {
    const status = this.#load(ino, S_IFDIR, ERRNO.ENOTDIR)
    return status !== 0 ? status : this.#dir.list(cookie, sink)
  }

  readlink(ino: number, out: ExtentSink): number {
    const status = this.#load(ino, S_IFLNK, ERRNO.EINVAL)
    return status !== 0 ? status : this.#inode.target(this.#options.bootstrapFile, out)
  }

  getxattr(ino: number, bytes: Uint8Array, start: number, length: number, out: ExtentSink): number {
    if (!this.hasXattrs) return -ERRNO.ENODATA
    const status = this.#inode.load(ino)
    return status !== 0 ? status : this.#xattrs.get(bytes, start, length, this.#options.bootstrapFile, out)
  }

  listxattr(ino: number, sink: ByteSink): number {
    if (!this.hasXattrs) return 0
    const status = this.#inode.load(ino)
    return status !== 0 ? status : this.#xattrs.list(sink)
  }

  read(ino: number, offset: number, size: number, out: ExtentSink): number {
    const status = this.#load(ino, S_IFREG, ERRNO.EINVAL)
    if (status !== 0) return status
    return readChunks(this.#inode, this.#place, this.#blobs, offset, size, out)
  }

  lseek(ino: number, offset: number, whence: number): number {
    const status = this.#load(ino, S_IFREG, ERRNO.EINVAL)
    return status !== 0 ? status : seekChunks(this.#inode, this.#place, offset, whence)
  }

  statfs(out: StatFs): number {
    out.blocks = this.#blobs.contentBlocks
    out.files = this.#sb.inodes
    return 0
  }

  /** Type bits of st_mode; -EIO. */
  typeOf(ino: number): number {
    const status = this.#inode.load(ino)
    return status === 0 ? this.#inode.mode & S_IFMT : status
  }

  /** What a regular file is made of, for the yard; undefined when `ino` is none. Valid until the next call of anything. */
  chunkList(ino: number): ChunkList | undefined {
    return this.#load(ino, S_IFREG, ERRNO.EINVAL) === 0 ? this.#inode : undefined
  }

  /** Loads an inode that must be of one type. */
  #load(ino: number, type: number, otherwise: number): number {
    const status = this.#inode.load(ino)
    if (status !== 0) return status
    return (this.#inode.mode & S_IFMT) === type ? 0 : -otherwise
  }
}
