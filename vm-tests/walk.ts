/**
 * What a served tree looks like from a guest.
 *
 *     FuseClient ── walkTree ── records ── differences ── expected .jsonl
 *
 * The walk asks for everything the way a kernel does (READDIRPLUS, LOOKUP, GETATTR, READLINK, xattrs, READ) and
 * compares the answers with each other as well: what contradicts itself is a problem, whatever the manifest says.
 */
import { createHash } from 'node:crypto'
import type { Attr, Direntplus, FuseClient } from '../addon/test/fuse-client.js'
import { statRecord, type EntryType, type ManifestRecord } from './manifest.js'

export interface Walk {
  /** Sorted by path; the root is "/". */
  readonly records: ManifestRecord[]
  /** Answers that contradict each other. */
  readonly problems: string[]
}

export interface WalkOptions {
  /** Node that becomes "/". */
  readonly root?: number | bigint
  /** Bytes asked for by one READ. */
  readonly readSize?: number
  /** Bytes asked for by one READDIRPLUS. */
  readonly dirSize?: number
  /** Entries that are looked at at the same time. */
  readonly parallel?: number
}

/** Walks everything below `root`. Errors of single answers end up in the records, the walk goes on. */
export async function walkTree(client: FuseClient, options: WalkOptions = {}): Promise<Walk> {
  return new Walker(client, options).run(BigInt(options.root ?? 1))
}

class Walker {
  readonly #client: FuseClient
  readonly #readSize: number
  readonly #dirSize: number
  readonly #parallel: number
  readonly #records: ManifestRecord[] = []
  readonly #problems: string[] = []
  /** Paths of files that have several, by inode number. */
  readonly #links = new Map<bigint, { readonly nlink: number; readonly paths: string[] }>()

  constructor(client: FuseClient, options: WalkOptions) {
    this.#client = client
    this.#readSize = options.readSize ?? 128 << 10
    this.#dirSize = options.dirSize ?? 4096
    this.#parallel = options.parallel ?? 16
  }

  async run(root: bigint): Promise<Walk> {
    let level = [{ path: '', nodeid: root }]
    await this.#look('/', root, await this.#client.getattr(root))
    while (level.length > 0) {
      const next: typeof level = []
      await forEachLimited(level, this.#parallel, async folder => {
        next.push(...(await this.#folder(folder.path, folder.nodeid)))
      })
      level = next
    }
    for (const { nlink, paths } of this.#links.values())
      if (paths.length !== nlink)
        this.#problems.push(
          `${paths.sort().join(', ')}: ${paths.length} paths, but the link count is ${nlink}`,
        )
    this.#records.sort((a, b) => (a.path < b.path ? -1 : 1))
    return { records: this.#records, problems: this.#problems.sort() }
  }

  /** Looks at all entries of a folder; returns the folders among them. */
  async #folder(path: string, nodeid: bigint): Promise<{ path: string; nodeid: bigint }[]> {
    let entries: Direntplus[]
    try {
      entries = await this.#list(nodeid)
    } catch (error) {
      this.#problems.push(`${path === '' ? '/' : path}: ${messageOf(error)}`)
      return []
    }
    const folders: { path: string; nodeid: bigint }[] = []
    const seen = new Set<string>()
    for (const entry of entries) {
      const name = entry.name.toString('latin1')
      if (seen.has(name)) this.#problems.push(`${path}/${name}: listed twice`)
      seen.add(name)
    }
    for (const name of ['.', '..']) if (!seen.has(name)) this.#problems.push(`${path}/${name}: not listed`)
    const named = entries.filter(({ name }) => !['.', '..'].includes(name.toString('latin1')))
    await forEachLimited(named, this.#parallel, async listed => {
      const child = `${path}/${listed.name.toString('latin1')}`
      try {
        const found = await this.#client.lookup(nodeid, listed.name)
        const attr = await this.#client.getattr(found.nodeid)
        this.#compare(child, listed, found.nodeid, found.attr, attr)
        const type = await this.#look(child, found.nodeid, attr)
        if (type === 'dir') folders.push({ path: child, nodeid: found.nodeid })
      } catch (error) {
        this.#problems.push(`${child}: ${messageOf(error)}`)
      }
    })
    return folders
  }

  async #list(nodeid: bigint): Promise<Direntplus[]> {
    const { fh } = await this.#client.opendir(nodeid)
    const all: Direntplus[] = []
    let cookie = 0n
    for (;;) {
      const some = await this.#client.readdirplus(nodeid, fh, cookie, this.#dirSize)
      const last = some.at(-1)
      if (last === undefined) break
      all.push(...some)
      cookie = last.off
    }
    await this.#client.releasedir(nodeid, fh)
    return all
  }

  /** What READDIRPLUS, LOOKUP and GETATTR say about one entry must be the same. */
  #compare(path: string, listed: Direntplus, nodeid: bigint, looked: Attr, got: Attr): void {
    if (listed.type !== got.mode >> 12)
      this.#problems.push(`${path}: listed as type ${listed.type}, its mode says ${got.mode >> 12}`)
    if (listed.ino !== got.ino)
      this.#problems.push(`${path}: listed as inode ${listed.ino}, GETATTR says ${got.ino}`)
    this.#same(path, 'LOOKUP', looked, got)
    // Without a node id a record carries a name only.
    if (listed.entry.nodeid === 0n) return
    if (listed.entry.nodeid !== nodeid)
      this.#problems.push(`${path}: listed as node ${listed.entry.nodeid}, LOOKUP gives ${nodeid}`)
    this.#same(path, 'READDIRPLUS', listed.entry.attr, got)
  }

  #same(path: string, operation: string, attr: Attr, got: Attr): void {
    for (const [field, value] of Object.entries(attr)) {
      const other = got[field as keyof Attr]
      if (value !== other)
        this.#problems.push(`${path}: ${field} is ${value} by ${operation}, ${other} by GETATTR`)
    }
  }

  async #look(path: string, nodeid: bigint, attr: Attr): Promise<EntryType> {
    const size = Number(attr.size)
    const record = statRecord(path, { ...attr, size, mtime: Number(BigInt.asIntN(64, attr.mtime)) })
    const { type } = record
    const errors: string[] = []
    const attempt = async <T>(what: Promise<T>): Promise<T | undefined> => {
      try {
        return await what
      } catch (error) {
        errors.push(messageOf(error))
        return undefined
      }
    }
    const xattrs = await attempt(this.#xattrs(nodeid))
    const target = type === 'symlink' ? await attempt(this.#client.readlink(nodeid)) : undefined
    const sha256 = type === 'file' ? await attempt(this.#hash(nodeid, size)) : undefined
    if (type === 'file' && attr.nlink > 1) {
      const group = this.#links.get(attr.ino) ?? { nlink: attr.nlink, paths: [] }
      group.paths.push(path)
      this.#links.set(attr.ino, group)
    }
    this.#records.push({
      ...record,
      ...(sha256 === undefined ? {} : { sha256 }),
      ...(target === undefined ? {} : { target: target.toString('latin1') }),
      ...(xattrs === undefined || Object.keys(xattrs).length === 0 ? {} : { xattrs }),
      ...(errors.length === 0 ? {} : { error: errors.join('; ') }),
    })
    return type
  }

  async #xattrs(nodeid: bigint): Promise<Record<string, string>> {
    const out: Record<string, string> = {}
    for (const name of await this.#client.listxattr(nodeid))
      out[name.toString('latin1')] = (await this.#client.getxattr(nodeid, name)).toString('hex')
    return out
  }

  async #hash(nodeid: bigint, size: number): Promise<string> {
    const { fh } = await this.#client.open(nodeid)
    const hash = createHash('sha256')
    for (let at = 0; at < size;) {
      // A kernel's reads are whole pages, also behind the end.
      const bytes = await this.#client.read(nodeid, fh, at, this.#readSize)
      const wanted = Math.min(this.#readSize, size - at)
      if (bytes.length !== wanted)
        throw new RangeError(`READ at ${at} gave ${bytes.length} bytes, ${wanted} are in the file`)
      hash.update(bytes)
      at += bytes.length
    }
    await this.#client.release(nodeid, fh)
    return hash.digest('hex')
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

async function forEachLimited<T>(
  items: readonly T[],
  limit: number,
  step: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0
  const run = async (): Promise<void> => {
    while (next < items.length) {
      const item = items[next++]
      if (item !== undefined) await step(item)
    }
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, run))
}
