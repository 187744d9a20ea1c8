/**
 * The structs of the FUSE wire format, in the kernel's order and with its names (include/uapi/linux/fuse.h),
 * camelCased. abi.ts exports them together with the opcodes and flags.
 *
 * Every struct is little-endian and a multiple of 8 bytes.
 */
import { layout } from '../base/layout.js'

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
