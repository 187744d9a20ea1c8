/** A folder on disk in the shape of the fixtures' manifests: what an unpacked or kernel-mounted image shows. */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { native } from '../../native.js'
import { deviceNumbers, entryType, sha256, type ManifestRecord } from '../../../vm-tests/manifest.js'

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

function recordOf(path: Buffer, shown: string): ManifestRecord {
  const st = lstatSync(path, { bigint: true })
  const type = entryType(Number(st.mode)) ?? 'file'
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
    ...(type === 'file' ? { size: Number(st.size), sha256: sha256(readFileSync(path)) } : {}),
    ...(type === 'symlink' ? { target: readlinkSync(path, { encoding: 'buffer' }).toString('latin1') } : {}),
    ...(type === 'blk' || type === 'chr' ? { rdev: deviceNumbers(Number(st.rdev)) } : {}),
    ...(xattrs === undefined ? {} : { xattrs }),
  }
}

/** All below `root`, sorted by path; the root is `/`. */
export function folderTree(root: string): ManifestRecord[] {
  const out: ManifestRecord[] = []
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
