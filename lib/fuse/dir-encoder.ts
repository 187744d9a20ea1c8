/**
 * Encodes entries of a folder as READDIR or READDIRPLUS records: one page, straight into the arena.
 *
 *     record 0 │ record 1 │ … │ record count-1 │ table: one word per record
 *
 * A word of the table holds where the record starts (in 8 bytes, low half) and how many records before it carry a
 * reference (high half), so that the end of a reply is found by bisection and its references by subtraction.
 */
import type { NodeSink, Nodes } from '../vfs/filesystem.js'
import { newAttr } from '../vfs/filesystem.js'
import { Dirent, Direntplus, EntryOut } from './abi.js'
import { PIECE_MAX, type Arena } from './arena.js'
import type { Replies } from './reply.js'
import { ARENA_OFFSET } from './ring.js'
import type { RingMemory } from './ring-memory.js'

/** Bytes of records in a page; a table of the smallest records fits behind them. */
const RECORDS_MAX = 64 << 10
const SMALLEST = Dirent.size + 8
const COUNT_MAX = Math.min(RECORDS_MAX / SMALLEST, (PIECE_MAX - RECORDS_MAX) / 4 - 1)

const DIRENT_OFF = Dirent.at.off / 4
const DIRENT_NAMELEN = Dirent.at.namelen / 4
const DIRENT_TYPE = Dirent.at.type / 4
const ENTRY_WORDS = EntryOut.size / 4
const TYPE_SHIFT = 12

export class DirEncoder implements NodeSink {
  /** The page of the last `encode`: arena offset, bytes of records, records, cookie behind the last one. */
  start = 0
  bytes = 0
  count = 0
  next = 0
  /** No entry lies behind this page. */
  last = false

  readonly #u8: Uint8Array
  readonly #u32: Uint32Array
  readonly #replies: Replies
  readonly #nodes: Nodes
  readonly #arena: Arena
  readonly #attr = newAttr()
  /** Start of each record in bytes from the page's start. */
  readonly #starts = new Uint32Array(COUNT_MAX + 1)
  readonly #nodeids = new Float64Array(COUNT_MAX)
  #plus = false

  constructor(ring: RingMemory, replies: Replies, nodes: Nodes, arena: Arena) {
    this.#u8 = ring.u8
    this.#u32 = ring.u32
    this.#replies = replies
    this.#nodes = nodes
    this.#arena = arena
  }

  /**
   * Encodes the folder at the cursor from `cookie` on. Returns the page's position in the arena, or a negative errno.
   */
  encode(cookie: number, plus: boolean): number {
    this.start = this.#arena.reserve()
    this.bytes = 0
    this.count = 0
    this.next = cookie
    this.last = true
    this.#plus = plus
    const status = this.#nodes.readdir(cookie, this)
    if (status < 0) return status
    if (plus) this.#fillEntries()
    const table = this.tableWord()
    let references = 0
    for (let i = 0; i <= this.count; i++) {
      const start = i < this.count ? (this.#starts[i] as number) : this.bytes
      this.#u32[table + i] = (references << 16) | (start >> 3)
      if (i < this.count && this.#nodeids[i] !== 0) references++
    }
    return this.#arena.commit(this.bytes + (this.count + 1) * 4)
  }

  /** Word of the current page's table. */
  tableWord(): number {
    return (ARENA_OFFSET + this.start + this.bytes) / 4
  }

  node(
    nodeid: number,
    mode: number,
    bytes: Uint8Array,
    start: number,
    length: number,
    next: number,
    cacheable: boolean,
  ): boolean {
    const header = this.#plus ? Direntplus.size : Dirent.size
    const size = (header + length + 7) & ~7
    if (this.bytes + size > RECORDS_MAX || this.count === COUNT_MAX) {
      this.last = false
      return false
    }
    const u32 = this.#u32
    const record = ARENA_OFFSET + this.start + this.bytes
    const dirent = record / 4 + (this.#plus ? ENTRY_WORDS : 0)
    this.#replies.put64(dirent, nodeid)
    this.#replies.put64(dirent + DIRENT_OFF, next)
    u32[dirent + DIRENT_NAMELEN] = length
    u32[dirent + DIRENT_TYPE] = mode >>> TYPE_SHIFT
    const end = (record + size) / 4
    if (length > 0) {
      u32[end - 2] = 0
      u32[end - 1] = 0
    }
    const name = record + header
    for (let i = 0; i < length; i++) this.#u8[name + i] = bytes[start + i] as number
    this.#starts[this.count] = this.bytes
    this.#nodeids[this.count] = this.#plus && cacheable ? nodeid : 0
    this.count++
    this.bytes += size
    this.next = next
    return true
  }

  /** Attributes are read when the listing is complete: a file system need not stand being asked in between. */
  #fillEntries(): void {
    const nodes = this.#nodes
    const attr = this.#attr
    const { fs, base, generation, childrenFleeting } = nodes
    for (let i = 0; i < this.count; i++) {
      const entry = (ARENA_OFFSET + this.start + (this.#starts[i] as number)) / 4
      const nodeid = this.#nodeids[i] as number
      if (nodeid !== 0 && attributes(fs, nodeid - base, attr)) {
        attr.ino = nodeid
        this.#replies.entry(entry, attr, generation, childrenFleeting, false)
      } else {
        this.#replies.noEntry(entry, false)
        this.#nodeids[i] = 0
      }
    }
  }
}

/** False for a damaged inode: its record is a name only, and the LOOKUP that follows gets the error. */
function attributes(fs: Nodes['fs'], ino: number, out: ReturnType<typeof newAttr>): boolean {
  try {
    return fs.getattr(ino, out) >= 0
  } catch {
    return false
  }
}
