/**
 * The yard's tree of pseudo folders: which folders the mount points need, their numbers and their times. What changes
 * is handed out as records for the lanes.
 */
import { INO_MAX, ROOT_INO, type FolderRecord } from './changes.js'
import { NydusError } from '../base/errors.js'

export interface TreeFolder {
  readonly ino: number
  readonly parent: TreeFolder | undefined
  readonly name: string
  readonly children: Map<string, TreeFolder>
  mtime: number
  mtimeNs: number
  slot: number
}

/** Folders that one change of the mounts touches. */
export interface FolderChanges {
  readonly folders: readonly FolderRecord[]
  readonly gone: readonly number[]
}

export class FolderTree {
  readonly root: TreeFolder
  readonly #now: () => number
  #nextIno = ROOT_INO + 1
  #lastMs = 0
  #lastNs = 0
  readonly #changed = new Set<TreeFolder>()
  readonly #gone: TreeFolder[] = []

  /** `now`: milliseconds since 1970. */
  constructor(now: () => number = Date.now) {
    this.#now = now
    this.root = this.#create(ROOT_INO, undefined, '')
    this.#changed.clear()
  }

  /** The folder of that path, created with all that lead to it. */
  reach(components: readonly string[]): TreeFolder {
    let at = this.root
    for (const name of components) {
      let next = at.children.get(name)
      if (next === undefined) {
        if (this.#nextIno > INO_MAX)
          throw new NydusError(
            'VFS_FOLDERS_EXHAUSTED',
            'ENOSPC',
            'no inode number is left for a pseudo folder',
          )
        next = this.#create(this.#nextIno++, at, name)
        at.children.set(name, next)
        this.#touch(at)
      }
      at = next
    }
    return at
  }

  setSlot(folder: TreeFolder, slot: number): void {
    folder.slot = slot
    this.#touch(folder)
  }

  /** Removes a folder and those above it that lead to no mount point (any more). */
  prune(folder: TreeFolder): void {
    for (
      let at = folder;
      at.parent !== undefined && at.slot === 0 && at.children.size === 0;
      at = at.parent
    ) {
      at.parent.children.delete(at.name)
      this.#changed.delete(at)
      this.#gone.push(at)
      this.#touch(at.parent)
    }
  }

  /** What has changed since the last call. */
  take(): FolderChanges {
    const folders = [...this.#changed].sort((a, b) => a.ino - b.ino).map(asRecord)
    const gone = this.#gone.map(folder => folder.ino)
    this.#changed.clear()
    this.#gone.length = 0
    return { folders, gone }
  }

  /** Every folder, parents before their children: a child's number is always the higher one. */
  all(): FolderRecord[] {
    const folders: TreeFolder[] = [this.root]
    for (let i = 0; i < folders.length; i++)
      for (const child of (folders[i] as TreeFolder).children.values()) folders.push(child)
    return folders.map(asRecord)
  }

  #create(ino: number, parent: TreeFolder | undefined, name: string): TreeFolder {
    const folder = {
      ino,
      parent,
      name,
      children: new Map<string, TreeFolder>(),
      mtime: 0,
      mtimeNs: 0,
      slot: 0,
    }
    this.#touch(folder)
    return folder
  }

  /** Gives a folder a time that is later than all before, so that whoever compares times sees each change. */
  #touch(folder: TreeFolder): void {
    const ms = this.#now()
    if (ms > this.#lastMs) {
      this.#lastMs = ms
      this.#lastNs = 0
    } else this.#lastNs++
    const ns = (this.#lastMs % 1000) * 1_000_000 + this.#lastNs
    folder.mtime = Math.floor(this.#lastMs / 1000) + Math.floor(ns / 1_000_000_000)
    folder.mtimeNs = ns % 1_000_000_000
    this.#changed.add(folder)
  }
}

function asRecord(folder: TreeFolder): FolderRecord {
  const { ino, mtime, mtimeNs, slot } = folder
  const parent = folder.parent?.ino ?? ino
  return { ino, parent, name: new TextEncoder().encode(folder.name), mtime, mtimeNs, slot }
}
