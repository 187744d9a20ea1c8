/** A folder on disk in the shape of the fixtures' manifests: what an unpacked or kernel-mounted image shows. */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { native } from '../../native.js'
import { sha256, statRecord, type ManifestRecord } from '../../../vm-tests/manifest.js'

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
  const xattrs = xattrsOf(path)
  const seconds =
    (st.mtimeNs - (((st.mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n)) / 1_000_000_000n
  const record = statRecord(shown, {
    mode: Number(st.mode),
    uid: Number(st.uid),
    gid: Number(st.gid),
    mtime: Number(seconds),
    nlink: Number(st.nlink),
    size: Number(st.size),
    rdev: Number(st.rdev),
  })
  return {
    ...record,
    ...(record.type === 'file' && { sha256: sha256(readFileSync(path)) }),
    ...(record.type === 'symlink' && {
      target: readlinkSync(path, { encoding: 'buffer' }).toString('latin1'),
    }),
    ...(xattrs && { xattrs }),
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
