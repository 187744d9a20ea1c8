/**
 * The operations that a guest sends rarely: kept apart so that the server's hot function stays small.
 */
import { ERRNO } from '../base/errors.js'
import { newAttr, type ByteSink, type Nodes } from '../vfs/filesystem.js'
import {
  ACCESS_MASK,
  GetxattrOut,
  INIT_FLAG,
  LseekOut,
  OP,
  OPCODES,
  SEEK,
  STATX_BASIC_STATS,
  StatfsOut,
  Statx,
  StatxOut,
  SxTime,
  type Handler,
} from './abi.js'
import { PIECE_MAX, type Arena } from './arena.js'
import type { Extents } from './extents.js'
import { replyInit } from './init.js'
import { FLEETING_NS, LASTING_S, type Replies } from './reply.js'
import { ARENA_OFFSET, FILE_ARENA, INLINE_SIZE } from './ring.js'
import { AT_FLAGS, AT_NODEID, AT_OFFSET, AT_SIZE, type RingMemory } from './ring-memory.js'

const BLOCK = 4096
const STAT_BLOCKS_A_BLOCK = BLOCK / 512
const NAME_MAX = 255
/** readlink(2) of Linux: a target must be shorter than a page. */
const LINK_MAX = 4095
/** As Linux: a list of names is 64 KiB at most. */
const XATTR_LIST_MAX = 64 << 10

const word = (offset: number): number => offset / 4

/** Answers without a look at the node, by opcode: 0 for what has to be looked at. */
const DONE = 1
const FIXED = new Int32Array(64).fill(-ERRNO.ENOSYS)
const fixedAnswers: Partial<Record<Handler, number>> = {
  done: DONE,
  readOnly: -ERRNO.EROFS,
  unsupported: -ERRNO.ENOSYS,
  ioctl: -ERRNO.ENOTTY,
}
for (const { code, handler } of OPCODES) FIXED[code] = fixedAnswers[handler] ?? 0

export class RareOperations implements ByteSink {
  readonly #ring: RingMemory
  readonly #replies: Replies
  readonly #nodes: Nodes
  readonly #arena: Arena
  readonly #extents: Extents
  readonly #offered: Uint32Array
  readonly #attr = newAttr()
  readonly #size = { blocks: 0, files: 0 }
  /** A list of names that is being put together in the arena. */
  #listStart = 0
  #listLength = 0

  constructor(
    ring: RingMemory,
    replies: Replies,
    nodes: Nodes,
    arena: Arena,
    extents: Extents,
    offered: Uint32Array,
  ) {
    this.#ring = ring
    this.#replies = replies
    this.#nodes = nodes
    this.#arena = arena
    this.#extents = extents
    this.#offered = offered
  }

  handle(at: number, index: number, opcode: number): void {
    const fixed = opcode < FIXED.length ? (FIXED[opcode] as number) : -ERRNO.ENOSYS
    // Without an OPEN there is no NOFLUSH: a kernel asks once for all files then.
    if (opcode === OP.FLUSH && ((this.#offered[0] as number) & INIT_FLAG.NO_OPEN_SUPPORT) !== 0)
      return this.#replies.error(at, -ERRNO.ENOSYS)
    if (fixed === DONE) return this.#replies.inline(at, 0)
    if (fixed < 0) return this.#replies.error(at, fixed)
    if (opcode === OP.INIT) return replyInit(this.#ring, this.#replies, at, this.#offered)
    if (opcode === OP.LISTXATTR && !this.#nodes.xattrsPossible) return this.#replies.error(at, -ERRNO.ENOSYS)
    const status = this.#nodes.select(this.#ring.f64[(at + AT_NODEID) >> 1] as number)
    if (status < 0) return this.#replies.error(at, status)
    switch (opcode) {
      case OP.READLINK:
        return this.#readlink(at, index)
      case OP.STATFS:
        return this.#statfs(at)
      case OP.STATX:
        return this.#statx(at)
      case OP.LISTXATTR:
        return this.#listxattr(at, index)
      case OP.ACCESS:
        return this.#access(at)
      case OP.LSEEK:
        return this.#lseek(at)
      default:
        return this.#replies.error(at, -ERRNO.ENOSYS)
    }
  }

  /** GETXATTR and LISTXATTR: `length` bytes are in the extents, or it is a negative errno. */
  xattrReply(at: number, length: number): void {
    const { u32 } = this.#ring
    if (length < 0) return this.#replies.error(at, length)
    const room = u32[at + AT_SIZE] as number
    if (room === 0) {
      u32[this.#replies.struct(at, GetxattrOut.size)] = length
      return
    }
    if (length > room) return this.#replies.error(at, -ERRNO.ERANGE)
    if (length === 0) return this.#replies.inline(at, 0)
    if (length !== this.#extents.length) return this.#replies.error(at, -ERRNO.EIO)
    this.#replies.extents(at, this.#extents.count)
  }

  bytes(from: Uint8Array, start: number, length: number): boolean {
    if (this.#listLength + length > XATTR_LIST_MAX) return false
    const to = ARENA_OFFSET + this.#listStart + this.#listLength
    for (let i = 0; i < length; i++) this.#ring.u8[to + i] = from[start + i] as number
    this.#listLength += length
    return true
  }

  #listxattr(at: number, index: number): void {
    const { fs, ino } = this.#nodes
    this.#extents.begin(index)
    if (!fs.hasXattrs) return this.xattrReply(at, 0)
    this.#listStart = this.#arena.reserve()
    this.#listLength = 0
    const length = fs.listxattr(ino, this)
    if (length > XATTR_LIST_MAX) return this.#replies.error(at, -ERRNO.ERANGE)
    if (length > 0) {
      this.#arena.commit(this.#listLength)
      this.#extents.add(FILE_ARENA, this.#listStart, this.#listLength)
    }
    this.xattrReply(at, length)
  }

  #readlink(at: number, index: number): void {
    this.#extents.begin(index)
    const length = this.#nodes.fs.readlink(this.#nodes.ino, this.#extents)
    if (length < 0) return this.#replies.error(at, length)
    if (length === 0 || length > LINK_MAX || length !== this.#extents.length)
      return this.#replies.error(at, -ERRNO.EIO)
    this.#replies.extents(at, this.#extents.count)
  }

  #statfs(at: number): void {
    const status = this.#nodes.statfs(this.#size)
    if (status < 0) return this.#replies.error(at, status)
    const { u32 } = this.#ring
    const out = this.#replies.struct(at, StatfsOut.size)
    this.#replies.put64(out, Math.ceil(this.#size.blocks / STAT_BLOCKS_A_BLOCK))
    this.#replies.put64(out + word(StatfsOut.at.files), this.#size.files)
    u32[out + word(StatfsOut.at.bsize)] = BLOCK
    u32[out + word(StatfsOut.at.namelen)] = NAME_MAX
    u32[out + word(StatfsOut.at.frsize)] = BLOCK
  }

  #statx(at: number): void {
    const attr = this.#attr
    const status = this.#nodes.getattr(attr)
    if (status < 0) return this.#replies.error(at, status)
    const { u32 } = this.#ring
    const replies = this.#replies
    const out = replies.struct(at, StatxOut.size)
    const fleeting = this.#nodes.attrFleeting
    replies.put64(out, fleeting ? 0 : LASTING_S)
    u32[out + word(StatxOut.at.attrValidNsec)] = fleeting ? FLEETING_NS : 0
    const stat = out + word(StatxOut.at.stat)
    // Images keep no time of birth, so that bit stays clear.
    u32[stat + word(Statx.at.mask)] = STATX_BASIC_STATS
    u32[stat + word(Statx.at.blksize)] = BLOCK
    u32[stat + word(Statx.at.nlink)] = attr.nlink
    u32[stat + word(Statx.at.uid)] = attr.uid
    u32[stat + word(Statx.at.gid)] = attr.gid
    u32[stat + word(Statx.at.mode)] = attr.mode
    replies.put64(stat + word(Statx.at.ino), attr.ino)
    replies.put64(stat + word(Statx.at.size), attr.size)
    replies.put64(stat + word(Statx.at.blocks), attr.blocks)
    this.#time(stat + word(Statx.at.atime))
    this.#time(stat + word(Statx.at.ctime))
    this.#time(stat + word(Statx.at.mtime))
    // Linux new_encode_dev: 8 low bits of the minor, 12 of the major, then the minor's other 12.
    u32[stat + word(Statx.at.rdevMajor)] = (attr.rdev >>> 8) & 0xfff
    u32[stat + word(Statx.at.rdevMinor)] = (attr.rdev & 0xff) | ((attr.rdev >>> 12) & 0xfff00)
  }

  #time(to: number): void {
    this.#replies.putTime(to, this.#attr.mtime)
    this.#ring.u32[to + word(SxTime.at.tvNsec)] = this.#attr.mtimeNs
  }

  #access(at: number): void {
    const mask = this.#ring.u32[at + AT_FLAGS] as number
    if ((mask & ACCESS_MASK.WRITE) !== 0) return this.#replies.error(at, -ERRNO.EROFS)
    // Permission bits are the kernel's to check (default_permissions); here only whether the node exists.
    const status = this.#nodes.getattr(this.#attr)
    if (status < 0) return this.#replies.error(at, status)
    this.#replies.inline(at, 0)
  }

  #lseek(at: number): void {
    const whence = this.#ring.u32[at + AT_FLAGS] as number
    const offset = this.#ring.f64[(at + AT_OFFSET) >> 1] as number
    if (whence !== SEEK.DATA && whence !== SEEK.HOLE) return this.#replies.error(at, -ERRNO.EINVAL)
    if (offset < 0) return this.#replies.error(at, -ERRNO.ENXIO)
    const found = this.#nodes.fs.lseek(this.#nodes.ino, offset, whence)
    if (found < 0) return this.#replies.error(at, found)
    this.#replies.put64(this.#replies.struct(at, LseekOut.size), found)
  }
}

// The longest struct that a reply consists of has to fit into a slot.
if (StatxOut.size > INLINE_SIZE || XATTR_LIST_MAX > PIECE_MAX)
  throw new RangeError('a reply does not fit into a slot')
