/**
 * FUSE operations over the test front-end, as a guest's kernel sends them: arguments encoded and replies decoded by
 * the tables of lib/fuse/abi.ts. An error reply becomes a NydusError FRONTEND_FUSE_ERROR with its errno.
 */
import { ERRNO, NydusError } from '../../lib/base/errors.js'
import type { Errno } from '../../lib/base/errors.js'
import { toSafe } from '../../lib/base/layout.js'
import type { Fields, Layout, StructOf } from '../../lib/base/layout.js'
import * as abi from '../../lib/fuse/abi.js'
import type { VhostFrontend } from './frontend.js'
import type { RequestOptions } from './requests.js'

const { OP } = abi
const DIRENT_ALIGN = 8
const PATH_MAX = 4096

/** A 64-bit value to send; other back-ends use all 64 bits of node ids, handles and cookies. */
export type U64 = number | bigint

export type Attr = StructOf<typeof abi.Attr.fields>

export interface Entry {
  readonly nodeid: bigint
  readonly generation: bigint
  /** Seconds; the nanoseconds beside them are in the reply too, nobody uses them. */
  readonly entryValid: bigint
  readonly attrValid: bigint
  readonly attr: Attr
}

export interface Dirent {
  readonly ino: bigint
  /** Cookie of the record behind this one. */
  readonly off: bigint
  /** mode >> 12. */
  readonly type: number
  readonly name: Buffer
}

export interface Direntplus extends Dirent {
  /** nodeid 0: only the name counts. */
  readonly entry: Entry
}

export type InitReply = StructOf<typeof abi.InitOut.fields>
export type OpenReply = { readonly fh: bigint; readonly openFlags: number }
export type StatfsReply = StructOf<typeof abi.StatfsOut.fields>

/** What Linux 6.12 offers over virtiofs, without a DAX window (fuse.md §2). */
const LINUX_6_12 = { major: 7, minor: 41, maxReadahead: 131072, flags: 0x7bfffffb, flags2: 0x1ff } as const

export class FuseClient {
  readonly frontend: VhostFrontend
  readonly #options: RequestOptions

  /** `options` are those of every request. */
  constructor(frontend: VhostFrontend, options: RequestOptions = {}) {
    this.frontend = frontend
    this.#options = options
  }

  async init(offer: Partial<StructOf<typeof abi.InitIn.fields>> = LINUX_6_12): Promise<InitReply> {
    const body = await this.#call(OP.INIT, 0, [encode(abi.InitIn, offer)], abi.InitOut.size)
    return abi.InitOut.read(body)
  }

  /** Throws ENOENT also for a negative entry (nodeid 0). */
  async lookup(parent: U64, name: Uint8Array): Promise<Entry> {
    const entry = await this.lookupEntry(parent, name)
    if (entry.nodeid === 0n) throw fuseError(OP.LOOKUP, parent, -ERRNO.ENOENT)
    return entry
  }

  /** The entry as it came: nodeid 0 is a negative one. */
  async lookupEntry(parent: U64, name: Uint8Array): Promise<Entry> {
    return readEntry(await this.#call(OP.LOOKUP, parent, [nul(name)], abi.EntryOut.size))
  }

  async forget(nodeid: U64, nlookup: number): Promise<void> {
    await this.#call(OP.FORGET, nodeid, [encode(abi.ForgetIn, { nlookup: BigInt(nlookup) })], 0)
  }

  async getattr(nodeid: U64): Promise<Attr> {
    const body = await this.#call(OP.GETATTR, nodeid, [encode(abi.GetattrIn, {})], abi.AttrOut.size)
    return abi.Attr.read(abi.AttrOut.read(body).attr)
  }

  async readlink(nodeid: U64): Promise<Buffer> {
    return Buffer.from(await this.#call(OP.READLINK, nodeid, [], PATH_MAX))
  }

  async open(nodeid: U64, flags: number = abi.OPEN_FLAG.RDONLY): Promise<OpenReply> {
    return this.#open(OP.OPEN, nodeid, flags)
  }

  async opendir(nodeid: U64): Promise<OpenReply> {
    return this.#open(OP.OPENDIR, nodeid, abi.OPEN_FLAG.RDONLY)
  }

  /** One READ: at most `size` bytes; fewer only at the end of the file. */
  async read(nodeid: U64, fh: U64, offset: U64, size: number): Promise<Uint8Array> {
    return this.#readLike(OP.READ, nodeid, fh, offset, size)
  }

  async readdir(nodeid: U64, fh: U64, cookie: U64, size: number): Promise<Dirent[]> {
    const body = await this.#readLike(OP.READDIR, nodeid, fh, cookie, size)
    const out: Dirent[] = []
    for (let at = 0; at < body.length;) {
      const record = abi.Dirent.read(body, at)
      out.push(readDirent(record, body, at + abi.Dirent.size))
      at = align(at + abi.Dirent.size + record.namelen)
    }
    return out
  }

  async readdirplus(nodeid: U64, fh: U64, cookie: U64, size: number): Promise<Direntplus[]> {
    const body = await this.#readLike(OP.READDIRPLUS, nodeid, fh, cookie, size)
    const out: Direntplus[] = []
    for (let at = 0; at < body.length;) {
      const record = abi.Direntplus.read(body, at)
      const dirent = readDirent(record, body, at + abi.Direntplus.size)
      out.push({ ...dirent, entry: readEntry(record.entry) })
      at = align(at + abi.Direntplus.size + record.namelen)
    }
    return out
  }

  async releasedir(nodeid: U64, fh: U64): Promise<void> {
    await this.#call(OP.RELEASEDIR, nodeid, [encode(abi.ReleaseIn, { fh: BigInt(fh) })], 0)
  }

  async release(nodeid: U64, fh: U64): Promise<void> {
    await this.#call(OP.RELEASE, nodeid, [encode(abi.ReleaseIn, { fh: BigInt(fh) })], 0)
  }

  /** Asks for the size first, as getxattr(2) callers do. */
  async getxattr(nodeid: U64, name: Uint8Array): Promise<Buffer> {
    const size = await this.getxattrSize(nodeid, name)
    if (size === 0) return Buffer.alloc(0)
    const parts = [encode(abi.GetxattrIn, { size }), nul(name)]
    return Buffer.from(await this.#call(OP.GETXATTR, nodeid, parts, size))
  }

  async getxattrSize(nodeid: U64, name: Uint8Array): Promise<number> {
    const parts = [encode(abi.GetxattrIn, {}), nul(name)]
    return abi.GetxattrOut.read(await this.#call(OP.GETXATTR, nodeid, parts, abi.GetxattrOut.size)).size
  }

  /** The names, without their NULs. */
  async listxattr(nodeid: U64): Promise<Buffer[]> {
    const ask = [encode(abi.GetxattrIn, {})]
    const { size } = abi.GetxattrOut.read(await this.#call(OP.LISTXATTR, nodeid, ask, abi.GetxattrOut.size))
    if (size === 0) return []
    const list = Buffer.from(await this.#call(OP.LISTXATTR, nodeid, [encode(abi.GetxattrIn, { size })], size))
    const out: Buffer[] = []
    for (let at = 0; at < list.length;) {
      const end = list.indexOf(0, at)
      if (end < 0) throw new RangeError(`LISTXATTR of node ${nodeid}: the list does not end with a NUL`)
      out.push(list.subarray(at, end))
      at = end + 1
    }
    return out
  }

  async statfs(nodeid: U64): Promise<StatfsReply> {
    return abi.StatfsOut.read(await this.#call(OP.STATFS, nodeid, [], abi.StatfsOut.size))
  }

  /** Throws ENXIO when there is nothing behind `offset`. */
  async lseek(nodeid: U64, fh: U64, offset: U64, whence: number): Promise<number> {
    const args = encode(abi.LseekIn, { fh: BigInt(fh), offset: BigInt(offset), whence })
    const body = await this.#call(OP.LSEEK, nodeid, [args], abi.LseekOut.size)
    return toSafe(abi.LseekOut.read(body).offset, 'LSEEK offset')
  }

  async access(nodeid: U64, mask: number): Promise<void> {
    await this.#call(OP.ACCESS, nodeid, [encode(abi.AccessIn, { mask })], 0)
  }

  async destroy(): Promise<void> {
    await this.#call(OP.DESTROY, 0, [], 0)
  }

  #readLike(opcode: number, nodeid: U64, fh: U64, offset: U64, size: number): Promise<Uint8Array> {
    const args = encode(abi.ReadIn, { fh: BigInt(fh), offset: BigInt(offset), size })
    return this.#call(opcode, nodeid, [args], size)
  }

  /** ENOSYS says that nothing has to be opened, and a kernel goes on like this. */
  async #open(opcode: number, nodeid: U64, flags: number): Promise<OpenReply> {
    const args = encode(abi.OpenIn, { flags })
    const reply = await this.frontend.request(opcode, nodeid, [args], abi.OpenOut.size, this.#options)
    if (reply.error === 0) return readOpen(reply.body)
    if (reply.error !== -ERRNO.ENOSYS) throw fuseError(opcode, nodeid, reply.error)
    const folder = opcode === OP.OPENDIR ? abi.FOPEN.CACHE_DIR : 0
    return { fh: 0n, openFlags: abi.FOPEN.KEEP_CACHE | folder }
  }

  async #call(
    opcode: number,
    nodeid: U64,
    parts: readonly Uint8Array[],
    capacity: number,
  ): Promise<Uint8Array> {
    const reply = await this.frontend.request(opcode, nodeid, parts, capacity, this.#options)
    if (reply.error !== 0) throw fuseError(opcode, nodeid, reply.error)
    return reply.body
  }
}

const ERRNO_NAMES: ReadonlyMap<number, Errno> = new Map(
  Object.entries(ERRNO).map(([name, number]) => [number, name as Errno]),
)

function fuseError(opcode: number, nodeid: U64, error: number): NydusError {
  const operation = abi.OPCODES.find(op => op.code === opcode)?.name ?? `opcode ${opcode}`
  const errno = ERRNO_NAMES.get(-error)
  return new NydusError(
    'FRONTEND_FUSE_ERROR',
    errno ?? 'EIO',
    `${operation} of node ${nodeid}: ${errno ?? `errno ${-error}`}`,
  )
}

function encode<F extends Fields>(table: Layout<F>, value: Partial<StructOf<F>>): Uint8Array {
  const out = new Uint8Array(table.size)
  table.write(out, value)
  return out
}

function nul(name: Uint8Array): Uint8Array {
  const out = new Uint8Array(name.length + 1)
  out.set(name)
  return out
}

function align(at: number): number {
  return Math.ceil(at / DIRENT_ALIGN) * DIRENT_ALIGN
}

function readEntry(bytes: Uint8Array): Entry {
  const entry = abi.EntryOut.read(bytes)
  return {
    nodeid: entry.nodeid,
    generation: entry.generation,
    entryValid: entry.entryValid,
    attrValid: entry.attrValid,
    attr: abi.Attr.read(entry.attr),
  }
}

function readOpen(bytes: Uint8Array): OpenReply {
  const { fh, openFlags } = abi.OpenOut.read(bytes)
  return { fh, openFlags }
}

function readDirent(
  record: { readonly ino: bigint; readonly off: bigint; readonly namelen: number; readonly type: number },
  body: Uint8Array,
  nameAt: number,
): Dirent {
  const end = nameAt + record.namelen
  if (record.namelen === 0 || end > body.length)
    throw new RangeError(
      `a record at ${nameAt} has a name of ${record.namelen} bytes, the body ends at ${body.length}`,
    )
  return {
    ino: record.ino,
    off: record.off,
    type: record.type,
    name: Buffer.from(body.slice(nameAt, end)),
  }
}
