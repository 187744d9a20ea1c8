/**
 * An image from nothing but the table of contents of an eStargz layer (`estargztoc-ref`): each chunk is a gzip member
 * of the layer, which stays where it is and is not looked at. What the table says is believed as far as it makes sense;
 * every chunk has the digest that the table gives for it, so that a reader notices a lie.
 */
import { readFile } from 'node:fs/promises'
import { explain, NydusError } from '../base/errors.js'
import { Chunks, digestWords } from './chunks.js'
import type { Created, CreateProgress } from './create.js'
import { deviceNumber32 } from './device.js'
import { LANDMARKS, parseStargzToc, STARGZ_TYPE, stargzPath, type StargzEntry } from './estargz.js'
import { referenceKind, writeReference, type RefOptions } from './write-ref.js'
import { LowerLayers } from './lower-layers.js'
import { RefWriter } from './ref-writer.js'
import { MISSING_FOLDER, NONE, ROOT, Tree, TYPE, type NodeStat } from './tree.js'

export interface TocOptions extends RefOptions {
  /** sha256 and bytes of the layer. */
  readonly blobId: string
  readonly blobDataSize: number
}

const PERMISSIONS = 0o7777
const NAME_MAX = 255

/** Go writes set-id and sticky bits of a tar header as tar has them. */
function statOf(entry: StargzEntry, type: number): NodeStat {
  const milliseconds = Date.parse(entry.modtime)
  return {
    mode: type | (entry.mode & PERMISSIONS),
    uid: entry.uid,
    gid: entry.gid,
    mtime: Number.isNaN(milliseconds) ? 0 : Math.floor(milliseconds / 1000),
    mtimeNs: 0,
    size: type === TYPE.REG ? entry.size : 0,
    rdev: type === TYPE.CHR || type === TYPE.BLK ? deviceNumber32(entry.devMajor, entry.devMinor) : 0,
  }
}

class TocTree {
  readonly tree = new Tree(MISSING_FOLDER)
  readonly chunks: Chunks
  readonly writer: RefWriter
  readonly #options: TocOptions
  /** Where members start, ascending; the last is the end of the layer. */
  readonly #ends: readonly number[]

  constructor(options: TocOptions, entries: readonly StargzEntry[], chunks: Chunks, blob: number) {
    this.#options = options
    this.chunks = chunks
    this.writer = new RefWriter(chunks, undefined, blob)
    const starts = new Set<number>()
    for (const { type, size, offset } of entries)
      if (type === 'chunk' || (type === 'reg' && size > 0)) starts.add(offset)
    this.#ends = [...starts, options.blobDataSize].sort((a, b) => a - b)
  }

  bad(entry: StargzEntry, what: string): NydusError {
    return new NydusError('ESTARGZ_CORRUPT', 'EINVAL', `${this.#options.source}: '${entry.name}': ${what}`)
  }

  #path(entry: StargzEntry, path: string): Buffer[] {
    return stargzPath(path).map(part => {
      const bytes = Buffer.from(part)
      if (part === '..') throw this.bad(entry, "'..' could leave the image's root")
      if (bytes.length > NAME_MAX)
        throw this.bad(entry, `a name of ${bytes.length} bytes, ${NAME_MAX} are the limit`)
      return bytes
    })
  }

  #folder(parts: readonly Buffer[]): number {
    let node = ROOT
    for (const part of parts) {
      const next = this.tree.child(node, part)
      if (next !== NONE && this.tree.type(next) === TYPE.DIR) node = next
      else {
        if (next !== NONE) this.tree.remove(next)
        node = this.tree.add(node, part, MISSING_FOLDER)
      }
    }
    return node
  }

  /** `parts`: the entry itself, and the chunks that follow it. */
  add(entry: StargzEntry, parts: readonly StargzEntry[]): void {
    const path = this.#path(entry, entry.name)
    const name = path.pop()
    const type = STARGZ_TYPE[entry.type]
    if (name === undefined) {
      if (type !== TYPE.DIR) throw this.bad(entry, `the root is a ${entry.type}`)
      this.tree.setStat(ROOT, statOf(entry, type))
      return
    }
    if (path.length === 0 && LANDMARKS.has(entry.name)) return
    const parent = this.#folder(path)
    const existing = this.tree.child(parent, name)
    if (existing !== NONE && !(type === TYPE.DIR && this.tree.type(existing) === TYPE.DIR))
      this.tree.remove(existing)
    if (type === undefined) {
      this.tree.addLink(parent, name, this.#linkTarget(entry))
      return
    }
    const stat = statOf(entry, type)
    const known = this.tree.child(parent, name)
    const node = known === NONE ? this.tree.add(parent, name, stat) : known
    this.tree.setStat(node, stat)
    if (type === TYPE.LNK) this.tree.setTarget(node, Buffer.from(entry.linkName))
    const xattrs = Object.entries(entry.xattrs ?? {})
    this.tree.setXattrs(
      node,
      xattrs.map(([key, value]) => ({ name: Buffer.from(key), value: Buffer.from(value, 'base64') })),
    )
    if (type === TYPE.REG && entry.size > 0) this.#addChunks(node, entry, parts)
  }

  #linkTarget(entry: StargzEntry): number {
    let target = ROOT
    for (const part of this.#path(entry, entry.linkName)) {
      target = this.tree.child(target, part)
      if (!this.tree.isNode(target))
        throw this.bad(entry, `a hard link to '${entry.linkName}', which does not come earlier`)
    }
    if (this.tree.type(target) === TYPE.DIR)
      throw this.bad(entry, `a hard link to '${entry.linkName}', which is a folder`)
    return target
  }

  #addChunks(node: number, entry: StargzEntry, parts: readonly StargzEntry[]): void {
    const { chunkSize } = this.#options
    const list = this.chunks.startList(parts.length)
    this.tree.setChunks(node, list, parts.length)
    if (parts.length !== Math.ceil(entry.size / chunkSize))
      throw this.bad(
        entry,
        `its ${entry.size} bytes are ${parts.length} chunks in the table: give their size with --chunk-size`,
      )
    parts.forEach((part, i) => {
      const at = i * chunkSize
      const size = Math.min(chunkSize, entry.size - at)
      if (part.chunkOffset !== at || (part.chunkSize !== 0 && part.chunkSize !== size))
        throw this.bad(
          entry,
          `chunk ${i} has ${part.chunkSize} bytes at ${part.chunkOffset}, ${size} at ${at} expected: give the size of chunks with --chunk-size`,
        )
      if (part.innerOffset !== 0)
        throw this.bad(
          entry,
          'it shares a gzip member with other files; use --type estargz-ref, with the layer itself',
        )
      const digest = part.chunkDigest === '' && parts.length === 1 ? part.digest : part.chunkDigest
      if (digest === '') throw this.bad(entry, `chunk ${i} has no digest`)
      const end = this.#ends[this.#after(part.offset)]
      if (end === undefined || part.offset >= this.#options.blobDataSize)
        throw this.bad(
          entry,
          `chunk ${i} starts at byte ${part.offset}, the layer has ${this.#options.blobDataSize}`,
        )
      const row = this.writer.add(digestWords(Buffer.from(digest.slice('sha256:'.length), 'hex')), 0, size, {
        start: part.offset,
        end,
        packed: true,
      })
      this.chunks.setListed(list + i, row)
    })
  }

  /** Number of the first member that starts behind `offset`. */
  #after(offset: number): number {
    let low = 0
    let high = this.#ends.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#ends[middle] ?? 0) > offset) high = middle
      else low = middle + 1
    }
    return low
  }
}

export async function createFromToc(options: TocOptions, progress: CreateProgress): Promise<Created> {
  const bytes = await readFile(options.source).catch((error: unknown) => {
    throw new NydusError(
      'BUILD_SOURCE_UNREADABLE',
      'EIO',
      `cannot read ${options.source}: ${explain(error)}`,
      { cause: error },
    )
  })
  const entries = parseStargzToc(options.source, bytes)
  const chunks = new Chunks()
  const layers = await LowerLayers.load(options, referenceKind(options.chunkSize), chunks)
  const built = new TocTree(options, entries, chunks, layers.ownNumber)
  for (let i = 0; i < entries.length;) {
    const entry = entries[i] as StargzEntry
    let next = i + 1
    if (entry.type === 'chunk') throw built.bad(entry, 'a chunk without the file that it belongs to')
    while (entry.type === 'reg' && entries[next]?.type === 'chunk') next++
    const parts = entries.slice(i, next)
    const stranger = parts.find(part => part.name !== entry.name)
    if (stranger !== undefined) throw built.bad(stranger, `a chunk behind '${entry.name}', another file`)
    built.add(entry, parts)
    progress.found(1)
    i = next
  }
  built.writer.foreign = { id: options.blobId, size: options.blobDataSize }
  return await writeReference(options, built.tree, built.chunks, built.writer, layers)
}
