/** Blobs in a cache folder that nobody has open: how much they take, and taking them away. */
import { closeSync, openSync, readdirSync, rmSync, statSync, type Stats } from 'node:fs'
import { join } from 'node:path'
import { SUFFIX } from './cache-files.js'
import { claimFile } from './folder-lock.js'

/** What belongs to a data file, the map first: data without a map is nothing, a map without data would be a lie. */
const COMPANIONS = {
  [SUFFIX.data]: [SUFFIX.map, SUFFIX.oldMap, SUFFIX.data, SUFFIX.meta, SUFFIX.digest, SUFFIX.toc],
  [SUFFIX.tar]: [SUFFIX.tar],
} as const
type Kind = keyof typeof COMPANIONS
const KINDS = [SUFFIX.data, SUFFIX.tar] as const
const ALL = KINDS.flatMap(kind => COMPANIONS[kind])

/** One blob's files, by all names that they have in the folder. */
interface BlobFiles {
  /** What the name of its data file ends with. */
  readonly kind: Kind
  readonly ids: string[]
  readonly inode: string
  /** Milliseconds since 1970: the last time somebody wrote to it or closed it. */
  readonly used: number
}

function stat(path: string): Stats | undefined {
  try {
    return statSync(path)
  } catch {
    return undefined
  }
}

const inodeOf = ({ dev, ino }: Stats): string => `${dev}:${ino}`

/** Bytes on the disk that the cache's files in `dir` take. Throws when the folder cannot be read. */
export function folderBytes(dir: string): number {
  const seen = new Set<string>()
  let bytes = 0
  for (const name of readdirSync(dir)) {
    if (!ALL.some(suffix => name.endsWith(suffix))) continue
    const file = stat(join(dir, name))
    if (file === undefined || !file.isFile() || seen.has(inodeOf(file))) continue
    seen.add(inodeOf(file))
    bytes += file.blocks * 512
  }
  return bytes
}

/** By last use, the oldest first. */
function blobsIn(dir: string): BlobFiles[] {
  const blobs = new Map<string, BlobFiles>()
  for (const name of readdirSync(dir)) {
    const kind = KINDS.find(suffix => name.endsWith(suffix))
    if (kind === undefined) continue
    const file = stat(join(dir, name))
    if (file === undefined || !file.isFile()) continue
    const inode = inodeOf(file)
    const id = name.slice(0, -kind.length)
    const known = blobs.get(inode)
    if (known === undefined) blobs.set(inode, { kind, ids: [id], inode, used: file.mtimeMs })
    else known.ids.push(id)
  }
  return [...blobs.values()].sort((a, b) => a.used - b.used)
}

/**
 * Removes closed blobs, the one used longest ago first, until `wanted` bytes are free or there are no more; returns the
 * bytes that it freed. The folder's lock must be held.
 */
export function removeClosedBlobs(dir: string, wanted: number): number {
  let freed = 0
  for (const blob of blobsIn(dir)) {
    if (freed >= wanted) break
    freed += remove(dir, blob)
  }
  return freed
}

function remove(dir: string, { kind, ids, inode }: BlobFiles): number {
  const [id = ''] = ids
  let fd: number
  try {
    fd = openSync(join(dir, id + kind), 'r')
  } catch {
    return 0
  }
  try {
    if (!claimFile(fd)) return 0
    const before = folderBytes(dir)
    for (const suffix of COMPANIONS[kind])
      for (const name of ids) {
        const path = join(dir, name + suffix)
        const file = suffix === kind ? stat(path) : undefined
        if (file !== undefined && inodeOf(file) !== inode) continue
        rmSync(path, { force: true })
      }
    return before - folderBytes(dir)
  } catch {
    // A folder that may only be read.
    return 0
  } finally {
    closeSync(fd)
  }
}
