/**
 * The way to the threads that decode (addon/decode):
 *
 *     units of a batch ── records ──> thread (decrypt, decompress, check, pwrite) ── results, by unit ──> yard
 *
 * They know files and positions, not blobs or chunk maps: the yard sets ready bits when a result has come.
 */
import { availableParallelism } from 'node:os'
import { NydusError } from '../base/errors.js'
import { layout } from '../base/layout.js'
import { DIGESTER_NUMBER, native, type DecodeFailure, type DecodePool, type DecodeUnits } from '../native.js'
import type { Compressor } from './cache.js'
import type { Coding, Expected, UnitCoding } from './coding.js'

/** A unit (addon/decode/unit_task.h). Places are bytes. */
const UnitRecord = layout('UnitRecord', 96, {
  id: 'f64',
  /** UNIT_FLAG. */
  flags: 'f64',
  /** Of the stored bytes: in the batch's memory, or in the file. */
  start: 'f64',
  size: 'f64',
  outputSize: 'f64',
  fd: 'f64',
  /** Of the whole output: in the file, or in the batch's target. */
  position: 'f64',
  /** MemberRecords that follow. */
  members: 'f64',
  zranByte: 'f64',
  zranBits: 'f64',
  /** In the batch's extra bytes. */
  dictionaryAt: 'f64',
  dictionarySize: 'f64',
})

const MemberRecord = layout('MemberRecord', 48, {
  /** MEMBER_FLAG. */
  flags: 'f64',
  /** In the unit's output. */
  at: 'f64',
  size: 'f64',
  /** In the file. */
  position: 'f64',
  crc32: 'f64',
  /** In the batch's extra bytes. */
  digestAt: 'f64',
})

const UNIT_FLAG = {
  COMPRESSED: 1,
  ENCRYPTED: 2,
  ZRAN: 4,
  STORE_WHOLE: 8,
  INTO_TARGET: 16,
  FROM_FILE: 32,
} as const
const MEMBER_FLAG = { STORE: 1, DIGEST: 2, CRC: 4 } as const
const COMPRESSORS: Readonly<Record<Compressor, number>> = { none: 0, lz4_block: 1, zstd: 2, gzip: 3 }

/** More would only compete with the lanes; two keep a second core busy while the first reads. */
const MAX_THREADS = 4
const DOUBLE = 8
const UNIT_WORDS = UnitRecord.size / DOUBLE
const MEMBER_WORDS = MemberRecord.size / DOUBLE
const UNIT = words(UnitRecord.at)
const MEMBER = words(MemberRecord.at)
const NOTHING = new Uint8Array(0)

/** Offsets in doubles instead of bytes. */
function words<K extends string>(at: Readonly<Record<K, number>>): Readonly<Record<K, number>> {
  return Object.fromEntries(
    Object.entries<number>(at).map(([field, bytes]) => [field, bytes / DOUBLE]),
  ) as Record<K, number>
}

/** Where a unit's bytes come from and go to. */
export interface UnitPlace extends UnitCoding {
  /** Of the stored bytes, in the batch's memory; in the file when `fromFile` is set. */
  readonly start: number
  readonly size: number
  /** File that members are written to; -1: none. */
  readonly fd: number
  readonly fromFile?: true
  /** Store the whole output there in the file, whatever its members' checks say. */
  readonly position?: number
  /** Put the whole output there in the batch's target. */
  readonly targetAt?: number
}

/** A chunk to check in a unit's output. */
export interface MemberPlace extends Expected {
  readonly at: number
  readonly size: number
  /** Where it goes in the file; undefined: nowhere. */
  readonly position?: number
}

/** Why a member is not there. */
export interface Bad {
  readonly kind: 'damaged' | 'store'
  /** Of `store`. */
  readonly errno: string
  readonly message: string
}

/**
 * How a unit ended: what is wrong, by the member's position; empty when all is well. With an error when nothing is known
 * of any member.
 */
export type UnitDone = (bad: ReadonlyMap<number, Bad>, error?: NydusError) => void

const ALL_WELL: ReadonlyMap<number, Bad> = new Map()

/** Units of one blob that are handed over together. */
export class DecodeBatch {
  readonly #send: (batch: DecodeBatch, urgent: boolean) => void
  readonly #takeId: () => number
  readonly coding: Coding
  /** Where stored bytes lie, and where outputs go. */
  readonly stored: Uint8Array
  readonly target: Uint8Array
  /** Whom to tell, by unit. */
  readonly dones = new Map<number, UnitDone>()
  #records = new Float64Array(16 * (UNIT_WORDS + MEMBER_WORDS))
  #used = 0
  #extra = NOTHING
  #extraUsed = 0

  constructor(
    coding: Coding,
    stored: Uint8Array,
    target: Uint8Array,
    takeId: () => number,
    send: (batch: DecodeBatch, urgent: boolean) => void,
  ) {
    this.coding = coding
    this.stored = stored
    this.target = target
    this.#takeId = takeId
    this.#send = send
  }

  /** The records of what was added, as addon/decode/unit_task.h has them. */
  get records(): Float64Array {
    return this.#records.subarray(0, this.#used)
  }

  /** Digests and dictionaries, to which records point. */
  get extra(): Uint8Array {
    return this.#extra.subarray(0, this.#extraUsed)
  }

  /** Adds a unit with the members to check; returns its number. `done` is called once, after `submit`. */
  add(unit: UnitPlace, members: readonly MemberPlace[], done: UnitDone): number {
    const { zran } = unit
    const id = this.#takeId()
    this.dones.set(id, done)
    const at = this.#take(UNIT_WORDS)
    const dictionaryAt = zran === undefined ? 0 : this.#keep(zran.dictionary)
    const to = this.#records
    to[at + UNIT.id] = id
    to[at + UNIT.flags] = unitFlags(unit)
    to[at + UNIT.start] = unit.start
    to[at + UNIT.size] = unit.size
    to[at + UNIT.outputSize] = unit.outputSize
    to[at + UNIT.fd] = unit.fd
    to[at + UNIT.position] = unit.position ?? unit.targetAt ?? 0
    to[at + UNIT.members] = members.length
    to[at + UNIT.zranByte] = zran?.byte ?? 0
    to[at + UNIT.zranBits] = zran?.bits ?? 0
    to[at + UNIT.dictionaryAt] = dictionaryAt
    to[at + UNIT.dictionarySize] = zran?.dictionary.length ?? 0
    for (const member of members) this.#addMember(member)
    return id
  }

  /** Hands all over that was added. `urgent`: somebody waits for it. The batch must not be used afterwards. */
  submit(urgent: boolean): void {
    this.#send(this, urgent)
  }

  #addMember({ at: start, size, position, digest, crc32 }: MemberPlace): void {
    const at = this.#take(MEMBER_WORDS)
    const digestAt = digest === undefined ? 0 : this.#keep(digest)
    const to = this.#records
    to[at + MEMBER.flags] =
      (position === undefined ? 0 : MEMBER_FLAG.STORE) |
      (digest === undefined ? 0 : MEMBER_FLAG.DIGEST) |
      (crc32 === undefined ? 0 : MEMBER_FLAG.CRC)
    to[at + MEMBER.at] = start
    to[at + MEMBER.size] = size
    to[at + MEMBER.position] = position ?? 0
    to[at + MEMBER.crc32] = crc32 ?? 0
    to[at + MEMBER.digestAt] = digestAt
  }

  #take(words: number): number {
    const at = this.#used
    this.#used += words
    if (this.#used > this.#records.length) {
      const more = new Float64Array(2 * this.#used)
      more.set(this.#records)
      this.#records = more
    }
    return at
  }

  #keep(bytes: Uint8Array): number {
    const at = this.#extraUsed
    this.#extraUsed += bytes.length
    if (this.#extraUsed > this.#extra.length) {
      const more = new Uint8Array(Math.max(512, 2 * this.#extraUsed))
      more.set(this.#extra)
      this.#extra = more
    }
    this.#extra.set(bytes, at)
    return at
  }
}

/** A batch as the addon takes it. */
function unitsOf({ coding, stored, target, records, extra }: DecodeBatch): DecodeUnits {
  const { compressor, digester, cipher } = coding
  const key = cipher === undefined ? NOTHING : Buffer.concat([cipher.key, cipher.iv])
  const bytes = new Uint8Array(records.buffer, records.byteOffset, records.byteLength)
  return [COMPRESSORS[compressor], DIGESTER_NUMBER[digester], key, stored, target, bytes, extra]
}

/**
 * The same on the calling thread: puts the unit's output into `target`, if there is one, and checks its members; returns
 * what is wrong with them, by position (with the first, when there are none). Throws CACHE_DECODE_FAILED.
 */
export function decodeHere(
  coding: Coding,
  { compressed, encrypted, outputSize, zran }: UnitCoding,
  members: readonly MemberPlace[],
  stored: Uint8Array,
  target?: Uint8Array,
): ReadonlyMap<number, Bad> {
  const batch = new DecodeBatch(
    coding,
    stored,
    target ?? NOTHING,
    () => 0,
    () => {},
  )
  const unit = {
    compressed,
    encrypted,
    outputSize,
    ...(zran && { zran }),
    start: 0,
    size: stored.length,
    fd: -1,
    ...(target && { targetAt: 0 }),
  }
  batch.add(unit, members, () => {})
  const failures = native.decodeUnits(...unitsOf(batch))
  if (failures.length === 0) return ALL_WELL
  const bad = new Map<number, Bad>()
  const error = takeFailures(failures, bad)
  if (error !== undefined) throw error
  return bad
}

/** Sorts failures of one unit: into `bad`, or an error when nothing is known of it. */
function takeFailures(failures: readonly DecodeFailure[], bad: Map<number, Bad>): NydusError | undefined {
  for (const { member, kind, errno, message } of failures) {
    if (kind === 'failed')
      return new NydusError('CACHE_DECODE_FAILED', 'EIO', `a chunk is not decoded: ${message}`)
    bad.set(member, { kind, errno, message })
  }
  return undefined
}

function unitFlags(unit: UnitPlace): number {
  return (
    (unit.compressed ? UNIT_FLAG.COMPRESSED : 0) |
    (unit.encrypted ? UNIT_FLAG.ENCRYPTED : 0) |
    (unit.zran === undefined ? 0 : UNIT_FLAG.ZRAN) |
    (unit.position === undefined ? 0 : UNIT_FLAG.STORE_WHOLE) |
    (unit.targetAt === undefined ? 0 : UNIT_FLAG.INTO_TARGET) |
    (unit.fromFile === true ? UNIT_FLAG.FROM_FILE : 0)
  )
}

export class Decoder {
  readonly #threads: number
  readonly #running = new Map<number, UnitDone>()
  #native: DecodePool | undefined
  #nextId = 1
  #closed = false

  constructor(threads = Math.min(availableParallelism(), MAX_THREADS)) {
    this.#threads = threads
  }

  /** A batch over `stored`; `target` for units with `targetAt`. Both must be left alone until the units have ended. */
  batch(coding: Coding, stored: Uint8Array = NOTHING, target: Uint8Array = NOTHING): DecodeBatch {
    const takeId = (): number => this.#nextId++
    return new DecodeBatch(coding, stored, target, takeId, (batch, urgent) => this.#submit(batch, urgent))
  }

  /** Somebody waits for the unit with this number now. */
  promote(id: number): void {
    this.#native?.promote(id)
  }

  /** Units that have not ended. */
  get pending(): number {
    return this.#running.size
  }

  /** Waits for the units that have begun; those that have not ended fail with CACHE_CLOSED. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#native?.close()
    this.#endAll()
  }

  #submit(batch: DecodeBatch, urgent: boolean): void {
    const running = (): void => batch.dones.forEach((done, id) => this.#running.set(id, done))
    if (this.#closed) {
      running()
      return queueMicrotask(() => this.#endAll())
    }
    this.#native ??= native.createDecodePool(this.#threads, (ids, failures) => this.#ended(ids, failures))
    this.#native.submit(...unitsOf(batch), urgent)
    running()
  }

  #ended(ids: Float64Array, failures: readonly DecodeFailure[]): void {
    for (const [unit, id] of ids.entries()) {
      const done = this.#running.get(id)
      this.#running.delete(id)
      if (failures.length === 0) done?.(ALL_WELL)
      else {
        const bad = new Map<number, Bad>()
        const error = takeFailures(
          failures.filter(failure => failure.unit === unit),
          bad,
        )
        done?.(bad, error)
      }
    }
  }

  #endAll(): void {
    const left = [...this.#running.values()]
    this.#running.clear()
    const error = new NydusError('CACHE_CLOSED', 'EIO', 'the chunk cache was closed')
    for (const done of left) done(ALL_WELL, error)
  }
}
