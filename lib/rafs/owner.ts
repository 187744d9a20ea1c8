import { NydusError } from '../base/errors.js'

/** Owner shown for the files of an image that records none (`--repeatable`): who runs the daemon. */
export function owner(): { uid: number; gid: number } {
  if (process.geteuid === undefined || process.getegid === undefined)
    throw new NydusError('RAFS_UNSUPPORTED', 'ENOSYS', 'this program needs a system with user ids')
  return { uid: process.geteuid(), gid: process.getegid() }
}
