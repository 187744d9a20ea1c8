/** A folder on disk in the shape of the fixtures' manifests: what an unpacked or kernel-mounted image shows. */
import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { native } from '../../native.js'
import type { Expected } from '../../rafs/testing/fixtures.js'

const TYPES = new Map<number, Expected['type']>([
  [0o040000, 'dir'],
  [0o100000, 'file'],
  [0o120000, 'symlink'],
  [0o060000, 'blk'],
  [0o020000, 'chr'],
  [0o010000, 'fifo'],
  [0o140000, 'sock'],
])

function xattrsOf(path: Buffer): Record<string, string> | undefined {
  const names = Buffer.from(native.llistxattr(path))
    .toString('latin1')
    .split('\0')
    .filter(name => name !== '')
  if (names.length === 0) return undefined
  const value = (name: string): string =>
    Buffer.from(native.lgetxattr(path, Buffer.from(name, 'latin1'))).toString('hex')
  return Object.fromEntries(names.toSorted().map(name => [name, value(name)]))
}

function recordOf(path: Buffer, shown: string): Expected {
  const st = lstatSync(path, { bigint: true })
  const type = TYPES.get(Number(st.mode & 0o170000n)) ?? 'file'
  const xattrs = xattrsOf(path)
  const seconds =
    (st.mtimeNs - (((st.mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n)) / 1_000_000_000n
  return {
    path: shown,
    type,
    mode: Number(st.mode & 0o7777n),
    uid: Number(st.uid),
    gid: Number(st.gid),
    mtime: Number(seconds),
    ...(type === 'dir' ? {} : { nlink: Number(st.nlink) }),
    ...(type === 'file'
      ? { size: Number(st.size), sha256: createHash('sha256').update(readFileSync(path)).digest('hex') }
      : {}),
    ...(type === 'symlink' ? { target: readlinkSync(path, { encoding: 'buffer' }).toString('latin1') } : {}),
    ...(type === 'blk' || type === 'chr'
      ? {
          rdev: [
            Number((st.rdev >> 8n) & 0xfffn),
            Number((st.rdev & 0xffn) | ((st.rdev >> 12n) & 0xffffff00n)),
          ] as const,
        }
      : {}),
    ...(xattrs === undefined ? {} : { xattrs }),
  }
}

/** All below `root`, sorted by path; the root is `/`. */
export function folderTree(root: string): Expected[] {
  const out: Expected[] = []
  const visit = (path: Buffer, shown: string): void => {
    const record = recordOf(path, shown === '' ? '/' : shown)
    out.push(record)
    if (record.type !== 'dir') return
    for (const name of readdirSync(path, { encoding: 'buffer' }))
      visit(Buffer.concat([path, Buffer.from('/'), name]), `${shown}/${name.toString('latin1')}`)
  }
  visit(Buffer.from(root), '')
  return out.sort((a, b) => (a.path < b.path ? -1 : 1))
}
