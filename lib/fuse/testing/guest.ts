/**
 * A guest, its lane and the yard's mount table in one thread, for tests: requests go into slots of a fake ring, mounts
 * through the table that the daemon uses.
 */
import { MemoryFs, type MemoryEntry, type MemoryImage } from '../../vfs/testing/memory-fs.js'
import { MountTable } from '../../vfs/mount-table.js'
import type { MountChange } from '../../vfs/changes.js'
import { Vfs } from '../../vfs/vfs.js'
import { Attr, AttrOut, Dirent, EntryOut, OP, OpenOut } from '../abi.js'
import { newCounters, stripeOf } from '../counters.js'
import { Deferrals } from '../deferrals.js'
import { Server } from '../server.js'
import { FakeRing, type Reply, type Request } from './fake-ring.js'

export interface Entry {
  readonly nodeid: number
  readonly generation: number
  /** Nanoseconds, whole. */
  readonly entryValid: bigint
  readonly attrValid: bigint
  readonly mode: number
  readonly ino: number
  readonly size: number
  readonly nlink: number
}

/** One record of a listing; `nodeid` only with READDIRPLUS. */
export interface Record {
  readonly name: string
  readonly ino: number
  readonly type: number
  readonly off: number
  readonly nodeid?: number
}

export const LASTING = 1_000_000_000n * 1_000_000_000n
export const FLEETING = 50_000_000n

const valid = (seconds: bigint, nanoseconds: number): bigint => seconds * 1_000_000_000n + BigInt(nanoseconds)

export function parseEntry(body: Uint8Array): Entry {
  const entry = EntryOut.read(body)
  const attr = Attr.read(entry.attr)
  return {
    nodeid: Number(entry.nodeid),
    generation: Number(entry.generation),
    entryValid: valid(entry.entryValid, entry.entryValidNsec),
    attrValid: valid(entry.attrValid, entry.attrValidNsec),
    mode: attr.mode,
    ino: Number(attr.ino),
    size: Number(attr.size),
    nlink: attr.nlink,
  }
}

export function parseAttr(body: Uint8Array): {
  attrValid: bigint
  ino: number
  mode: number
  mtime: bigint
  nlink: number
} {
  const out = AttrOut.read(body)
  const attr = Attr.read(out.attr)
  const mtime = valid(attr.mtime, attr.mtimensec)
  const attrValid = valid(out.attrValid, out.attrValidNsec)
  return { attrValid, ino: Number(attr.ino), mode: attr.mode, mtime, nlink: attr.nlink }
}

export class Guest {
  readonly ring = new FakeRing()
  readonly counters = newCounters(1)
  readonly deferrals = new Deferrals()
  readonly exceptions: unknown[] = []
  readonly vfs: Vfs<MemoryImage>
  readonly server: Server
  readonly table: MountTable<MemoryImage>
  /** References by mount slot, as the addon counts them. */
  readonly lookups = new Map<number, number>()
  readonly released: string[] = []
  readonly closedSlots: number[] = []
  /** Milliseconds that the table has slept. */
  slept = 0
  #file = 0

  constructor(options: { readonly fixed?: boolean; readonly slotLimit?: number } = {}) {
    this.vfs = new Vfs<MemoryImage>(
      image => new MemoryFs(image),
      opened => stripeOf(opened.counters, 0),
      stripeOf(this.counters, 0),
      options.fixed,
    )
    this.server = new Server(this.ring.memory, this.vfs, this.deferrals, {
      offered: new Uint32Array(1),
      onException: (_opcode, _nodeid, error) => this.exceptions.push(error),
    })
    this.table = new MountTable<MemoryImage>({
      lanes: { broadcast: change => Promise.resolve(this.#apply(change)) },
      lookupCount: slot => this.lookups.get(slot) ?? 0,
      newCounters: () => newCounters(1),
      onClosed: slot => this.closedSlots.push(slot),
      sleep: ms => {
        this.slept += ms
        return Promise.resolve()
      },
      onError: error => this.exceptions.push(error),
      ...(options.slotLimit !== undefined && { slotLimit: options.slotLimit }),
    })
  }

  #apply(change: MountChange<MemoryImage>): { slot: number; code: string; errno: string; message: string }[] {
    const failures = this.vfs.apply(structuredClone(change))
    this.server.mountsChanged()
    return failures.map(({ slot, error }) => ({
      slot,
      code: 'VFS_OPEN',
      errno: 'EIO',
      message: String(error),
    }))
  }

  /** An image with its content registered. */
  image(
    root: { readonly [name: string]: MemoryEntry },
    name = 'image',
  ): { image: MemoryImage; release(): Promise<void>; fs: MemoryFs } {
    const image = { root, file: ++this.#file }
    const fs = new MemoryFs(image)
    this.ring.files.set(image.file, fs.content)
    const release = (): Promise<void> => Promise.resolve(void this.released.push(name))
    return { image, fs, release }
  }

  async mount(path: string, root: { readonly [name: string]: MemoryEntry }): Promise<number> {
    return await this.table.mount(path, this.image(root, path))
  }

  request(request: Request): Reply {
    this.ring.fill(0, request)
    this.server.handle(0)
    const reply = this.ring.reply(0)
    if (reply.lookups > 0)
      this.lookups.set(reply.lookupSlot, (this.lookups.get(reply.lookupSlot) ?? 0) + reply.lookups)
    return reply
  }

  /** LOOKUP of one name: the entry, or the status when there is none. */
  lookup(parent: number, name: string): Entry | number {
    const reply = this.request({ opcode: OP.LOOKUP, nodeid: parent, name })
    if (reply.status < 0) return reply.status
    return parseEntry(reply.body)
  }

  /** Walks a path from the root as a kernel without caches does; throws when it leads nowhere. */
  walk(path: string): Entry {
    const names = path.split('/').filter(name => name !== '')
    let at = parseRoot(this)
    for (const name of names) {
      const next = this.lookup(at.nodeid, name)
      if (typeof next === 'number' || next.nodeid === 0) throw new Error(`${path}: no ${name}`)
      at = next
    }
    return at
  }

  read(nodeid: number, offset = 0, size = 1 << 20): Reply {
    return this.request({ opcode: OP.READ, nodeid, offset, size })
  }

  /** Content of a file, by its path. */
  text(path: string): string {
    const reply = this.read(this.walk(path).nodeid)
    if (reply.status < 0) throw new Error(`${path}: ${reply.status}`)
    return Buffer.from(reply.body).toString()
  }

  open(nodeid: number, flags = 0, opcode: number = OP.OPEN): { fh: number; openFlags: number } | number {
    const reply = this.request({ opcode, nodeid, flags })
    if (reply.status < 0) return reply.status
    const out = OpenOut.read(reply.body)
    return { fh: Number(out.fh), openFlags: out.openFlags }
  }

  /** The whole listing of a folder in replies of `size` bytes. */
  list(nodeid: number, size = 4096, plus = false): Record[] {
    const handle = this.open(nodeid, 0, OP.OPENDIR)
    if (typeof handle === 'number') throw new Error(`OPENDIR of ${nodeid}: ${handle}`)
    const all: Record[] = []
    for (let offset = 0; ; offset = all.at(-1)?.off ?? 0) {
      const opcode = plus ? OP.READDIRPLUS : OP.READDIR
      const reply = this.request({ opcode, nodeid, offset, size, fh: handle.fh })
      if (reply.status < 0) throw new Error(`READDIR of ${nodeid} at ${offset}: ${reply.status}`)
      if (reply.body.length === 0) return all
      if (reply.body.length > size) throw new Error(`a reply of ${reply.body.length} bytes to ${size}`)
      all.push(...parseRecords(reply.body, plus))
    }
  }

  names(nodeid: number): string[] {
    return this.list(nodeid).map(({ name }) => name)
  }
}

function parseRoot(guest: Guest): Entry {
  const { mode, ino, nlink } = parseAttr(guest.request({ opcode: OP.GETATTR, nodeid: 1 }).body)
  return { nodeid: 1, generation: 0, entryValid: 0n, attrValid: 0n, mode, ino, size: 0, nlink }
}

export function parseRecords(body: Uint8Array, plus: boolean): Record[] {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  const records: Record[] = []
  const skip = plus ? EntryOut.size : 0
  for (let at = 0; at < body.length;) {
    const dirent = at + skip
    const length = view.getUint32(dirent + Dirent.at.namelen, true)
    const end = dirent + Dirent.size + length
    const size = (skip + Dirent.size + length + 7) & ~7
    if (body.subarray(end, at + size).some(byte => byte !== 0)) throw new Error('padding is not zero')
    records.push({
      name: Buffer.from(body.subarray(dirent + Dirent.size, end)).toString(),
      ino: Number(view.getBigUint64(dirent, true)),
      off: Number(view.getBigUint64(dirent + Dirent.at.off, true)),
      type: view.getUint32(dirent + Dirent.at.type, true),
      ...(plus && { nodeid: Number(view.getBigUint64(at, true)) }),
    })
    at += size
  }
  return records
}
