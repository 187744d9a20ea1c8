/**
 * Writes replies into slots: every word of one, because slots are used again and stale bytes would leak.
 *
 * 32-bit stores only; a 64-bit value is two of them, and no number here ever becomes a BigInt.
 */
import { FLEETING_MS, type Attr as NodeAttr } from '../vfs/filesystem.js'
import { ERRNO } from '../base/errors.js'
import { Attr, AttrOut, EntryOut } from './abi.js'
import { REPLY_EXTENTS, REPLY_INLINE } from './ring.js'
import {
  AT_EXTENT_COUNT,
  AT_INLINE,
  AT_KIND,
  AT_LENGTH,
  AT_LOOKUPS,
  AT_LOOKUP_SLOT,
  AT_STATUS,
  type RingMemory,
} from './ring-memory.js'

/**
 * Seconds that a guest may keep what can't change: 31 years, far from the kernel's overflow of jiffies.
 */
export const LASTING_S = 1_000_000_000
/** What a guest may keep for a moment only (see FLEETING_MS), in nanoseconds. */
export const FLEETING_NS = FLEETING_MS * 1_000_000

const BLOCK_SIZE = 4096
const HIGH = 2 ** 32

const word = (offset: number): number => offset / 4

const ENTRY_GENERATION = word(EntryOut.at.generation)
const ENTRY_VALID = word(EntryOut.at.entryValid)
const ENTRY_ATTR_VALID = word(EntryOut.at.attrValid)
const ENTRY_VALID_NSEC = word(EntryOut.at.entryValidNsec)
const ENTRY_ATTR_VALID_NSEC = word(EntryOut.at.attrValidNsec)
const ENTRY_ATTR = word(EntryOut.at.attr)
const ENTRY_WORDS = word(EntryOut.size)
const ATTR_VALID_NSEC = word(AttrOut.at.attrValidNsec)
const ATTR_DUMMY = word(AttrOut.at.dummy)
const ATTR_ATTR = word(AttrOut.at.attr)
const SIZE = word(Attr.at.size)
const BLOCKS = word(Attr.at.blocks)
const ATIME = word(Attr.at.atime)
const MTIME = word(Attr.at.mtime)
const CTIME = word(Attr.at.ctime)
const ATIMENSEC = word(Attr.at.atimensec)
const MTIMENSEC = word(Attr.at.mtimensec)
const CTIMENSEC = word(Attr.at.ctimensec)
const ATTR_MODE = word(Attr.at.mode)
const NLINK = word(Attr.at.nlink)
const UID = word(Attr.at.uid)
const GID = word(Attr.at.gid)
const RDEV = word(Attr.at.rdev)
const BLKSIZE = word(Attr.at.blksize)
const ATTR_FLAGS = word(Attr.at.flags)

export class Replies {
  readonly #u32: Uint32Array
  readonly #i32: Int32Array

  constructor(ring: RingMemory) {
    this.#u32 = ring.u32
    this.#i32 = ring.i32
  }

  /** Success with `length` bytes of `inline`, which the caller has filled or fills. */
  inline(at: number, length: number): void {
    const u32 = this.#u32
    this.#i32[at + AT_STATUS] = 0
    u32[at + AT_KIND] = REPLY_INLINE
    u32[at + AT_LENGTH] = length
    u32[at + AT_EXTENT_COUNT] = 0
    u32[at + AT_LOOKUPS] = 0
    u32[at + AT_LOOKUP_SLOT] = 0
  }

  /** `status` is a negative errno. */
  error(at: number, status: number): void {
    this.inline(at, 0)
    this.#i32[at + AT_STATUS] = status < 0 ? status : -ERRNO.EIO
  }

  /** Success with the first `count` extents of the slot. */
  extents(at: number, count: number, kind: number = REPLY_EXTENTS): void {
    this.inline(at, 0)
    this.#u32[at + AT_KIND] = kind
    this.#u32[at + AT_EXTENT_COUNT] = count
  }

  /** The reply hands `count` references to nodes of mount slot `slot` to the guest's kernel. */
  lookups(at: number, count: number, slot: number): void {
    this.#u32[at + AT_LOOKUPS] = count
    this.#u32[at + AT_LOOKUP_SLOT] = slot
  }

  /** A reply that is one struct with all its words zero; returns the word where it starts. */
  struct(at: number, size: number): number {
    this.inline(at, size)
    const start = at + AT_INLINE
    this.#u32.fill(0, start, start + size / 4)
    return start
  }

  /** EntryOut at word `to`, which may lie in a slot or in the arena. */
  entry(to: number, attr: NodeAttr, generation: number, entryFleeting: boolean, attrFleeting: boolean): void {
    const u32 = this.#u32
    this.put64(to, attr.ino)
    this.put64(to + ENTRY_GENERATION, generation)
    this.put64(to + ENTRY_VALID, entryFleeting ? 0 : LASTING_S)
    this.put64(to + ENTRY_ATTR_VALID, attrFleeting ? 0 : LASTING_S)
    u32[to + ENTRY_VALID_NSEC] = entryFleeting ? FLEETING_NS : 0
    u32[to + ENTRY_ATTR_VALID_NSEC] = attrFleeting ? FLEETING_NS : 0
    this.#attr(to + ENTRY_ATTR, attr)
  }

  /** An entry without a node: in a LOOKUP reply "no such name, remember it", in a listing "name only". */
  noEntry(to: number, lasting: boolean): void {
    this.#u32.fill(0, to, to + ENTRY_WORDS)
    if (lasting) this.put64(to + ENTRY_VALID, LASTING_S)
  }

  /** AttrOut at word `to`. */
  attrOut(to: number, attr: NodeAttr, fleeting: boolean): void {
    const u32 = this.#u32
    this.put64(to, fleeting ? 0 : LASTING_S)
    u32[to + ATTR_VALID_NSEC] = fleeting ? FLEETING_NS : 0
    u32[to + ATTR_DUMMY] = 0
    this.#attr(to + ATTR_ATTR, attr)
  }

  /** A value of up to 2^53 as u64. */
  put64(to: number, value: number): void {
    this.#u32[to] = value >>> 0
    this.#u32[to + 1] = (value / HIGH) >>> 0
  }

  /** A time in seconds, which may be negative, as i64. */
  putTime(to: number, seconds: number): void {
    this.#u32[to] = seconds >>> 0
    this.#u32[to + 1] = Math.floor(seconds / HIGH) >>> 0
  }

  /** A struct fuse_attr. Images keep one time, so all three are that. */
  #attr(to: number, attr: NodeAttr): void {
    const u32 = this.#u32
    this.put64(to, attr.ino)
    this.put64(to + SIZE, attr.size)
    this.put64(to + BLOCKS, attr.blocks)
    this.putTime(to + ATIME, attr.mtime)
    this.putTime(to + MTIME, attr.mtime)
    this.putTime(to + CTIME, attr.mtime)
    u32[to + ATIMENSEC] = attr.mtimeNs
    u32[to + MTIMENSEC] = attr.mtimeNs
    u32[to + CTIMENSEC] = attr.mtimeNs
    u32[to + ATTR_MODE] = attr.mode
    u32[to + NLINK] = attr.nlink
    u32[to + UID] = attr.uid
    u32[to + GID] = attr.gid
    u32[to + RDEV] = attr.rdev
    u32[to + BLKSIZE] = BLOCK_SIZE
    u32[to + ATTR_FLAGS] = 0
  }
}
