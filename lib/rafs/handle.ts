/**
 * What a lane gets of a mounted image: structured-cloneable. The yard's RafsImage (image.ts) makes it after the
 * superblock and the tables were checked; `openRafs` (fs.ts) turns it into a FileSystem inside the lane.
 */
import type { BlobHandle } from '../cache/cache.js'

export interface ImageHandle {
  /** 5 or 6. */
  readonly version: 5 | 6
  /** Open file descriptor of the bootstrap (shared by all threads of the process) and its length in bytes: to be mapped. */
  readonly bootstrapFd: number
  readonly bootstrapLength: number
  /** The same file, registered for extents (symlink targets, xattr values). */
  readonly bootstrapFile: number
  /** `enable_xattr`. */
  readonly xattrs: boolean
  /** `digest_validate`: check inode digests (v5) before they are used. */
  readonly validate: boolean
  /** Where lanes note down what happens to single files (lib/fuse/file-records.ts); not there: nobody wants to know. */
  readonly files?: {
    readonly memory: SharedArrayBuffer
    readonly parts: number
    readonly capacity: number
    readonly everyCall: boolean
  }
  /** By blob index of the image. */
  readonly blobs: readonly BlobHandle[]
}
