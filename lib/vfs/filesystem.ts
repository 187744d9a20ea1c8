/**
 * What the VFS expects of a file system that lives in a lane, and what the FUSE server expects of the VFS:
 * synchronous, allocation-free, read-only.
 *
 *     FUSE request ── Nodes (all mounts, pseudo folders) ── FileSystem (one image) ── RAFS
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
   * piece starts. Comes right before the `add` of the same piece (where it will be once it is cached).
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

/** Receives the entries of a folder as the guest sees it, mounts included. As DirSink, but with node ids. */
export interface NodeSink {
  /** `cacheable`: the entry lies in the same image as its folder and may be handed out with its attributes. */
  node(
    nodeid: number,
    mode: number,
    bytes: Uint8Array,
    start: number,
    length: number,
    next: number,
    cacheable: boolean,
  ): boolean
}

/**
 * How long a guest may keep the way to a mount point and the attributes of a pseudo folder. Not 0, because a
 * guest would then send a LOOKUP and a GETATTR for each path it walks; whoever changes the mounts waits this
 * long before saying that it is done, so nobody sees the difference.
 */
export const FLEETING_MS = 50

/** Takes down what happens to single files; of mounts whose configuration asks for it. Allocates nothing. */
export interface FileNotes {
  /** `operation`: as in METRIC (lib/fuse/abi.ts). */
  noteCall(ino: number, operation: number, failed: boolean): void
  /** So many bytes are on their way to a reader. */
  noteRead(ino: number, bytes: number): void
  /** A read that was noted before failed after all. */
  noteLostRead(ino: number, bytes: number): void
}

/**
 * All mounts of a daemon as one tree of node ids: a cursor that is moved to a node, then asked. nodeid =
 * slot × 2^37 + ino; 1 is the root, whatever is mounted there.
 */
export interface Nodes {
  /** Where the cursor is: the file system and the inode number in it. */
  readonly fs: FileSystem
  readonly ino: number
  readonly nodeid: number
  /** Mount slot of `fs`; 0 for pseudo folders. */
  readonly slot: number
  /** What makes an inode number of `fs` a node id, by addition (the root apart). */
  readonly base: number
  /** Tells two uses of one slot apart. */
  readonly generation: number
  /** This lane's counters of the mount (lib/fuse/counters.ts). */
  readonly counters: Float64Array
  /** What this lane notes of the mount's files; null when nobody wants to know. */
  readonly notes: FileNotes | null
  /** No mount appears or goes any more: nothing is fleeting or shifting. */
  readonly fixed: boolean
  /** False: no node has extended attributes, now and for ever. */
  readonly xattrsPossible: boolean
  /** Folder: mounts lie or can appear in it, so its listing must not be cached. */
  readonly shifting: boolean
  /** Folder: every name in it, or missing from it, can mean something else the next moment. */
  readonly childrenFleeting: boolean
  /** After `enter`: the name can mean something else the next moment. */
  readonly entryFleeting: boolean
  /** The attributes at the cursor can change. */
  readonly attrFleeting: boolean
  /** Moves the cursor. 0, or -ESTALE: no such mount (any more); the cursor is at the root then. */
  select(nodeid: number): number
  /** Moves the cursor to a child, also `.` and `..`; a negative errno leaves it where it was. */
  enter(bytes: Uint8Array, start: number, length: number): number
  /** Attributes at the cursor; `out.ino` is the node id. */
  getattr(out: Attr): number
  /** Entries of the folder at the cursor from `cookie` on, as FileSystem.readdir. */
  readdir(cookie: number, sink: NodeSink): number
  /** Totals of the image at the cursor; at a pseudo folder, of all mounted images. */
  statfs(out: StatFs): number
}

/** A piece of a read that is not in the cache, as `ExtentSink.want` named it. */
export interface ColdWant {
  /** Which of the read's extents stands for it. */
  readonly extent: number
  readonly blob: number
  readonly ref: number
  readonly chunkOffset: number
  readonly length: number
}

/** A READ that a lane deferred: what the yard has to fetch before it can be answered. */
export interface ColdRead {
  /** For Device.completeDeferred. */
  readonly ticket: number
  /** Mount slot and inode number of the file. */
  readonly slot: number
  readonly ino: number
  /** Byte offset in the file. */
  readonly offset: number
  /** The reply's extents as triples file, offset, length. */
  readonly extents: Float64Array
  readonly wants: readonly ColdWant[]
}
