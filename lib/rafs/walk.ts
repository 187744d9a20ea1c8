/** Walks through an image in the yard: for prefetch, and for the tools that check, list and unpack images. */
import { NydusError } from '../base/errors.js'
import type { DirSink } from '../vfs/filesystem.js'
import type { RafsReader } from './reader.js'
import { S_IFDIR, S_IFMT } from './layout/flags.js'

export interface WalkEntry {
  /** Absolute path in the image; `/` for the root. */
  readonly path: Buffer
  readonly ino: number
  /** Type bits of st_mode. */
  readonly type: number
}

/** Longest path that a walk follows: far beyond PATH_MAX, but an end to folders nested without end. */
const MAX_PATH = 64 << 10
/** Entries taken from a folder between two steps of the walk. */
const BATCH = 256
const SLASH = 0x2f

/**
 * The folder `from` (or the one file that it is) and everything below it, in index order (rafs-v5.md §4): all
 * children of a folder in name order, then the same for each of its sub-folders. Files of a blob lie in it in
 * this order. A folder that is met twice (it contains itself, or has two names) ends the walk with RAFS_LOOP.
 */
export function* walk(reader: RafsReader, from: number, path: Buffer): Generator<WalkEntry> {
  const type = typeOf(reader, from)
  yield { path, ino: from, type }
  if (type !== S_IFDIR) return
  const seen = new Set([from])
  const stack: WalkEntry[][] = [[{ path, ino: from, type }]]
  for (;;) {
    const level = stack.at(-1)
    if (level === undefined) return
    const folder = level.pop()
    if (folder === undefined) {
      stack.pop()
      continue
    }
    const folders: WalkEntry[] = []
    for (const entry of children(reader, folder)) {
      if (entry.type === S_IFDIR) {
        if (seen.has(entry.ino))
          throw new NydusError(
            'RAFS_LOOP',
            'EIO',
            `folder ${show(entry.path)} (inode ${entry.ino}) has two names in the image`,
          )
        seen.add(entry.ino)
        folders.push(entry)
      }
      yield entry
    }
    stack.push(folders.reverse())
  }
}

/** Entries of a folder without `.` and `..`, in name order. Throws RAFS_BAD_INODE, RAFS_BAD_NAME. */
function* children(reader: RafsReader, folder: WalkEntry): Generator<WalkEntry> {
  const batch = new Batch(folder)
  for (;;) {
    batch.entries.length = 0
    const taken = reader.readdir(folder.ino, batch.cookie, batch)
    if (taken < 0)
      throw new NydusError(
        'RAFS_BAD_INODE',
        'EIO',
        `folder ${show(folder.path)} (inode ${folder.ino}) is damaged`,
      )
    if (taken === 0) return
    yield* batch.entries
  }
}

class Batch implements DirSink {
  readonly entries: WalkEntry[] = []
  cookie = 0
  #seen = 0
  readonly #folder: WalkEntry

  constructor(folder: WalkEntry) {
    this.#folder = folder
  }

  entry(ino: number, mode: number, bytes: Uint8Array, start: number, length: number, next: number): boolean {
    if (this.#seen === BATCH) {
      this.#seen = 0
      return false
    }
    this.#seen++
    this.cookie = next
    const name = bytes.slice(start, start + length)
    if (isDots(name)) return true
    this.entries.push({ path: join(this.#folder.path, name), ino, type: mode & S_IFMT })
    return true
  }
}

function isDots(name: Uint8Array): boolean {
  return name.length <= 2 && name.every(byte => byte === 0x2e)
}

function join(folder: Buffer, name: Uint8Array): Buffer {
  const path = Buffer.concat(folder.length === 1 ? [folder, name] : [folder, Buffer.of(SLASH), name])
  if (name.includes(SLASH) || name.includes(0))
    throw new NydusError('RAFS_BAD_NAME', 'EIO', `${show(path)}: a name in the image contains a slash or NUL`)
  if (path.length > MAX_PATH)
    throw new NydusError(
      'RAFS_TOO_DEEP',
      'EIO',
      `folders of the image are nested too deep: a path exceeds ${MAX_PATH} bytes`,
    )
  return path
}

function typeOf(reader: RafsReader, ino: number): number {
  const type = reader.typeOf(ino)
  if (type < 0) throw new NydusError('RAFS_BAD_INODE', 'EIO', `inode ${ino} of the image is damaged`)
  return type
}

function show(path: Buffer): string {
  return JSON.stringify(path.toString('latin1'))
}

/** Inode of an absolute path, `/` included; a negative errno when there is none. Symlinks are not followed. */
export function resolve(reader: RafsReader, path: Uint8Array): number {
  let ino = reader.rootIno
  for (let at = 0; at < path.length;) {
    if (path[at] === SLASH) {
      at++
      continue
    }
    const slash = path.indexOf(SLASH, at)
    const end = slash < 0 ? path.length : slash
    const name = path.subarray(at, end)
    ino = isDots(name)
      ? name.length === 1
        ? ino
        : reader.parent(ino)
      : reader.lookup(ino, path, at, end - at)
    if (ino < 0) return ino
    at = end
  }
  return ino
}
