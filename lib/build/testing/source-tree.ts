/** The fixtures' source tree on disk, and a variant of it without what the reference builder loses. */
import { spawnSync } from 'node:child_process'
import {
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
} from 'node:fs'
import { join } from 'node:path'
import { decompress } from 'zstd-napi'
import { native } from '../../native.js'
import { projectRoot } from '../../../vm-tests/project.js'
import { readManifest, type ManifestRecord } from '../../../vm-tests/manifest.js'

const S_IFSOCK = 0o140000
const SOCKET_NS = '035405360'
const fixturesFolder = join(projectRoot, 'vm-tests/fixtures')

/** Devices, owners and trusted xattrs can only be made by root. */
export const needsRoot =
  process.getuid?.() === 0 ? false : 'only root can make the tree that this test builds from'

function command(name: string, args: readonly string[], input?: Uint8Array): void {
  const { status, stderr } = spawnSync(name, args, { input })
  if (status !== 0) throw new Error(`${name} ${args.join(' ')}: ${stderr.toString()}`)
}

/** Unpacks the tree into `folder`, which is made. */
export function unpackTree(folder: string): string {
  mkdirSync(folder)
  const archive = decompress(readFileSync(join(fixturesFolder, 'tree.tar.zst')))
  command('tar', ['-x', '--xattrs', '--xattrs-include=*', '--warning=no-timestamp', '-C', folder], archive)
  // Archives have no sockets. The nanoseconds are those of the source tree, as the fixtures' images show them.
  const path = `${folder}/dev/sock`
  const sock = treeManifest().find(entry => entry.path === '/dev/sock')
  command('touch', ['-r', `${folder}/dev`, `${folder}.ref`])
  native.mknod(Buffer.from(path), S_IFSOCK | (sock?.mode ?? 0), 0, 0)
  command('touch', ['-d', `@${sock?.mtime}.${SOCKET_NS}`, path])
  command('touch', ['-r', `${folder}.ref`, `${folder}/dev`])
  rmSync(`${folder}.ref`)
  return folder
}

/** What the tree looks like, and what of it an image of ours shows. */
export function treeManifest(): ManifestRecord[] {
  return readManifest(join(fixturesFolder, 'tree.jsonl'))
}

function* pathsBelow(folder: Buffer): Generator<Buffer> {
  for (const entry of readdirSync(folder, { withFileTypes: true, encoding: 'buffer' })) {
    const path = Buffer.concat([folder, Buffer.from('/'), entry.name])
    yield path
    if (entry.isDirectory()) yield* pathsBelow(path)
  }
}

/**
 * Makes of the tree what the reference builder sees in it: a root of the year 1970, and every name of a symbolic
 * link an inode of its own.
 */
export function asReferenceSees(folder: string): void {
  const seen = new Set<bigint>()
  for (const path of pathsBelow(Buffer.from(folder))) {
    const st = lstatSync(path, { bigint: true })
    if (!st.isSymbolicLink() || st.nlink === 1n || !seen.has(st.ino)) {
      seen.add(st.ino)
      continue
    }
    separate(path.toString(), `${folder}.ref`)
  }
  utimesSync(folder, 0, 0)
}

function separate(path: string, scratch: string): void {
  const parent = join(path, '..')
  const target = readlinkSync(path, { encoding: 'buffer' })
  const { uid, gid } = lstatSync(path)
  mkdirSync(scratch)
  symlinkSync(target, `${scratch}/link`)
  command('touch', ['-r', parent, scratch])
  command('touch', ['-h', '-r', path, `${scratch}/link`])
  rmSync(path)
  symlinkSync(target, path)
  lchownSync(path, uid, gid)
  command('touch', ['-h', '-r', `${scratch}/link`, path])
  command('touch', ['-r', scratch, parent])
  rmSync(scratch, { recursive: true })
}
