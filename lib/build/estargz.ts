/**
 * eStargz: a tar.gz whose files are gzip members of their own, with a table of contents (TOC) in the last member but
 * one and its offset in the last, the footer (github.com/containerd/stargz-snapshotter, docs/estargz.md).
 *
 *     member · member · … · member { stargz.index.json } · footer { offset of that member }
 *
 * A table of contents is a claim: what is built from the archive itself must agree with it, and what is built from
 * the table alone must at least make sense.
 */
import * as z from 'zod'
import { NydusError } from '../base/errors.js'
import type { GzipBorder } from './gzip-source.js'
import { TarHeader } from '../rafs/layout/v6.js'
import type { TarEntry } from './tar-reader.js'
import { TYPE, type Tree } from './tree.js'

export const TOC_NAME = 'stargz.index.json'
/** Marks of tools; they are in the archive and in its table, not in the image. */
export const LANDMARKS: ReadonlySet<string> = new Set(['.prefetch.landmark', '.no.prefetch.landmark'])
/** gzip header with an extra field SG of 22 bytes, an empty block, the trailer. */
const FOOTER = { size: 51, field: 16 } as const
/** Of stargz, the older format: the extra field has no name. */
const OLD_FOOTER = { size: 47, field: 12 } as const
const FOOTER_TEXT = /^([0-9a-f]{16})STARGZ$/
/** A million files have a table of 300 MiB. */
const MAX_TOC = 1 << 30
/** Shortest header of a gzip member, and one with every optional part of sensible length. */
const MIN_MEMBER_HEADER = 10
const MAX_MEMBER_HEADER = 512

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/)
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const Entry = z.object({
  name: z.string(),
  type: z.enum(['dir', 'reg', 'symlink', 'hardlink', 'char', 'block', 'fifo', 'chunk']),
  size: count.default(0),
  modtime: z.string().default(''),
  linkName: z.string().default(''),
  mode: count.default(0),
  uid: count.default(0),
  gid: count.default(0),
  offset: count.default(0),
  innerOffset: count.default(0),
  devMajor: count.default(0),
  devMinor: count.default(0),
  xattrs: z.record(z.string(), z.base64()).nullish(),
  digest: digest.or(z.literal('')).default(''),
  chunkOffset: count.default(0),
  chunkSize: count.default(0),
  chunkDigest: digest.or(z.literal('')).default(''),
})
export type StargzEntry = z.infer<typeof Entry>
const Toc = z.object({ version: z.literal(1), entries: z.array(Entry) })

function bad(name: string, what: string, cause?: unknown): NydusError {
  return new NydusError('ESTARGZ_CORRUPT', 'EINVAL', `${name}: ${what}`, { cause })
}

/** Path components of a name in a table or archive: `./a//b/` is `a`, `b`. */
export function stargzPath(name: string): string[] {
  return name.split('/').filter(part => part !== '' && part !== '.')
}

/** The entries of a table of contents, or a sentence that names what is wrong in it. `name` is the file. */
export function parseStargzToc(name: string, bytes: Uint8Array): readonly StargzEntry[] {
  let json: unknown
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch (error) {
    throw bad(name, 'its table of contents is not JSON', error)
  }
  const toc = Toc.safeParse(json)
  if (toc.success) return toc.data.entries
  const [issue] = toc.error.issues
  throw bad(
    name,
    `its table of contents is damaged at ${issue?.path.join('.') ?? '?'}: ${issue?.message ?? ''}`,
  )
}

/** Where the footer says that the table's member starts; undefined when the bytes, the file's last, hold no footer. */
export function footerOffset(tail: Uint8Array): number | undefined {
  for (const { size, field } of [FOOTER, OLD_FOOTER]) {
    const at = tail.length - size + field
    const match = FOOTER_TEXT.exec(
      Buffer.from(tail.subarray(Math.max(0, at), Math.max(0, at) + 22)).toString('latin1'),
    )
    if (tail.length >= size && match !== null) return Number.parseInt(match[1] ?? '', 16)
  }
  return undefined
}

/** Watches an eStargz file as it streams by, and compares its table of contents with the rest of it. */
export class StargzWatch {
  readonly #name: string
  #tail: Buffer = Buffer.alloc(0)
  #entries: readonly StargzEntry[] | undefined
  #border: GzipBorder | undefined
  #aligned = false

  constructor(name: string) {
    this.#name = name
  }

  /** The pieces of the file, all of which must be read before `finish`. */
  async *watch(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const piece of pieces) {
      this.#tail = Buffer.concat([this.#tail, piece.subarray(-FOOTER.size)]).subarray(-FOOTER.size)
      yield piece
    }
  }

  /** An entry that is not part of the image: reads the table of contents out of it. `border`: block it starts in. */
  async skipped(name: string, entry: TarEntry, border: GzipBorder): Promise<void> {
    if (name !== TOC_NAME) return
    if (entry.size > MAX_TOC) throw bad(this.#name, `its table of contents has ${entry.size} bytes`)
    const bytes = new Uint8Array(entry.size)
    await entry.read(bytes)
    this.#entries = parseStargzToc(this.#name, bytes)
    this.#border = border
    this.#aligned =
      border.out === entry.headerOffset && entry.dataOffset === entry.headerOffset + TarHeader.size
  }

  /** The whole file has been read into `tree`. */
  finish(tree: Tree): void {
    const offset = footerOffset(this.#tail)
    if (offset === undefined)
      throw bad(this.#name, 'it has no eStargz footer: use --type targz-rafs or targz-ref')
    if (this.#entries === undefined || this.#border === undefined)
      throw bad(this.#name, `it has an eStargz footer, but no ${TOC_NAME}`)
    const header = this.#border.in - offset
    if (!this.#aligned || header < MIN_MEMBER_HEADER || header > MAX_MEMBER_HEADER)
      throw bad(
        this.#name,
        `its footer says that the table of contents starts at byte ${offset}, it does not`,
      )
    this.#compare(tree, this.#entries)
  }

  #compare(tree: Tree, entries: readonly StargzEntry[]): void {
    const named = new Set<number>()
    for (const entry of entries) {
      if (entry.type === 'chunk' || stargzPath(entry.name).every(part => LANDMARKS.has(part))) continue
      const node = findNode(tree, entry.name)
      if (node === undefined)
        throw bad(this.#name, `its table of contents lists '${entry.name}', the archive does not have it`)
      const type = STARGZ_TYPE[entry.type]
      if (type !== undefined && tree.type(node) !== type)
        throw bad(
          this.#name,
          `'${entry.name}' is a ${entry.type} in its table of contents, something else in the archive`,
        )
      if (entry.type === 'reg' && tree.size(node) !== entry.size)
        throw bad(
          this.#name,
          `'${entry.name}' has ${entry.size} bytes in its table of contents, ${tree.size(node)} in the archive`,
        )
      named.add(node)
    }
    for (let node = 1; node < tree.rows; node++)
      if (tree.isNode(node) && tree.type(node) !== TYPE.DIR && !named.has(node))
        throw bad(
          this.#name,
          `'${tree.path(node).toString()}' is in the archive, but not in its table of contents`,
        )
  }
}

/** st_mode types; a hard link has that of its target. */
export const STARGZ_TYPE: Readonly<Record<string, number>> = {
  dir: TYPE.DIR,
  reg: TYPE.REG,
  symlink: TYPE.LNK,
  char: TYPE.CHR,
  block: TYPE.BLK,
  fifo: TYPE.FIFO,
}

function findNode(tree: Tree, name: string): number | undefined {
  let node = 0
  for (const part of stargzPath(name)) {
    node = tree.child(node, Buffer.from(part))
    if (!tree.isNode(node)) return undefined
  }
  return node
}
