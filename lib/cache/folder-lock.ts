/**
 * Locks of a cache folder, by flock(2), between daemons of this project:
 *
 *     the folder        exclusive, for some system calls: whoever opens, replaces or evicts files
 *     a blob's data     shared, as long as somebody has it open; exclusive to evict from it
 *
 * A data file's lock is only ever taken or changed with the folder's lock held.
 */
import { closeSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { native } from '../native.js'

/** Another daemon holds the folder's lock for some system calls; longer than this means that it hangs. */
const LOCK_TIMEOUT_MS = 2000
const RETRY_MS = 5

export interface FolderLock {
  /** False: somebody else has it and does not give it back, or the file system knows no locks. */
  readonly held: boolean
  readonly unlock: () => void
}

/** Throws the system's error when the folder cannot be opened. */
export async function lockFolder(dir: string, timeoutMs = LOCK_TIMEOUT_MS): Promise<FolderLock> {
  const fd = openSync(dir, 'r')
  const deadline = performance.now() + timeoutMs
  let held = false
  try {
    while (!(held = native.lockFile(fd, false)) && performance.now() < deadline) await sleep(RETRY_MS)
  } catch {
    // A file system without flock: what is left is a race of a few system calls between two starting daemons.
  }
  return { held, unlock: () => closeSync(fd) }
}

/** Says that the open file is in use; false while somebody has it for himself. */
export function shareFile(fd: number): boolean {
  try {
    return native.lockFile(fd, false, true)
  } catch {
    return true
  }
}

/** Whether nobody else has the file open, and nobody can open it until `shareFile`. After false, call that as well. */
export function claimFile(fd: number): boolean {
  try {
    return native.lockFile(fd, false)
  } catch {
    return false
  }
}
