/**
 * The FUSE wire format (FUSE 7.45): structs, opcodes and flags, each declared once for the server, the test
 * front-end and the fuzzers.
 *
 * A request is InHeader, then the struct of its opcode, then names or data; a reply is OutHeader, then a struct
 * or data. An error reply has no body.
 */
import type { Fields, Layout } from '../base/layout.js'
import {
  AccessIn,
  BatchForgetIn,
  BmapIn,
  CopyFileRangeIn,
  CreateIn,
  FallocateIn,
  FlushIn,
  ForgetIn,
  FsyncIn,
  GetattrIn,
  GetxattrIn,
  InitIn,
  InterruptIn,
  IoctlIn,
  LinkIn,
  LkIn,
  LseekIn,
  MkdirIn,
  MknodIn,
  OpenIn,
  PollIn,
  ReadIn,
  ReleaseIn,
  Rename2In,
  RenameIn,
  SetattrIn,
  SetupmappingIn,
  SetxattrIn,
  StatxIn,
  SyncfsIn,
  WriteIn,
} from './structs.js'

export * from './structs.js'

export const FUSE_VERSION = 7
export const FUSE_MINOR = 45
/** Older kernels (before 4.20) use shorter structs; they are refused instead. */
export const FUSE_MINOR_OLDEST = 27
export const FUSE_ROOT_ID = 1

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
