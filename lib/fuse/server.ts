/**
 * The FUSE server of a lane: one request in a slot of the ring, one answer into the same slot.
 *
 *     slot ── Server ── Nodes (lib/vfs) ── FileSystem
 *
 * Everything here is synchronous and allocates nothing; opcodes that a guest sends rarely are in rare.ts. It knows
 * neither images nor queues: the addon decoded the request and puts the answer into the guest's memory.
 */
import { ERRNO } from '../base/errors.js'
import { newAttr, type Nodes } from '../vfs/filesystem.js'
import {
  AttrOut,
  EntryOut,
  FOPEN,
  FUSE_ROOT_ID,
  INIT_FLAG,
  METRIC,
  MODE,
  OP,
  OPEN_FLAG,
  OpenOut,
} from './abi.js'
import { Arena } from './arena.js'
import {
  BYTES_READ,
  DEFERRED,
  ERRORS,
  EXCEPTIONS,
  HITS,
  METRIC_OF_OPCODE,
  READ_SIZES,
  sizeBucket,
} from './counters.js'
import type { Deferrals } from './deferrals.js'
import { Directories } from './directories.js'
import { Extents } from './extents.js'
import { RareOperations } from './rare.js'
import { Replies } from './reply.js'
import { RAW_SIZE, REPLY_DEFERRED } from './ring.js'
import {
  AT_FH,
  AT_FLAGS,
  AT_INLINE,
  AT_NAME_LENGTH,
  AT_NAME_OFFSET,
  AT_NODEID,
  AT_OFFSET,
  AT_OPCODE,
  AT_RAW,
  AT_SIZE,
  AT_STATUS,
  AT_TICKET,
  AT_WRITABLE,
  SLOT_WORDS,
  type RingMemory,
} from './ring-memory.js'

const NAME_MAX = 255
/** What INIT promised at most; more is not asked for by a kernel. */
const READ_MAX = 1 << 20
const OPEN_FLAGS_WORD = OpenOut.at.openFlags / 4
/** A file's content never changes, and there is nothing to flush when it is closed. */
const FILE_OPEN = FOPEN.KEEP_CACHE | FOPEN.NOFLUSH
const FOLDER_OPEN = FOPEN.KEEP_CACHE | FOPEN.CACHE_DIR

export interface ServerOptions {
  /** One word that all lanes share: the flags that the guest's kernel offered in INIT. */
  readonly offered: Uint32Array
  /** Called for a request that ended in an exception; off the path, may allocate. */
  readonly onException: (opcode: number, nodeid: number, error: unknown) => void
}

export class Server {
  readonly #ring: RingMemory
  readonly #nodes: Nodes
  readonly #deferrals: Deferrals
  readonly #replies: Replies
  readonly #extents: Extents
  readonly #directories: Directories
  readonly #rare: RareOperations
  readonly #attr = newAttr()
  readonly #offered: Uint32Array
  readonly #onException: ServerOptions['onException']

  constructor(ring: RingMemory, nodes: Nodes, deferrals: Deferrals, options: ServerOptions) {
    this.#ring = ring
    this.#nodes = nodes
    this.#deferrals = deferrals
    this.#offered = options.offered
    this.#onException = options.onException
    this.#replies = new Replies(ring)
    this.#extents = new Extents(ring)
    const arena = new Arena()
    this.#directories = new Directories(ring, this.#replies, nodes, arena, this.#extents)
    this.#rare = new RareOperations(ring, this.#replies, nodes, arena, this.#extents, options.offered)
  }

  /** The mounts have changed: listings encoded before are void. */
  mountsChanged(): void {
    this.#directories.flush()
  }

  /** Answers the request in slot `index`. Never throws. */
  handle(index: number): void {
    const at = index * SLOT_WORDS
    const opcode = this.#ring.u32[at + AT_OPCODE] as number
    try {
      switch (opcode) {
        case OP.LOOKUP:
          this.#lookup(at)
          break
        case OP.GETATTR:
          this.#getattr(at)
          break
        case OP.READ:
          this.#read(at, index)
          break
        case OP.OPEN:
          this.#open(at)
          break
        case OP.READDIRPLUS:
          this.#readdir(at, index, true)
          break
        case OP.READDIR:
          this.#readdir(at, index, false)
          break
        case OP.OPENDIR:
          this.#opendir(at)
          break
        case OP.GETXATTR:
          this.#getxattr(at, index)
          break
        case OP.RELEASE:
          this.#nodes.select(this.#ring.f64[(at + AT_NODEID) >> 1] as number)
          this.#replies.inline(at, 0)
          break
        default:
          this.#rare.handle(at, index, opcode)
      }
    } catch (error) {
      this.#replies.error(at, -ERRNO.EIO)
      this.#count(EXCEPTIONS)
      this.#onException(opcode, this.#ring.f64[(at + AT_NODEID) >> 1] as number, error)
    }
    const metric = opcode < METRIC_OF_OPCODE.length ? (METRIC_OF_OPCODE[opcode] as number) : METRIC.NONE
    if (metric === METRIC.NONE) return
    this.#count(HITS + metric)
    const status = this.#ring.i32[at + AT_STATUS] as number
    // ENOSYS is no failure: it tells the guest that it need not ask.
    const failed = status < 0 && status !== -ERRNO.ENOSYS
    if (failed) this.#count(ERRORS + metric)
    const { notes } = this.#nodes
    if (notes !== null) notes.noteCall(this.#nodes.ino, metric, failed)
  }

  /** Moves the cursor to the request's node. False: there is none, and the reply says so. */
  #select(at: number): boolean {
    const status = this.#nodes.select(this.#ring.f64[(at + AT_NODEID) >> 1] as number)
    if (status >= 0) return true
    this.#replies.error(at, status)
    return false
  }

  #count(counter: number, by = 1): void {
    const { counters } = this.#nodes
    counters[counter] = (counters[counter] as number) + by
  }

  #lookup(at: number): void {
    if (!this.#select(at)) return
    const { u32, u8 } = this.#ring
    const nodes = this.#nodes
    const replies = this.#replies
    const offset = u32[at + AT_NAME_OFFSET] as number
    const length = u32[at + AT_NAME_LENGTH] as number
    if (length > NAME_MAX) return replies.error(at, -ERRNO.ENAMETOOLONG)
    if (length === 0 || offset + length > RAW_SIZE) return replies.error(at, -ERRNO.EINVAL)
    const lasting = !nodes.childrenFleeting
    let status = nodes.enter(u8, (at + AT_RAW) * 4 + offset, length)
    if (status === -ERRNO.ENOENT && lasting) {
      replies.inline(at, EntryOut.size)
      return replies.noEntry(at + AT_INLINE, true)
    }
    if (status >= 0) status = nodes.getattr(this.#attr)
    if (status < 0) return replies.error(at, status)
    replies.inline(at, EntryOut.size)
    replies.entry(at + AT_INLINE, this.#attr, nodes.generation, nodes.entryFleeting, nodes.attrFleeting)
    replies.lookups(at, 1, nodes.slot)
  }

  #getattr(at: number): void {
    if (!this.#select(at)) return
    const nodes = this.#nodes
    const status = nodes.getattr(this.#attr)
    if (status < 0) return this.#replies.error(at, status)
    this.#replies.inline(at, AttrOut.size)
    this.#replies.attrOut(at + AT_INLINE, this.#attr, nodes.attrFleeting)
  }

  #read(at: number, index: number): void {
    if (!this.#select(at)) return
    const { u32, f64 } = this.#ring
    const nodes = this.#nodes
    const extents = this.#extents
    const offset = f64[(at + AT_OFFSET) >> 1] as number
    const size = Math.min(u32[at + AT_SIZE] as number, u32[at + AT_WRITABLE] as number, READ_MAX)
    // An offset that the addon could not represent lies behind the end of any file.
    if (offset < 0) return this.#replies.inline(at, 0)
    extents.begin(index)
    const length = nodes.fs.read(nodes.ino, offset, size, extents)
    if (length < 0) return this.#replies.error(at, length)
    // A short reply would tell the kernel that the file ends here.
    if (length !== extents.length) return this.#replies.error(at, -ERRNO.EIO)
    this.#count(BYTES_READ, length)
    this.#count(READ_SIZES + sizeBucket(length))
    if (nodes.notes !== null) nodes.notes.noteRead(nodes.ino, length)
    if (extents.count === 0) return this.#replies.inline(at, 0)
    if (extents.wantCount === 0) return this.#replies.extents(at, extents.count)
    this.#count(DEFERRED)
    this.#replies.extents(at, extents.count, REPLY_DEFERRED)
    this.#deferrals.push(f64[(at + AT_TICKET) >> 1] as number, nodes.slot, nodes.ino, offset, extents)
  }

  #isOffered(flag: number): boolean {
    return ((this.#offered[0] as number) & flag) !== 0
  }

  /**
   * A kernel that offers it is told with ENOSYS that nothing has to be opened: it sends no OPEN, RELEASE and FLUSH any
   * more, and keeps pages as if KEEP_CACHE had been said. On a mount that is not read-only it then finds out with the
   * first WRITE or SETATTR, not when a file is opened, that nothing can be written.
   */
  #open(at: number): void {
    if (!this.#select(at)) return
    const nodes = this.#nodes
    const flags = this.#ring.u32[at + AT_FLAGS] as number
    if ((flags & OPEN_FLAG.ACCMODE) !== OPEN_FLAG.RDONLY || (flags & OPEN_FLAG.TRUNC) !== 0)
      return this.#replies.error(at, -ERRNO.EROFS)
    const status = nodes.getattr(this.#attr)
    if (status < 0) return this.#replies.error(at, status)
    if ((this.#attr.mode & MODE.TYPE) === MODE.DIR) return this.#replies.error(at, -ERRNO.EISDIR)
    if (this.#isOffered(INIT_FLAG.NO_OPEN_SUPPORT)) return this.#replies.error(at, -ERRNO.ENOSYS)
    this.#ring.u32[this.#replies.struct(at, OpenOut.size) + OPEN_FLAGS_WORD] = FILE_OPEN
  }

  #opendir(at: number): void {
    if (!this.#select(at)) return
    const nodes = this.#nodes
    const status = nodes.getattr(this.#attr)
    if (status < 0) return this.#replies.error(at, status)
    if ((this.#attr.mode & MODE.TYPE) !== MODE.DIR) return this.#replies.error(at, -ERRNO.ENOTDIR)
    // The kernel then keeps the listing of every folder for ever, those with mount points in them as well.
    if (nodes.fixed && this.#isOffered(INIT_FLAG.NO_OPENDIR_SUPPORT))
      return this.#replies.error(at, -ERRNO.ENOSYS)
    const out = this.#replies.struct(at, OpenOut.size)
    this.#replies.put64(out, this.#listingHandle())
    this.#ring.u32[out + OPEN_FLAGS_WORD] = nodes.shifting ? 0 : FOLDER_OPEN
  }

  /**
   * The root stays node 1 when another image is mounted there, so a listing of it says which image it was opened on.
   * 0 for other folders: their node ids say that, and a handle is no state here.
   */
  #listingHandle(): number {
    return this.#nodes.nodeid === FUSE_ROOT_ID ? this.#nodes.slot + 1 : 0
  }

  #readdir(at: number, index: number, plus: boolean): void {
    if (!this.#select(at)) return
    const { u32, f64 } = this.#ring
    const handle = f64[(at + AT_FH) >> 1] as number
    if (handle !== 0 && handle !== this.#listingHandle()) return this.#replies.error(at, -ERRNO.ESTALE)
    const size = Math.min(u32[at + AT_SIZE] as number, u32[at + AT_WRITABLE] as number)
    this.#directories.reply(at, index, f64[(at + AT_OFFSET) >> 1] as number, size, plus)
  }

  #getxattr(at: number, index: number): void {
    if (!this.#nodes.xattrsPossible) return this.#replies.error(at, -ERRNO.ENOSYS)
    if (!this.#select(at)) return
    const { u32, u8 } = this.#ring
    const nodes = this.#nodes
    const extents = this.#extents
    if (!nodes.fs.hasXattrs) return this.#replies.error(at, -ERRNO.ENODATA)
    const offset = u32[at + AT_NAME_OFFSET] as number
    const length = u32[at + AT_NAME_LENGTH] as number
    if (length === 0 || offset + length > RAW_SIZE) return this.#replies.error(at, -ERRNO.EINVAL)
    extents.begin(index)
    const bytes = nodes.fs.getxattr(nodes.ino, u8, (at + AT_RAW) * 4 + offset, length, extents)
    this.#rare.xattrReply(at, bytes)
  }
}
