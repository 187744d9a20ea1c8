/**
 * A request ring without an addon, for tests: fills slots as the addon does, and reads replies as it does.
 */
import { InHeader } from '../abi.js'
import {
  ARENA_OFFSET,
  Extent,
  EXTENTS_OFFSET,
  EXTENTS_STRIDE,
  FILE_ARENA,
  FILE_ZERO,
  REPLY_DEFERRED,
  REPLY_EXTENTS,
  REPLY_INLINE,
  Slot,
  SLOT_SIZE,
} from '../ring.js'
import { RingMemory } from '../ring-memory.js'

export interface Request {
  readonly opcode: number
  readonly nodeid?: number
  /** Goes behind `args`. */
  readonly name?: string | Uint8Array
  readonly args?: Uint8Array
  readonly offset?: number
  readonly size?: number
  readonly fh?: number
  readonly flags?: number
  /** Bytes that the guest's buffers have for the body. */
  readonly writable?: number
  readonly ticket?: number
}

export interface ExtentRecord {
  readonly file: number
  readonly offset: number
  readonly length: number
}

export interface Reply {
  readonly status: number
  readonly kind: 'inline' | 'extents' | 'deferred'
  readonly body: Uint8Array
  readonly extents: readonly ExtentRecord[]
  readonly lookups: number
  readonly lookupSlot: number
}

const KINDS = { [REPLY_INLINE]: 'inline', [REPLY_EXTENTS]: 'extents', [REPLY_DEFERRED]: 'deferred' } as const
/** What a slot holds of requests before: it must not come out of a reply. */
const STALE = 0xa5
const DEFAULT_WRITABLE = 1 << 20

export class FakeRing {
  readonly memory = new RingMemory()
  /** Registered files by id. */
  readonly files = new Map<number, Uint8Array>()
  readonly #view = new DataView(this.memory.buffer)

  fill(index: number, request: Request): void {
    const at = index * SLOT_SIZE
    this.memory.u8.fill(STALE, at, at + SLOT_SIZE)
    const name = typeof request.name === 'string' ? Buffer.from(request.name) : request.name
    const args = request.args ?? new Uint8Array(0)
    const argLength = args.length + (name === undefined ? 0 : name.length + 1)
    const put = (field: keyof typeof Slot.at, value: number): void =>
      typeof Slot.fields[field] === 'string'
        ? this.#view.setUint32(at + Slot.at[field], value, true)
        : this.#view.setFloat64(at + Slot.at[field], value, true)
    put('opcode', request.opcode)
    put('argLength', argLength)
    put('writable', request.writable ?? DEFAULT_WRITABLE)
    put('ticket', request.ticket ?? 0)
    put('nodeid', request.nodeid ?? 1)
    put('offset', request.offset ?? 0)
    put('fh', request.fh ?? 0)
    put('size', request.size ?? 0)
    put('flags', request.flags ?? 0)
    put('nameOffset', name === undefined ? 0 : InHeader.size + args.length)
    put('nameLength', name?.length ?? 0)
    const raw = at + Slot.at.raw
    InHeader.write(this.memory.u8, { len: InHeader.size + argLength, opcode: request.opcode }, raw)
    this.memory.u8.set(args, raw + InHeader.size)
    if (name !== undefined) {
      this.memory.u8.set(name, raw + InHeader.size + args.length)
      this.memory.u8[raw + InHeader.size + argLength - 1] = 0
    }
  }

  reply(index: number): Reply {
    const at = index * SLOT_SIZE
    const get = (field: keyof typeof Slot.at): number => this.#view.getUint32(at + Slot.at[field], true)
    const kind = KINDS[get('kind') as keyof typeof KINDS]
    const count = kind === 'inline' ? 0 : get('extentCount')
    const extents = Array.from({ length: count }, (_, i) => this.#extent(index, i))
    const inline = at + Slot.at.inline
    const status = this.#view.getInt32(at + Slot.at.status, true)
    const body =
      kind === 'inline' ? this.memory.u8.slice(inline, inline + get('length')) : this.bytes(extents)
    return { status, kind, body, extents, lookups: get('lookups'), lookupSlot: get('lookupSlot') }
  }

  bytes(extents: readonly ExtentRecord[]): Uint8Array {
    return Buffer.concat(extents.map(extent => this.#bytesOf(extent)))
  }

  #extent(index: number, i: number): ExtentRecord {
    const at = EXTENTS_OFFSET + index * EXTENTS_STRIDE + i * Extent.size
    return {
      file: this.#view.getUint32(at + Extent.at.file, true),
      length: this.#view.getUint32(at + Extent.at.length, true),
      offset: this.#view.getFloat64(at + Extent.at.offset, true),
    }
  }

  #bytesOf({ file, offset, length }: ExtentRecord): Uint8Array {
    if (file === FILE_ZERO) return new Uint8Array(length)
    const from = file === FILE_ARENA ? this.memory.u8.subarray(ARENA_OFFSET) : this.files.get(file)
    if (from === undefined) return new Uint8Array(0)
    return from.slice(offset, offset + length)
  }
}
