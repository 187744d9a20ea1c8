/**
 * Files without a name: memory that threads of this process share by descriptor and that is gone when it ends,
 * however it ends.
 */
import { closeSync, ftruncateSync, openSync, statfsSync, unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { explain, NydusError } from '../base/errors.js'

/** tmpfs first: what is written there never touches a disk. */
const FOLDERS = ['/dev/shm', tmpdir()]
let made = 0

/** Opens a file of `length` zero bytes that has no name any more, in `folder` or wherever there is room. */
export function openTempFile(length: number, folder?: string): number {
  const failures: string[] = []
  for (const dir of folder === undefined ? FOLDERS : [folder]) {
    const path = join(dir, `.nydus-${process.pid}-${made++}.tmp`)
    try {
      const fd = openSync(path, 'wx+', 0o600)
      try {
        unlinkSync(path)
        ftruncateSync(fd, length)
        return fd
      } catch (error) {
        closeSync(fd)
        throw error
      }
    } catch (error) {
      failures.push(explain(error))
    }
  }
  throw new NydusError(
    'CACHE_NO_TEMP',
    'EIO',
    `no temporary file of ${length} bytes could be made: ${failures.join('; ')}`,
  )
}

/** Path under which every thread of this process can open `fd` again. */
export function descriptorPath(fd: number): string {
  return `/proc/self/fd/${fd}`
}

/** Bytes free where openTempFile would put its file. */
export function tempSpace(): number {
  for (const dir of FOLDERS) {
    try {
      const { bavail, bsize } = statfsSync(dir)
      return bavail * bsize
    } catch {
      // Not there: the next folder counts.
    }
  }
  return 0
}
