/**
 * A file system in memory, for tests: a tree given as plain data, contents as extents of one content file.
 */
import { ERRNO } from '../../base/errors.js'
import type { Attr, ByteSink, DirSink, ExtentSink, FileSystem, StatFs } from '../filesystem.js'

interface Common {
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly mtime?: number
  readonly mtimeNs?: number
  readonly nlink?: number
  readonly rdev?: number
  readonly xattrs?: Readonly<Record<string, string>>
  /** Asking for anything of it throws, as a damaged image may. */
  readonly broken?: true
  /** Asking for anything of it ends the thread. */
  readonly deadly?: true
}

export type MemoryEntry = Common &
  (
    | { readonly dir: Readonly<Record<string, MemoryEntry>> }
    | {
        readonly text: string
        /** Deferred: chunks of CHUNK bytes are wanted from blob 0, ref = number of the chunk in the content file. */
        readonly cold?: true
        /** Bytes of zeros behind the text. */
        readonly hole?: number
      }
    | { readonly link: string }
    | { readonly device: 'char' | 'block' | 'fifo' }
  )

export interface MemoryImage {
  readonly root: Readonly<Record<string, MemoryEntry>>
  /** File id of the content, as in lib/fuse/ring.ts. */
  readonly file: number
  /** Makes opening it throw. */
  readonly unopenable?: string
}

export const CHUNK = 4096
/** Not 1, so that nobody takes an image's root for the root. */
export const MEMORY_ROOT_INO = 5

const TYPE = {
  dir: 0o040000,
  file: 0o100000,
  link: 0o120000,
  char: 0o020000,
  block: 0o060000,
  fifo: 0o010000,
}

interface Node {
  readonly ino: number
  readonly parent: Node | undefined
  readonly mode: number
  readonly entry: MemoryEntry
  readonly children: readonly [name: Uint8Array, node: Node][]
  /** Place in the content file. */
  readonly at: number
  readonly length: number
}

const encoder = new TextEncoder()
const DOT = encoder.encode('.')
const DOT_DOT = encoder.encode('..')

function sameBytes(a: Uint8Array, bytes: Uint8Array, start: number, length: number): boolean {
  return a.length === length && a.every((byte, i) => byte === bytes[start + i])
}

export class MemoryFs implements FileSystem {
  readonly rootIno = MEMORY_ROOT_INO
  readonly hasXattrs: boolean
  readonly #file: number
  readonly #nodes = new Map<number, Node>()
  readonly #content: Uint8Array[] = []
  #contentLength = 0

  constructor(image: MemoryImage) {
    if (image.unopenable !== undefined) throw new Error(image.unopenable)
    this.#file = image.file
    this.#add({ dir: image.root }, undefined)
    this.hasXattrs = [...this.#nodes.values()].some(({ entry }) => entry.xattrs !== undefined)
  }

  /** What the content file holds. */
  get content(): Uint8Array {
    return Buffer.concat(this.#content)
  }

  /** Inode number of a path such as `a/b`. */
  ino(path: string): number {
    let node = this.#node(this.rootIno) as Node
    for (const name of path.split('/').filter(part => part !== '')) {
      const bytes = encoder.encode(name)
      const next = node.children.find(([child]) => sameBytes(child, bytes, 0, bytes.length))
      if (next === undefined) throw new Error(`no ${name} in ${path}`)
      node = next[1]
    }
    return node.ino
  }

  #add(entry: MemoryEntry, parent: Node | undefined): Node {
    const ino = this.#nodes.size + MEMORY_ROOT_INO
    const kind = 'dir' in entry ? 'dir' : 'text' in entry ? 'file' : 'link' in entry ? 'link' : entry.device
    const mode = TYPE[kind] | (entry.mode ?? (kind === 'dir' ? 0o755 : 0o644))
    const data =
      'text' in entry ? encoder.encode(entry.text) : 'link' in entry ? encoder.encode(entry.link) : DOT
    const at = this.#contentLength
    const length = kind === 'file' || kind === 'link' ? data.length : 0
    const children: [Uint8Array, Node][] = []
    const node: Node = { ino, parent, mode, entry, children, at, length }
    this.#nodes.set(ino, node)
    if (length > 0) this.#store(data)
    for (const value of Object.values(entry.xattrs ?? {})) this.#store(encoder.encode(value))
    if ('dir' in entry)
      for (const [name, child] of Object.entries(entry.dir))
        children.push([encoder.encode(name), this.#add(child, node)])
    return node
  }

  /** Starts at a whole chunk, as in a cache file. */
  #store(data: Uint8Array): void {
    const padded = new Uint8Array(Math.ceil(data.length / CHUNK) * CHUNK)
    padded.set(data)
    this.#content.push(padded)
    this.#contentLength += padded.length
  }

  #node(ino: number): Node | undefined {
    const node = this.#nodes.get(ino)
    if (node?.entry.deadly === true) process.exit(7)
    if (node?.entry.broken === true) throw new Error(`inode ${ino} is damaged`)
    return node
  }

  lookup(parent: number, bytes: Uint8Array, start: number, length: number): number {
    const node = this.#node(parent)
    if (node === undefined) return -ERRNO.ESTALE
    if (!('dir' in node.entry)) return -ERRNO.ENOTDIR
    for (const [name, child] of node.children) if (sameBytes(name, bytes, start, length)) return child.ino
    return -ERRNO.ENOENT
  }

  parent(ino: number): number {
    const node = this.#node(ino)
    return node === undefined ? -ERRNO.ESTALE : (node.parent ?? node).ino
  }

  getattr(ino: number, out: Attr): number {
    const node = this.#node(ino)
    if (node === undefined) return -ERRNO.ESTALE
    const { entry } = node
    const hole = 'text' in entry ? (entry.hole ?? 0) : 0
    out.ino = ino
    out.size = node.length + hole
    out.blocks = Math.ceil(node.length / 512)
    out.mode = node.mode
    out.nlink = entry.nlink ?? 1
    out.uid = entry.uid ?? 0
    out.gid = entry.gid ?? 0
    out.rdev = entry.rdev ?? 0
    out.mtime = entry.mtime ?? 0
    out.mtimeNs = entry.mtimeNs ?? 0
    return 0
  }

  readdir(ino: number, cookie: number, sink: DirSink): number {
    const node = this.#node(ino)
    if (node === undefined) return -ERRNO.ESTALE
    if (!('dir' in node.entry)) return -ERRNO.ENOTDIR
    const entries: readonly (readonly [Uint8Array, Node])[] = [
      [DOT, node],
      [DOT_DOT, node.parent ?? node],
      ...node.children,
    ]
    for (let i = cookie; i < entries.length; i++) {
      const [name, child] = entries[i] as readonly [Uint8Array, Node]
      if (!sink.entry(child.ino, child.mode, name, 0, name.length, i + 1)) return 0
    }
    return 0
  }

  readlink(ino: number, out: ExtentSink): number {
    const node = this.#node(ino)
    if (node === undefined) return -ERRNO.ESTALE
    if (!('link' in node.entry)) return -ERRNO.EINVAL
    return out.add(this.#file, node.at, node.length) ? node.length : -ERRNO.EIO
  }

  getxattr(ino: number, bytes: Uint8Array, start: number, length: number, out: ExtentSink): number {
    const node = this.#node(ino)
    if (node === undefined) return -ERRNO.ESTALE
    let at = node.at + Math.ceil(node.length / CHUNK) * CHUNK
    for (const [name, value] of Object.entries(node.entry.xattrs ?? {})) {
      const size = encoder.encode(value).length
      if (sameBytes(encoder.encode(name), bytes, start, length)) {
        if (size > 0 && !out.add(this.#file, at, size)) return -ERRNO.EIO
        return size
      }
      at += Math.ceil(size / CHUNK) * CHUNK
    }
    return -ERRNO.ENODATA
  }

  listxattr(ino: number, sink: ByteSink): number {
    const node = this.#node(ino)
    if (node === undefined) return -ERRNO.ESTALE
    let total = 0
    for (const name of Object.keys(node.entry.xattrs ?? {})) {
      const bytes = encoder.encode(`${name}\0`)
      sink.bytes(bytes, 0, bytes.length)
      total += bytes.length
    }
    return total
  }

  read(ino: number, offset: number, size: number, out: ExtentSink): number {
    const node = this.#node(ino)
    if (node === undefined) return -ERRNO.ESTALE
    const { entry } = node
    if (!('text' in entry)) return 'dir' in entry ? -ERRNO.EISDIR : -ERRNO.EINVAL
    const end = Math.min(offset + size, node.length + (entry.hole ?? 0))
    for (let at = offset; at < end;) {
      const hole = at >= node.length
      const within = at % CHUNK
      const length = hole ? end - at : Math.min(CHUNK - within, end - at, node.length - at)
      const place = node.at + at
      if (entry.cold === true && !hole) out.want(0, (place - within) / CHUNK, within, length)
      if (!out.add(hole ? 0 : this.#file, hole ? 0 : place, length)) return -ERRNO.EIO
      at += length
    }
    return Math.max(end - offset, 0)
  }

  lseek(ino: number, offset: number, whence: number): number {
    const node = this.#node(ino)
    if (node === undefined) return -ERRNO.ESTALE
    const { entry } = node
    const end = node.length + ('text' in entry ? (entry.hole ?? 0) : 0)
    if (offset >= end) return -ERRNO.ENXIO
    if (offset < node.length) return whence === 3 ? offset : node.length
    return whence === 3 ? -ERRNO.ENXIO : offset
  }

  statfs(out: StatFs): number {
    out.blocks = this.#contentLength / 512
    out.files = this.#nodes.size
    return 0
  }
}
