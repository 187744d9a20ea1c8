/**
 * What the VFS expects of a file system that lives in a lane: synchronous, allocation-free, read-only.
 *
 *     FUSE request ── Vfs (pseudo-mounts) ── FileSystem ── RAFS
 *
 * Inode numbers here are the file system's own (below 2^37); the VFS puts the mount slot above them. Results are
 * numbers: >= 0 is a value, < 0 is a negative errno. Nothing throws for what a guest does; what throws
 * nevertheless (a damaged image) is answered with EIO by the lane and counted.
 */

/** Attributes of one inode: one object per lane, filled in place. Times in seconds (may be negative) and nanoseconds. */
export interface Attr {
  ino: number
  size: number
  /** 512-byte units. */
  blocks: number
  /** st_mode with type bits. */
  mode: number
  nlink: number
  uid: number
  gid: number
  /** Linux 32-bit dev_t. */
  rdev: number
  mtime: number
  mtimeNs: number
}

export function newAttr(): Attr {
  return { ino: 0, size: 0, blocks: 0, mode: 0, nlink: 0, uid: 0, gid: 0, rdev: 0, mtime: 0, mtimeNs: 0 }
}

/** Collects the pieces of a reply: where each byte range lies. Preallocated; adjacent pieces are joined. */
export interface ExtentSink {
  /** `file` as in lib/fuse/ring.ts (FILE_ZERO for holes). False when there is no room for one more. */
  add(file: number, offset: number, length: number): boolean
  /**
   * A piece that is not in the cache yet: the read will be deferred. `blob` is the image's blob number, `ref` the
   * image's own name for the chunk (RafsImage.want resolves it in the yard), `chunkOffset` where in the chunk the
   * piece starts. Call `add` for the piece as well (where it will be once it is cached).
   */
  want(blob: number, ref: number, chunkOffset: number, length: number): boolean
}

/** Receives directory entries. The name is `bytes[start … start + length)`; it is only valid during the call. */
export interface DirSink {
  /** `next`: cookie of the entry behind this one. False: stop, this entry was not taken. */
  entry(ino: number, mode: number, bytes: Uint8Array, start: number, length: number, next: number): boolean
}

/** Receives bytes of a reply that is put together (a list of xattr names). */
export interface ByteSink {
  bytes(from: Uint8Array, start: number, length: number): boolean
}

export interface StatFs {
  /** 512-byte blocks of content, and inodes of the image. */
  blocks: number
  files: number
}

export interface FileSystem {
  readonly rootIno: number
  /** False: GETXATTR and LISTXATTR need not be asked. */
  readonly hasXattrs: boolean
  /** Inode number of the child, -ENOENT, -ENOTDIR … The name is `bytes[start … start + length)`; never `.` or `..`. */
  lookup(parent: number, bytes: Uint8Array, start: number, length: number): number
  /** Parent of a folder (of the root: the root). */
  parent(ino: number): number
  getattr(ino: number, out: Attr): number
  /**
   * Entries from `cookie` on (0 = start), `.` and `..` included, in an order that never changes for this image.
   * A cookie that was never handed out gives an empty list or -EINVAL, never a crash.
   */
  readdir(ino: number, cookie: number, sink: DirSink): number
  /** The target's bytes as extents; returns its length. */
  readlink(ino: number, out: ExtentSink): number
  /** The value as extents; returns its length, -ENODATA when there is none. */
  getxattr(ino: number, bytes: Uint8Array, start: number, length: number, out: ExtentSink): number
  /** Names, each with a NUL, through the sink; returns their total length. */
  listxattr(ino: number, sink: ByteSink): number
  /** Bytes that the read will return (short only at the end of the file), as extents and wants. */
  read(ino: number, offset: number, size: number, out: ExtentSink): number
  /** SEEK_DATA (3) and SEEK_HOLE (4); -ENXIO behind the end. */
  lseek(ino: number, offset: number, whence: number): number
  statfs(out: StatFs): number
}
