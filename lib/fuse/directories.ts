/**
 * READDIR and READDIRPLUS: folders are encoded ahead in pages, and a reply is a range of one page or two.
 *
 * Pages live in the lane's arena until newer ones need the room, so a folder of any size takes bounded memory.
 * `flush` forgets them when the mounts have changed.
 */
import { ERRNO } from '../base/errors.js'
import type { Nodes } from '../vfs/filesystem.js'
import { Dirent, Direntplus } from './abi.js'
import { PIECES_A_REQUEST, type Arena } from './arena.js'
import { DirEncoder } from './dir-encoder.js'
import type { Extents } from './extents.js'
import { PageIndex } from './page-index.js'
import type { Replies } from './reply.js'
import { ARENA_OFFSET, FILE_ARENA } from './ring.js'
import type { RingMemory } from './ring-memory.js'

/** Pages remembered; more than fit into the arena if they are full, less if folders are tiny. */
const PAGES = 16384
/** A reply with less room left than this ends at the end of its page. */
const WORTH_ANOTHER_PAGE = 1024
/** Cookies come back as f64: what the addon could not represent is -1. */
const COOKIE_BAD = -1
const PLAIN_OFF = Dirent.at.off / 4
const PLUS_OFF = Direntplus.at.off / 4

export class Directories {
  readonly #u32: Uint32Array
  readonly #replies: Replies
  readonly #nodes: Nodes
  readonly #arena: Arena
  readonly #extents: Extents
  readonly #encoder: DirEncoder
  readonly #index = new PageIndex()

  // Page number p lies in slot p % PAGES of these.
  readonly #numbers = new Float64Array(PAGES)
  readonly #positions = new Float64Array(PAGES)
  readonly #starts = new Uint32Array(PAGES)
  readonly #tables = new Uint32Array(PAGES)
  readonly #counts = new Uint32Array(PAGES)
  readonly #nexts = new Float64Array(PAGES)
  readonly #lasts = new Uint8Array(PAGES)
  #newest = 0
  /** Pages up to this number belong to an older state of the mounts. */
  #flushed = 0

  constructor(ring: RingMemory, replies: Replies, nodes: Nodes, arena: Arena, extents: Extents) {
    this.#u32 = ring.u32
    this.#replies = replies
    this.#nodes = nodes
    this.#arena = arena
    this.#extents = extents
    this.#encoder = new DirEncoder(ring, replies, nodes, arena)
  }

  flush(): void {
    this.#flushed = this.#newest
  }

  /** Answers with records of the folder at the cursor from `cookie` on, `size` bytes at most. */
  reply(at: number, index: number, cookie: number, size: number, plus: boolean): void {
    if (cookie === COOKIE_BAD) return this.#replies.error(at, -ERRNO.EINVAL)
    const extents = this.#extents
    extents.begin(index)
    let room = size
    let references = 0
    for (let round = 0; round < PIECES_A_REQUEST; round++) {
      const status = this.#find(cookie, plus)
      if (status < 0) {
        if (round === 0) return this.#replies.error(at, status)
        break
      }
      const slot = this.#index.page % PAGES
      const count = this.#counts[slot] as number
      const table = this.#tables[slot] as number
      const from = this.#index.record
      const first = this.#u32[table + from] as number
      const to = this.#fitting(table, from, count, room)
      if (to === from) {
        if (from < count && round === 0) return this.#replies.error(at, -ERRNO.EINVAL)
        break
      }
      const end = this.#u32[table + to] as number
      const length = ((end & 0xffff) - (first & 0xffff)) * 8
      extents.add(FILE_ARENA, (this.#starts[slot] as number) + (first & 0xffff) * 8, length)
      references += (end >>> 16) - (first >>> 16)
      room -= length
      cookie = to === count ? (this.#nexts[slot] as number) : this.#cookieBefore(slot, table, to, plus)
      const last = this.#lasts[slot] === 1
      if (to < count || last) this.#index.put(this.#nodes.nodeid, cookie, plus ? 1 : 0, this.#index.page, to)
      if (to < count || last || room < WORTH_ANOTHER_PAGE) break
    }
    if (extents.count === 0) return this.#replies.inline(at, 0)
    this.#replies.extents(at, extents.count)
    this.#replies.lookups(at, references, this.#nodes.slot)
  }

  /** Puts page and record for `cookie` into the index's result, encoding the page if there is none. */
  #find(cookie: number, plus: boolean): number {
    const { nodeid } = this.#nodes
    const kind = plus ? 1 : 0
    if (this.#index.find(nodeid, cookie, kind)) {
      const { page } = this.#index
      const slot = page % PAGES
      if (
        page > this.#flushed &&
        this.#numbers[slot] === page &&
        this.#arena.safe(this.#positions[slot] as number)
      )
        return 0
    }
    const encoder = this.#encoder
    const position = encoder.encode(cookie, plus)
    if (position < 0) return position
    const page = ++this.#newest
    const slot = page % PAGES
    this.#numbers[slot] = page
    this.#positions[slot] = position
    this.#starts[slot] = encoder.start
    this.#tables[slot] = encoder.tableWord()
    this.#counts[slot] = encoder.count
    this.#nexts[slot] = encoder.next
    this.#lasts[slot] = encoder.last ? 1 : 0
    this.#index.put(nodeid, cookie, kind, page, 0)
    this.#index.page = page
    this.#index.record = 0
    return 0
  }

  /** First record that no longer fits when `room` bytes start with record `from`. */
  #fitting(table: number, from: number, count: number, room: number): number {
    const limit = (((this.#u32[table + from] as number) & 0xffff) * 8 + room) / 8
    let low = from
    let high = count
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if (((this.#u32[table + middle] as number) & 0xffff) <= limit) low = middle
      else high = middle - 1
    }
    return low
  }

  /** The cookie of record `to`: what the record before it says. */
  #cookieBefore(slot: number, table: number, to: number, plus: boolean): number {
    const before = ((this.#u32[table + to - 1] as number) & 0xffff) * 8
    const record = ARENA_OFFSET + (this.#starts[slot] as number) + before
    const off = record / 4 + (plus ? PLUS_OFF : PLAIN_OFF)
    return (this.#u32[off] as number) + (this.#u32[off + 1] as number) * 2 ** 32
  }
}
