/** Why a system call on a path failed, in words: Node's own messages repeat the call and the path. */
import { explain } from '../base/errors.js'

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or folder',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EISDIR: 'it is a folder',
  ENOTDIR: 'a part of the path is not a folder',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'the name is too long',
  EADDRINUSE: 'something exists there',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the disk is full',
  EMFILE: 'too many open files',
  ENXIO: 'it is a socket or a device',
  ENODEV: 'there is no such device',
}

export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

export function reason(error: unknown): string {
  const code = errorCode(error)
  return (code !== undefined && REASONS[code]) || explain(error)
}
