/** What a guest sees: a tree walked through the test front-end, in the shape of the fixtures' manifests. */
import { createHash } from 'node:crypto'
import type { FuseClient } from '../../../addon/test/fuse-client.js'
import type { Expected } from '../../rafs/testing/fixtures.js'

const ROOT = 1n
const READ_SIZE = 1 << 20
const LIST_SIZE = 64 << 10
const TYPES = new Map<number, Expected['type']>([
  [0o040000, 'dir'],
  [0o100000, 'file'],
  [0o120000, 'symlink'],
  [0o060000, 'blk'],
  [0o020000, 'chr'],
  [0o010000, 'fifo'],
  [0o140000, 'sock'],
])

/** Node id of an absolute path. */
export async function nodeAt(fuse: FuseClient, path: string): Promise<bigint> {
  let node = ROOT
  for (const name of path.split('/').filter(part => part !== ''))
    node = (await fuse.lookup(node, Buffer.from(name, 'latin1'))).nodeid
  return node
}

export async function readAll(fuse: FuseClient, node: bigint, size: number): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for (let at = 0; at < size;) {
    const part = await fuse.read(node, 0, at, Math.min(READ_SIZE, size - at))
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

async function describe(fuse: FuseClient, node: bigint, path: string): Promise<Expected> {
  const attr = await fuse.getattr(node)
  const type = TYPES.get(attr.mode & 0o170000)
  if (type === undefined) throw new Error(`${path}: mode ${attr.mode.toString(8)}`)
  const size = Number(attr.size)
  const xattrs = await xattrsOf(fuse, node)
  return {
    path,
    type,
    mode: attr.mode & 0o7777,
    uid: attr.uid,
    gid: attr.gid,
    mtime: Number(attr.mtime),
    ...(type !== 'dir' && { nlink: attr.nlink }),
    ...(type === 'file' && {
      size,
      sha256: createHash('sha256')
        .update(await readAll(fuse, node, size))
        .digest('hex'),
    }),
    ...(type === 'symlink' && { target: (await fuse.readlink(node)).toString('latin1') }),
    ...((type === 'blk' || type === 'chr') && { rdev: rdevOf(attr.rdev) }),
    ...(xattrs && { xattrs }),
  }
}

/** Linux's 32-bit device number. */
function rdevOf(rdev: number): [major: number, minor: number] {
  return [(rdev >>> 8) & 0xfff, (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)]
}

/** Every entry at and below `mountpoint`, sorted by path (bytes), as the manifests are. */
export async function guestTree(fuse: FuseClient, mountpoint: string): Promise<Expected[]> {
  const out: Expected[] = []
  const pending: [path: string, node: bigint][] = [['/', await nodeAt(fuse, mountpoint)]]
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [path, node] = next
    const entry = await describe(fuse, node, path)
    out.push(entry)
    if (entry.type !== 'dir') continue
    for (const [name, child] of await list(fuse, node))
      pending.push([`${path === '/' ? '' : path}/${name.toString('latin1')}`, child])
  }
  return out.sort((a, b) => Buffer.compare(Buffer.from(a.path, 'latin1'), Buffer.from(b.path, 'latin1')))
}
