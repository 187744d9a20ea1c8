/** What a guest sees: a tree walked through the test front-end, in the shape of the fixtures' manifests. */
import type { FuseClient } from '../../../addon/test/fuse-client.js'
import { NydusError } from '../../base/errors.js'
import { sha256, statRecord, type ManifestRecord } from '../../../vm-tests/manifest.js'

const ROOT = 1n
const READ_SIZE = 1 << 20
const LIST_SIZE = 64 << 10

/** Node id of an absolute path. */
export async function nodeAt(fuse: FuseClient, path: string): Promise<bigint> {
  let node = ROOT
  for (const name of path.split('/').filter(part => part !== ''))
    node = (await fuse.lookup(node, Buffer.from(name, 'latin1'))).nodeid
  return node
}

/** `unit`: bytes of one request. */
export async function readAll(
  fuse: FuseClient,
  node: bigint,
  size: number,
  unit = READ_SIZE,
): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for (let at = 0; at < size;) {
    const part = await fuse.read(node, 0, at, Math.min(unit, size - at))
    if (part.length === 0) break
    parts.push(part)
    at += part.length
  }
  return Buffer.concat(parts)
}

/** Names and node ids in a folder, without `.` and `..`. */
export async function list(fuse: FuseClient, node: bigint): Promise<[name: Buffer, node: bigint][]> {
  const out: [Buffer, bigint][] = []
  for (let cookie = 0n; ;) {
    const page = await fuse.readdirplus(node, 0, cookie, LIST_SIZE)
    if (page.length === 0) return out
    for (const { name, entry, off } of page) {
      cookie = off
      const text = name.toString('latin1')
      if (text === '.' || text === '..') continue
      out.push([name, entry.nodeid === 0n ? (await fuse.lookup(node, name)).nodeid : entry.nodeid])
    }
  }
}

async function xattrsOf(fuse: FuseClient, node: bigint): Promise<Record<string, string> | undefined> {
  const names = await fuse.listxattr(node)
  if (names.length === 0) return undefined
  const out: Record<string, string> = {}
  for (const name of names.toSorted((a, b) => Buffer.compare(a, b)))
    out[name.toString('latin1')] = (await fuse.getxattr(node, name)).toString('hex')
  return out
}

async function describe(fuse: FuseClient, node: bigint, path: string): Promise<ManifestRecord> {
  const attr = await fuse.getattr(node)
  const size = Number(attr.size)
  const record = statRecord(path, { ...attr, size, mtime: Number(BigInt.asIntN(64, attr.mtime)) })
  const xattrs = await xattrsOf(fuse, node)
  return {
    ...record,
    ...(record.type === 'file' && { sha256: sha256(await readAll(fuse, node, size)) }),
    ...(record.type === 'symlink' && { target: (await fuse.readlink(node)).toString('latin1') }),
    ...(xattrs && { xattrs }),
  }
}

/** Requests that a walk has under way at once, more or less: a guest with so many readers. */
const READERS = 32

/** `work` for every item, some at once; results in the order of the items. */
export async function inParallel<T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
  readers = READERS,
): Promise<R[]> {
  const results: R[] = []
  const pending = items.entries()
  const reader = async (): Promise<void> => {
    for (const [i, item] of pending) results[i] = await work(item)
  }
  await Promise.all(Array.from({ length: readers }, reader))
  return results
}

/** Every entry at and below `mountpoint`, sorted by path (bytes), as the manifests are. */
export async function guestTree(fuse: FuseClient, mountpoint: string): Promise<ManifestRecord[]> {
  const nodes: [path: string, node: bigint][] = [['/', await nodeAt(fuse, mountpoint)]]
  const out: ManifestRecord[] = []
  for (let level = nodes; level.length > 0;) {
    const entries = await inParallel(level, async ([path, node]) => {
      const entry = await describe(fuse, node, path)
      const children = entry.type === 'dir' ? await list(fuse, node) : []
      return { entry, children }
    })
    level = entries.flatMap(({ entry: { path }, children }) =>
      children.map(([name, child]): [string, bigint] => [
        `${path === '/' ? '' : path}/${name.toString('latin1')}`,
        child,
      ]),
    )
    out.push(...entries.map(({ entry }) => entry))
  }
  return out.sort((a, b) => Buffer.compare(Buffer.from(a.path, 'latin1'), Buffer.from(b.path, 'latin1')))
}

/** A regular file as a guest knows it, and the sha256 that its bytes must have. */
export interface GuestFile {
  readonly path: string
  readonly node: bigint
  readonly size: number
  readonly sha256: string
}

/** Looks up the non-empty regular files of a manifest; reads nothing. */
export function guestFiles(
  fuse: FuseClient,
  mountpoint: string,
  manifest: readonly ManifestRecord[],
): Promise<GuestFile[]> {
  const files = manifest.filter(({ type, size }) => type === 'file' && size !== 0)
  return inParallel(files, async ({ path, size = 0, sha256 = '' }) => {
    return { path, node: await nodeAt(fuse, mountpoint + path), size, sha256 }
  })
}

/** Reads one file whole and compares: `right`, `wrong`, or the errno of the first read that failed. */
export async function readFile(fuse: FuseClient, { node, size, sha256: wanted }: GuestFile): Promise<string> {
  try {
    const bytes = await readAll(fuse, node, size)
    return sha256(bytes) === wanted ? 'right' : 'wrong'
  } catch (error) {
    if (error instanceof NydusError && error.code === 'FRONTEND_FUSE_ERROR') return error.errno
    throw error
  }
}
