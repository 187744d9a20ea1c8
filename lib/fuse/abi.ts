/**
 * The FUSE wire format (FUSE 7.45): structs, opcodes and flags, each declared once for the server, the test
 * front-end and the fuzzers. Names and order are the kernel's (include/uapi/linux/fuse.h), camelCased.
 *
 * Every struct is little-endian and a multiple of 8 bytes. A request is InHeader, then the struct of its opcode,
 * then names or data; a reply is OutHeader, then a struct or data. An error reply has no body.
 */
import { layout, type Fields, type Layout } from '../base/layout.js'

export const FUSE_VERSION = 7
export const FUSE_MINOR = 45
/** Older kernels (before 4.20) use shorter structs; they are refused instead. */
export const FUSE_MINOR_OLDEST = 27
export const FUSE_ROOT_ID = 1

/** fuse_in_header: starts every request. `len` counts the header; `totalExtlen` is in 8-byte units. */
export const InHeader = layout('fuse_in_header', 40, {
  len: 'u32',
  opcode: 'u32',
  unique: 'u64',
  nodeid: 'u64',
  uid: 'u32',
  gid: 'u32',
  pid: 'u32',
  totalExtlen: 'u16',
  padding: 'u16',
})

/** fuse_out_header: starts every reply. `error` is 0 or a negative errno. */
export const OutHeader = layout('fuse_out_header', 16, { len: 'u32', error: 'i32', unique: 'u64' })

export const InitIn = layout('fuse_init_in', 64, {
  major: 'u32',
  minor: 'u32',
  maxReadahead: 'u32',
  flags: 'u32',
  flags2: 'u32',
  unused: [44],
})
/** What a kernel before 7.36 sends: InitIn without `flags2`. */
export const INIT_IN_SHORT = 16

export const InitOut = layout('fuse_init_out', 64, {
  major: 'u32',
  minor: 'u32',
  maxReadahead: 'u32',
  flags: 'u32',
  maxBackground: 'u16',
  congestionThreshold: 'u16',
  maxWrite: 'u32',
  timeGran: 'u32',
  maxPages: 'u16',
  mapAlignment: 'u16',
  flags2: 'u32',
  maxStackDepth: 'u32',
  requestTimeout: 'u16',
  unused: [22],
})

/** fuse_attr. `blocks` in 512 bytes. */
export const Attr = layout('fuse_attr', 88, {
  ino: 'u64',
  size: 'u64',
  blocks: 'u64',
  atime: 'u64',
  mtime: 'u64',
  ctime: 'u64',
  atimensec: 'u32',
  mtimensec: 'u32',
  ctimensec: 'u32',
  mode: 'u32',
  nlink: 'u32',
  uid: 'u32',
  gid: 'u32',
  rdev: 'u32',
  blksize: 'u32',
  flags: 'u32',
})

/** fuse_entry_out: LOOKUP. `attr` is an Attr. */
export const EntryOut = layout('fuse_entry_out', 128, {
  nodeid: 'u64',
  generation: 'u64',
  entryValid: 'u64',
  attrValid: 'u64',
  entryValidNsec: 'u32',
  attrValidNsec: 'u32',
  attr: [88],
})

export const AttrOut = layout('fuse_attr_out', 104, {
  attrValid: 'u64',
  attrValidNsec: 'u32',
  dummy: 'u32',
  attr: [88],
})

export const GetattrIn = layout('fuse_getattr_in', 16, { getattrFlags: 'u32', dummy: 'u32', fh: 'u64' })

export const StatxIn = layout('fuse_statx_in', 24, {
  getattrFlags: 'u32',
  reserved: 'u32',
  fh: 'u64',
  sxFlags: 'u32',
  sxMask: 'u32',
})

/** fuse_statx. The four times are each seconds, nanoseconds, reserved (16 bytes). */
export const Statx = layout('fuse_statx', 256, {
  mask: 'u32',
  blksize: 'u32',
  attributes: 'u64',
  nlink: 'u32',
  uid: 'u32',
  gid: 'u32',
  mode: 'u16',
  spare0: [2],
  ino: 'u64',
  size: 'u64',
  blocks: 'u64',
  attributesMask: 'u64',
  atime: [16],
  btime: [16],
  ctime: [16],
  mtime: [16],
  rdevMajor: 'u32',
  rdevMinor: 'u32',
  devMajor: 'u32',
  devMinor: 'u32',
  spare2: [112],
})

/** fuse_sx_time: what the four times of Statx consist of. */
export const SxTime = layout('fuse_sx_time', 16, { tvSec: 'i64', tvNsec: 'u32', reserved: 'i32' })

export const StatxOut = layout('fuse_statx_out', 288, {
  attrValid: 'u64',
  attrValidNsec: 'u32',
  flags: 'u32',
  spare: [16],
  stat: [256],
})

/** fuse_open_in: OPEN and OPENDIR. */
export const OpenIn = layout('fuse_open_in', 8, { flags: 'u32', openFlags: 'u32' })
export const OpenOut = layout('fuse_open_out', 16, { fh: 'u64', openFlags: 'u32', backingId: 'i32' })

/** fuse_read_in: READ, READDIR and READDIRPLUS. */
export const ReadIn = layout('fuse_read_in', 40, {
  fh: 'u64',
  offset: 'u64',
  size: 'u32',
  readFlags: 'u32',
  lockOwner: 'u64',
  flags: 'u32',
  padding: 'u32',
})

/** fuse_dirent without its name; a record is padded with zeros to 8 bytes. `off` is the next record's cookie. */
export const Dirent = layout('fuse_dirent', 24, { ino: 'u64', off: 'u64', namelen: 'u32', type: 'u32' })
/** fuse_direntplus without its name: `entry` is an EntryOut. */
export const Direntplus = layout('fuse_direntplus', 152, {
  entry: [128],
  ino: 'u64',
  off: 'u64',
  namelen: 'u32',
  type: 'u32',
})

/** fuse_release_in: RELEASE and RELEASEDIR. */
export const ReleaseIn = layout('fuse_release_in', 24, {
  fh: 'u64',
  flags: 'u32',
  releaseFlags: 'u32',
  lockOwner: 'u64',
})
export const FlushIn = layout('fuse_flush_in', 24, {
  fh: 'u64',
  unused: 'u32',
  padding: 'u32',
  lockOwner: 'u64',
})
/** fuse_fsync_in: FSYNC and FSYNCDIR. */
export const FsyncIn = layout('fuse_fsync_in', 16, { fh: 'u64', fsyncFlags: 'u32', padding: 'u32' })
export const SyncfsIn = layout('fuse_syncfs_in', 8, { padding: 'u64' })

/** fuse_statfs_out: one fuse_kstatfs. */
export const StatfsOut = layout('fuse_statfs_out', 80, {
  blocks: 'u64',
  bfree: 'u64',
  bavail: 'u64',
  files: 'u64',
  ffree: 'u64',
  bsize: 'u32',
  namelen: 'u32',
  frsize: 'u32',
  padding: 'u32',
  spare: [24],
})

export const AccessIn = layout('fuse_access_in', 8, { mask: 'u32', padding: 'u32' })

/** fuse_getxattr_in: GETXATTR (a name follows) and LISTXATTR. */
export const GetxattrIn = layout('fuse_getxattr_in', 8, { size: 'u32', padding: 'u32' })
/** fuse_getxattr_out: the reply to a request with `size` 0. */
export const GetxattrOut = layout('fuse_getxattr_out', 8, { size: 'u32', padding: 'u32' })

export const LseekIn = layout('fuse_lseek_in', 24, {
  fh: 'u64',
  offset: 'u64',
  whence: 'u32',
  padding: 'u32',
})
export const LseekOut = layout('fuse_lseek_out', 8, { offset: 'u64' })

export const ForgetIn = layout('fuse_forget_in', 8, { nlookup: 'u64' })
/** fuse_batch_forget_in: `count` ForgetOne follow. */
export const BatchForgetIn = layout('fuse_batch_forget_in', 8, { count: 'u32', dummy: 'u32' })
export const ForgetOne = layout('fuse_forget_one', 16, { nodeid: 'u64', nlookup: 'u64' })

export const InterruptIn = layout('fuse_interrupt_in', 8, { unique: 'u64' })
export const IoctlIn = layout('fuse_ioctl_in', 32, {
  fh: 'u64',
  flags: 'u32',
  cmd: 'u32',
  arg: 'u64',
  inSize: 'u32',
  outSize: 'u32',
})
export const PollIn = layout('fuse_poll_in', 24, { fh: 'u64', kh: 'u64', flags: 'u32', events: 'u32' })
export const BmapIn = layout('fuse_bmap_in', 16, { block: 'u64', blocksize: 'u32', padding: 'u32' })
/** fuse_lk_in: GETLK, SETLK, SETLKW; `lk` is a fuse_file_lock. */
export const LkIn = layout('fuse_lk_in', 48, {
  fh: 'u64',
  owner: 'u64',
  lk: [24],
  lkFlags: 'u32',
  padding: 'u32',
})

export const SetattrIn = layout('fuse_setattr_in', 88, {
  valid: 'u32',
  padding: 'u32',
  fh: 'u64',
  size: 'u64',
  lockOwner: 'u64',
  atime: 'u64',
  mtime: 'u64',
  ctime: 'u64',
  atimensec: 'u32',
  mtimensec: 'u32',
  ctimensec: 'u32',
  mode: 'u32',
  unused4: 'u32',
  uid: 'u32',
  gid: 'u32',
  unused5: 'u32',
})
export const MknodIn = layout('fuse_mknod_in', 16, { mode: 'u32', rdev: 'u32', umask: 'u32', padding: 'u32' })
export const MkdirIn = layout('fuse_mkdir_in', 8, { mode: 'u32', umask: 'u32' })
export const RenameIn = layout('fuse_rename_in', 8, { newdir: 'u64' })
export const Rename2In = layout('fuse_rename2_in', 16, { newdir: 'u64', flags: 'u32', padding: 'u32' })
export const LinkIn = layout('fuse_link_in', 8, { oldnodeid: 'u64' })
export const WriteIn = layout('fuse_write_in', 40, {
  fh: 'u64',
  offset: 'u64',
  size: 'u32',
  writeFlags: 'u32',
  lockOwner: 'u64',
  flags: 'u32',
  padding: 'u32',
})
/** fuse_setxattr_in without SETXATTR_EXT. */
export const SetxattrIn = layout('fuse_setxattr_in', 8, { size: 'u32', flags: 'u32' })
/** fuse_create_in: CREATE and TMPFILE. */
export const CreateIn = layout('fuse_create_in', 16, {
  flags: 'u32',
  mode: 'u32',
  umask: 'u32',
  openFlags: 'u32',
})
export const FallocateIn = layout('fuse_fallocate_in', 32, {
  fh: 'u64',
  offset: 'u64',
  length: 'u64',
  mode: 'u32',
  padding: 'u32',
})
/** fuse_copy_file_range_in: COPY_FILE_RANGE and COPY_FILE_RANGE_64. */
export const CopyFileRangeIn = layout('fuse_copy_file_range_in', 56, {
  fhIn: 'u64',
  offIn: 'u64',
  nodeidOut: 'u64',
  fhOut: 'u64',
  offOut: 'u64',
  len: 'u64',
  flags: 'u64',
})
export const SetupmappingIn = layout('fuse_setupmapping_in', 40, {
  fh: 'u64',
  foffset: 'u64',
  len: 'u64',
  flags: 'u64',
  moffset: 'u64',
})

/** Flags of INIT, bits 0 to 31. */
export const INIT_FLAG = {
  ASYNC_READ: 1 << 0,
  POSIX_LOCKS: 1 << 1,
  ATOMIC_O_TRUNC: 1 << 3,
  EXPORT_SUPPORT: 1 << 4,
  BIG_WRITES: 1 << 5,
  AUTO_INVAL_DATA: 1 << 12,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  ASYNC_DIO: 1 << 15,
  WRITEBACK_CACHE: 1 << 16,
  NO_OPEN_SUPPORT: 1 << 17,
  PARALLEL_DIROPS: 1 << 18,
  ABORT_ERROR: 1 << 21,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  NO_OPENDIR_SUPPORT: 1 << 24,
  EXPLICIT_INVAL_DATA: 1 << 25,
  SUBMOUNTS: 1 << 27,
  INIT_EXT: 1 << 30,
} as const

/** Flags of INIT from bit 32 on, as bits of `flags2`. */
export const INIT_FLAG2 = {
  HAS_EXPIRE_ONLY: 1 << 3,
  PASSTHROUGH: 1 << 5,
  HAS_RESEND: 1 << 7,
  OVER_IO_URING: 1 << 9,
} as const

/** `openFlags` of OpenOut. */
export const FOPEN = { DIRECT_IO: 1, KEEP_CACHE: 2, CACHE_DIR: 8, NOFLUSH: 32 } as const

/** `flags` of Attr: the kernel mounts this folder as a file system of its own. */
export const ATTR_SUBMOUNT = 1

/** Linux open flags that a read-only server looks at (x86-64 and arm64 agree on these). */
export const OPEN_FLAG = { ACCMODE: 3, RDONLY: 0, WRONLY: 1, RDWR: 2, TRUNC: 0o1000 } as const
/** access(2) mask. */
export const ACCESS_MASK = { EXEC: 1, WRITE: 2, READ: 4 } as const
/** lseek(2) whence. */
export const SEEK = { DATA: 3, HOLE: 4 } as const
/** statx(2) mask bits, and the attribute that says a file can't be changed. */
export const STATX_BASIC_STATS = 0x7ff
export const STATX_BTIME = 0x800
export const STATX_ATTR_IMMUTABLE = 0x10

/** File type bits of a mode, and the types a server must tell apart. */
export const MODE = { TYPE: 0o170000, DIR: 0o040000, FILE: 0o100000, LINK: 0o120000 } as const

/**
 * Indexes of the 15-element operation arrays of the metrics API (http-api.md 4); NONE for operations that
 * those arrays do not have.
 */
export const METRIC = {
  NONE: -1,
  GETATTR: 0,
  READLINK: 1,
  OPEN: 2,
  RELEASE: 3,
  READ: 4,
  STATFS: 5,
  GETXATTR: 6,
  LISTXATTR: 7,
  OPENDIR: 8,
  LOOKUP: 9,
  READDIR: 10,
  READDIRPLUS: 11,
  ACCESS: 12,
  FORGET: 13,
  BATCH_FORGET: 14,
} as const
export const METRIC_COUNT = 15

/** The opcodes that a kernel sends to a file system. */
export const OP = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const

/**
 * Who answers an opcode: a method of the server, or one of
 *
 * - `native`: the addon; the request never reaches a lane
 * - `done`: success without a body
 * - `readOnly`: EROFS, because the operation would write
 * - `unsupported`: ENOSYS; the kernel remembers it for the whole session and does without
 */
export type Handler =
  | 'lookup'
  | 'getattr'
  | 'statx'
  | 'readlink'
  | 'open'
  | 'opendir'
  | 'read'
  | 'readdir'
  | 'readdirplus'
  | 'statfs'
  | 'getxattr'
  | 'listxattr'
  | 'access'
  | 'lseek'
  | 'ioctl'
  | 'init'
  | 'native'
  | 'done'
  | 'readOnly'
  | 'unsupported'

export interface Opcode {
  readonly code: number
  readonly name: string
  /** The fixed arguments behind the header; undefined when there are none. */
  readonly in: Layout<Fields> | undefined
  /** How many NUL-terminated names follow them. */
  readonly names: number
  readonly handler: Handler
  /** False: the kernel expects no reply, not even an error. */
  readonly replies: boolean
  readonly metric: number
}

type Row = readonly [args: Opcode['in'], names: number, handler: Handler, metric?: number]

const rows: Readonly<Record<keyof typeof OP, Row>> = {
  LOOKUP: [undefined, 1, 'lookup', METRIC.LOOKUP],
  FORGET: [ForgetIn, 0, 'native', METRIC.FORGET],
  GETATTR: [GetattrIn, 0, 'getattr', METRIC.GETATTR],
  SETATTR: [SetattrIn, 0, 'readOnly'],
  READLINK: [undefined, 0, 'readlink', METRIC.READLINK],
  SYMLINK: [undefined, 2, 'readOnly'],
  MKNOD: [MknodIn, 1, 'readOnly'],
  MKDIR: [MkdirIn, 1, 'readOnly'],
  UNLINK: [undefined, 1, 'readOnly'],
  RMDIR: [undefined, 1, 'readOnly'],
  RENAME: [RenameIn, 2, 'readOnly'],
  LINK: [LinkIn, 1, 'readOnly'],
  OPEN: [OpenIn, 0, 'open', METRIC.OPEN],
  READ: [ReadIn, 0, 'read', METRIC.READ],
  WRITE: [WriteIn, 0, 'readOnly'],
  STATFS: [undefined, 0, 'statfs', METRIC.STATFS],
  RELEASE: [ReleaseIn, 0, 'done', METRIC.RELEASE],
  FSYNC: [FsyncIn, 0, 'done'],
  SETXATTR: [SetxattrIn, 1, 'readOnly'],
  GETXATTR: [GetxattrIn, 1, 'getxattr', METRIC.GETXATTR],
  LISTXATTR: [GetxattrIn, 0, 'listxattr', METRIC.LISTXATTR],
  REMOVEXATTR: [undefined, 1, 'readOnly'],
  FLUSH: [FlushIn, 0, 'done'],
  INIT: [InitIn, 0, 'init'],
  OPENDIR: [OpenIn, 0, 'opendir', METRIC.OPENDIR],
  READDIR: [ReadIn, 0, 'readdir', METRIC.READDIR],
  RELEASEDIR: [ReleaseIn, 0, 'done'],
  FSYNCDIR: [FsyncIn, 0, 'done'],
  GETLK: [LkIn, 0, 'unsupported'],
  SETLK: [LkIn, 0, 'unsupported'],
  SETLKW: [LkIn, 0, 'unsupported'],
  ACCESS: [AccessIn, 0, 'access', METRIC.ACCESS],
  CREATE: [CreateIn, 1, 'readOnly'],
  INTERRUPT: [InterruptIn, 0, 'done'],
  BMAP: [BmapIn, 0, 'unsupported'],
  DESTROY: [undefined, 0, 'done'],
  IOCTL: [IoctlIn, 0, 'ioctl'],
  POLL: [PollIn, 0, 'unsupported'],
  BATCH_FORGET: [BatchForgetIn, 0, 'native', METRIC.BATCH_FORGET],
  FALLOCATE: [FallocateIn, 0, 'readOnly'],
  READDIRPLUS: [ReadIn, 0, 'readdirplus', METRIC.READDIRPLUS],
  RENAME2: [Rename2In, 2, 'readOnly'],
  LSEEK: [LseekIn, 0, 'lseek'],
  COPY_FILE_RANGE: [CopyFileRangeIn, 0, 'unsupported'],
  SETUPMAPPING: [SetupmappingIn, 0, 'unsupported'],
  REMOVEMAPPING: [undefined, 0, 'unsupported'],
  SYNCFS: [SyncfsIn, 0, 'done'],
  TMPFILE: [CreateIn, 1, 'readOnly'],
  STATX: [StatxIn, 0, 'statx', METRIC.GETATTR],
  COPY_FILE_RANGE_64: [CopyFileRangeIn, 0, 'unsupported'],
}

const replyless: ReadonlySet<string> = new Set(['FORGET', 'BATCH_FORGET', 'INTERRUPT'])

/** Every opcode in the order of its number. What is not listed is answered with ENOSYS. */
export const OPCODES: readonly Opcode[] = Object.entries(rows).map(
  ([name, [args, names, handler, metric]]) => ({
    code: OP[name as keyof typeof OP],
    name,
    in: args,
    names,
    handler,
    replies: !replyless.has(name),
    metric: metric ?? METRIC.NONE,
  }),
)
