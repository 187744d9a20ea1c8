/** Images with one thing wrong, and a guest that tries everything on them. */
import type { Fields } from '../../base/layout.js'
import { newAttr } from '../../vfs/filesystem.js'
import { Blobs } from '../blobs.js'
import { Bootstrap } from '../bootstrap.js'
import { RafsReader } from '../reader.js'
import { readSuper } from '../super.js'
import { memoryOf, PLAIN_OPTIONS } from './fixtures.js'
import { Bytes, Entries, Extents, latin1 } from './sinks.js'

/** As much of a layout as damage needs. */
export interface Table {
  readonly at: Readonly<Record<string, number>>
  readonly fields: Fields
}

/** Bytes of a field that damage changes: all of a number, the first of raw bytes. */
export function widthOf(table: Table, field: string): number {
  const type = table.fields[field]
  return typeof type === 'string' ? Number(type.slice(1)) / 8 : 1
}

/** A copy with one field set. */
export function changed(
  base: Uint8Array,
  table: Table,
  field: string,
  value: bigint,
  start: number,
): Uint8Array {
  const bytes = Uint8Array.from(base)
  const at = start + (table.at[field] ?? NaN)
  for (let i = 0; i < widthOf(table, field); i++) bytes[at + i] = Number((value >> BigInt(8 * i)) & 0xffn)
  return bytes
}

/** What a field holds. */
export function valueOf(base: Uint8Array, table: Table, field: string, start: number): bigint {
  const at = start + (table.at[field] ?? NaN)
  let value = 0n
  for (let i = widthOf(table, field) - 1; i >= 0; i--) value = (value << 8n) | BigInt(base[at + i] ?? 0)
  return value
}

/** Values at which arithmetic goes wrong, cut to the field's width and without the one that is there. */
export function* nastyValues(
  base: Uint8Array,
  table: Table,
  field: string,
  start: number,
): Generator<bigint> {
  const bits = BigInt(8 * widthOf(table, field))
  const original = valueOf(base, table, field, start)
  const size = BigInt(base.length)
  const edges = [
    0n,
    1n,
    2n,
    255n,
    4095n,
    4096n,
    size - 1n,
    size,
    size >> 5n,
    1n << 15n,
    1n << 31n,
    1n << 32n,
    1n << 40n,
  ]
  const tops = [(1n << 53n) - 1n, 1n << 53n, 1n << 63n, (1n << 64n) - 1n]
  const flips = Array.from({ length: Number(bits) }, (_, bit) => original ^ (1n << BigInt(bit)))
  const all = [...edges, ...tops, ...flips, original + 1n, original - 1n].map(value =>
    BigInt.asUintN(Number(bits), value),
  )
  for (const value of new Set(all)) if (value !== original) yield value
}

/** A DataView that counts, and stops whoever reads more than a request may cost. */
class CountingView extends DataView<ArrayBuffer> {
  reads = 0
  limit = Infinity

  #count(): void {
    if (++this.reads > this.limit)
      throw new Error(`more than ${this.limit} reads of the image for one request`)
  }

  override getUint8(at: number): number {
    this.#count()
    return super.getUint8(at)
  }

  override getUint16(at: number, little?: boolean): number {
    this.#count()
    return super.getUint16(at, little)
  }

  override getUint32(at: number, little?: boolean): number {
    this.#count()
    return super.getUint32(at, little)
  }
}

class CountedBootstrap extends Bootstrap {
  override readonly view: CountingView

  constructor(bytes: Uint8Array) {
    const memory = memoryOf(bytes)
    super(memory, memory.byteLength, 'image')
    this.view = new CountingView(memory)
  }
}

/** What requests may be answered with: a value, or one of these. */
const ERRNOS = new Set([2, 5, 6, 20, 22, 61])
/** Far above what the fixtures need (a listing of the biggest folder), far below what a hang would take. */
const READS_PER_REQUEST = 20_000

export class Victim {
  readonly reader: RafsReader
  readonly view: CountingView
  /** Requests answered with an error, by errno. */
  readonly errors = new Map<number, number>()

  /** Throws NydusError when the superblock is refused. */
  constructor(bytes: Uint8Array, validate: boolean) {
    const boot = new CountedBootstrap(bytes)
    this.view = boot.view
    const sb = readSuper(boot, 'stem')
    this.reader = new RafsReader(boot, sb, new Blobs(sb.blobs, [], []), { ...PLAIN_OPTIONS, validate })
  }

  /** Every request for one inode; throws when an answer is no answer. Returns the names found in a folder. */
  poke(ino: number): Entries {
    const { reader } = this
    const attr = newAttr()
    const entries = new Entries(2000)
    this.#ask(() => reader.getattr(ino, attr))
    this.#ask(() => reader.readdir(ino, 0, entries))
    this.#ask(() => reader.readdir(ino, 24, new Entries(10)))
    this.#ask(() => reader.lookup(ino, latin1('hello'), 0, 5))
    this.#ask(() => reader.lookup(ino, latin1('\xff'.repeat(255)), 0, 255))
    for (const { name } of entries.entries.slice(0, 20))
      this.#ask(() => reader.lookup(ino, latin1(name), 0, name.length))
    this.#ask(() => reader.parent(ino))
    this.#ask(() => reader.readlink(ino, new Extents()))
    this.#ask(() => reader.listxattr(ino, new Bytes()))
    this.#ask(() => reader.getxattr(ino, latin1('user.k1'), 0, 7, new Extents()))
    for (const offset of [0, 4095, 1 << 20, 2 ** 40, attr.size - 1, attr.size]) {
      const out = new Extents(264)
      const length = this.#ask(() => reader.read(ino, offset, 128 << 10, out))
      if (length >= 0 && (length > 128 << 10 || out.length !== length))
        throw new Error(`read of inode ${ino} at ${offset}: ${length} bytes, ${out.length} in extents`)
      this.#ask(() => reader.lseek(ino, offset, 3))
      this.#ask(() => reader.lseek(ino, offset, 4))
    }
    return entries
  }

  /** Pokes `from` and what is below it, at most `limit` inodes. */
  pokeAll(from: number, limit: number): void {
    const seen = new Set([from])
    for (const ino of seen) {
      if (seen.size > limit) return
      for (const entry of this.poke(ino).entries) seen.add(entry.ino)
    }
  }

  #ask(request: () => number): number {
    this.view.reads = 0
    this.view.limit = READS_PER_REQUEST
    const answer = request()
    if (!Number.isSafeInteger(answer) || (answer < 0 && !ERRNOS.has(-answer)))
      throw new Error(`${request.toString()} answers ${answer}`)
    if (answer < 0) this.errors.set(-answer, (this.errors.get(-answer) ?? 0) + 1)
    return answer
  }
}
