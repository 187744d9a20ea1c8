/**
 * The request ring: the memory that a lane (TypeScript) and the addon (C++) share.
 *
 * One SharedArrayBuffer per lane, made here and handed to the addon once. Its parts, in order:
 *
 *     slot 0 … slot BATCH-1        SLOT_SIZE bytes each: decoded request, reply, inline body, private copy
 *     extents 0 … extents BATCH-1  MAX_EXTENTS × EXTENT_SIZE bytes each: the extents of that slot's reply
 *     arena                        ARENA_SIZE bytes: replies encoded ahead (directories, xattr lists)
 *
 * The addon fills a batch of slots from the virtqueues (each guest field is copied once, then checked), the lane
 * writes an answer into each, and one native call completes the batch and waits for the next. The addon believes
 * nothing that it finds here: indexes, lengths and offsets of a reply are checked again against the guest's
 * buffers, the files and the arena. What decides memory safety (descriptor chains, iovecs, `unique`) never
 * stands in this memory.
 *
 * addon/fuse/slot.h declares the same layout; `native.ringLayout()` returns the addon's offsets and
 * `checkRingLayout` compares them when a lane starts, so the two cannot drift apart.
 */
import { NydusError } from '../base/errors.js'
import { layout } from '../base/layout.js'

/** Requests a lane handles between two native calls. */
export const BATCH = 8
export const SLOT_SIZE = 1024
/** Enough for a 1 MiB read of 4 KiB chunks, plus the two cut ones at its ends, plus holes. */
export const MAX_EXTENTS = 264
export const ARENA_SIZE = 32 << 20

export const Extent = layout('extent', 16, {
  /** A file registered with the addon, FILE_ZERO or FILE_ARENA. */
  file: 'u32',
  /** Bytes. */
  length: 'u32',
  /** Byte offset in that file or arena; f64, below 2^53. */
  offset: [8],
})
/** Extent of zeros (a hole): `offset` is ignored. */
export const FILE_ZERO = 0
/** Extent in this lane's own arena. */
export const FILE_ARENA = 0xffff_ffff

/** Bytes of a reply body that fit into a slot; the longest is STATX with 288. */
export const INLINE_SIZE = 296
/** Bytes of header and arguments that the addon copies out of guest memory at most. */
export const RAW_SIZE = 632

/**
 * One slot. Decoded fields first: 64-bit values as f64 (-1 where the guest's value is 2^53 or more: no check
 * lets that pass), so that a lane never touches a BigInt.
 */
export const Slot = layout('slot', SLOT_SIZE, {
  // Request, written by the addon.
  /** FUSE opcode. */
  opcode: 'u32',
  /** Bytes behind the 40-byte header in `raw`: in_header.len - 40, cut to what was copied. */
  argLength: 'u32',
  /** Bytes that the reply body may have: the guest's writable bytes less the 16 of the reply header. */
  writable: 'u32',
  reserved: 'u32',
  /** Identifies a request that the lane defers; f64, unique for the life of the device. */
  ticket: [8],
  nodeid: [8],
  /** READ, READDIR, READDIRPLUS, LSEEK: offset or cookie. */
  offset: [8],
  fh: [8],
  /** READ, READDIR, READDIRPLUS, GETXATTR, LISTXATTR: the size asked for. */
  size: 'u32',
  /** OPEN, OPENDIR: open flags. GETATTR, STATX: getattr flags. LSEEK: whence. ACCESS: mask. IOCTL: command. */
  flags: 'u32',
  /** LOOKUP, GETXATTR: where the name starts within `raw`, and its length without the NUL. */
  nameOffset: 'u32',
  nameLength: 'u32',
  uid: 'u32',
  gid: 'u32',
  // Reply, written by the lane: every word of it, slots are used again.
  /** 0 or a negative errno. */
  status: 'i32',
  /** One of REPLY_*. */
  kind: 'u32',
  /** REPLY_INLINE: bytes of `inline`. */
  length: 'u32',
  /** REPLY_EXTENTS, REPLY_DEFERRED: how many of this slot's extents count. */
  extentCount: 'u32',
  /** References that this reply hands to the guest's kernel (LOOKUP 1, READDIRPLUS its records), for `lookupSlot`. */
  lookups: 'u32',
  /** The mount slot those references belong to. */
  lookupSlot: 'u32',
  inline: [INLINE_SIZE],
  /** The private copy of fuse_in_header and its arguments. */
  raw: [RAW_SIZE],
})

/** The body is `inline`. With status < 0 there is no body. */
export const REPLY_INLINE = 0
/** The body is the concatenation of the slot's extents. */
export const REPLY_EXTENTS = 1
/**
 * No answer yet. The addon keeps the request and its extents; `Device.completeDeferred(ticket, …)` ends it.
 * The lane tells the yard about it only after the batch was handed over.
 */
export const REPLY_DEFERRED = 2

export const EXTENTS_OFFSET = BATCH * SLOT_SIZE
export const EXTENTS_STRIDE = MAX_EXTENTS * Extent.size
export const ARENA_OFFSET = EXTENTS_OFFSET + BATCH * EXTENTS_STRIDE
export const RING_SIZE = ARENA_OFFSET + ARENA_SIZE

/** What the addon must agree with, by name; `addon/fuse/slot.h` produces the same record. */
export function ringLayout(): Record<string, number> {
  const out: Record<string, number> = {
    batch: BATCH,
    slotSize: SLOT_SIZE,
    maxExtents: MAX_EXTENTS,
    arenaSize: ARENA_SIZE,
    extentsOffset: EXTENTS_OFFSET,
    arenaOffset: ARENA_OFFSET,
    ringSize: RING_SIZE,
  }
  for (const [field, offset] of Object.entries(Slot.at)) out[`slot.${field}`] = offset
  for (const [field, offset] of Object.entries(Extent.at)) out[`extent.${field}`] = offset
  return out
}

/** Throws when the addon's layout is not this file's: then one of the two is of another build. */
export function checkRingLayout(addon: Readonly<Record<string, number>>): void {
  const ours = ringLayout()
  for (const name of new Set([...Object.keys(ours), ...Object.keys(addon)])) {
    if (ours[name] === addon[name]) continue
    throw new NydusError(
      'NATIVE_MISMATCH',
      'EPROTO',
      `the addon does not fit: ${name} of the request ring is ${addon[name]} there and ${ours[name]} here; run \`npm run build\``,
    )
  }
}
