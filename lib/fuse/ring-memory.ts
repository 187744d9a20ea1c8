/**
 * Views over a lane's request ring, and where the fields of a slot lie in them.
 *
 * A slot is addressed by its first 32-bit word, called `at`: u32[at + AT_OPCODE], f64[(at + AT_NODEID) >> 1].
 * All handlers of a lane share one RingMemory; nothing here makes a view or an object per request. The offsets
 * are constants of their own because V8 folds those into the code, and properties of a table it does not.
 */
import { ARENA_OFFSET, EXTENTS_OFFSET, EXTENTS_STRIDE, RING_SIZE, Slot, SLOT_SIZE } from './ring.js'

const WORD = 4

export const AT_OPCODE = Slot.at.opcode / WORD
export const AT_ARG_LENGTH = Slot.at.argLength / WORD
export const AT_WRITABLE = Slot.at.writable / WORD
export const AT_TICKET = Slot.at.ticket / WORD
export const AT_NODEID = Slot.at.nodeid / WORD
export const AT_OFFSET = Slot.at.offset / WORD
export const AT_FH = Slot.at.fh / WORD
export const AT_SIZE = Slot.at.size / WORD
export const AT_FLAGS = Slot.at.flags / WORD
export const AT_NAME_OFFSET = Slot.at.nameOffset / WORD
export const AT_NAME_LENGTH = Slot.at.nameLength / WORD
export const AT_STATUS = Slot.at.status / WORD
export const AT_KIND = Slot.at.kind / WORD
export const AT_LENGTH = Slot.at.length / WORD
export const AT_EXTENT_COUNT = Slot.at.extentCount / WORD
export const AT_LOOKUPS = Slot.at.lookups / WORD
export const AT_LOOKUP_SLOT = Slot.at.lookupSlot / WORD
export const AT_INLINE = Slot.at.inline / WORD
/** The bytes behind the request header. */
export const AT_RAW = Slot.at.raw / WORD

export const SLOT_WORDS = SLOT_SIZE / WORD
export const EXTENTS_WORD = EXTENTS_OFFSET / WORD
export const EXTENTS_WORDS = EXTENTS_STRIDE / WORD
export const ARENA_WORD = ARENA_OFFSET / WORD

export class RingMemory {
  readonly buffer: SharedArrayBuffer
  readonly u8: Uint8Array
  readonly u32: Uint32Array
  readonly i32: Int32Array
  readonly f64: Float64Array

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(RING_SIZE)) {
    this.buffer = buffer
    this.u8 = new Uint8Array(buffer)
    this.u32 = new Uint32Array(buffer)
    this.i32 = new Int32Array(buffer)
    this.f64 = new Float64Array(buffer)
  }
}
