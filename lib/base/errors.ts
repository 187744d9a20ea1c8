/**
 * The one error class of the project, and the errno values a guest can get.
 *
 * `code` is stable and names the cause (programs and tests match on it); `errno` is what a guest's request is
 * answered with when the error reaches it; the message is one sentence for people: what was wanted, what came,
 * where, and the cure if there is one.
 */
import { inspect } from 'node:util'

/** Linux errno values (asm-generic/errno-base.h, errno.h); the numbers are part of the FUSE ABI. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENODATA: 61,
  EPROTO: 71,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ETIMEDOUT: 110,
  ESTALE: 116,
} as const

export type Errno = keyof typeof ERRNO

/** Stable cause names: layer, underscore, cause, for instance `RAFS_BAD_MAGIC` or `CONFIG_INVALID`. */
export type Code = `${Uppercase<string>}_${Uppercase<string>}`

export class NydusError extends Error {
  override readonly name = 'NydusError'
  readonly code: Code
  readonly errno: Errno

  constructor(code: Code, errno: Errno, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.errno = errno
  }
}

/** The sentence to show a person: messages along the `cause` chain, outermost first, without stacks. */
export function explain(error: unknown): string {
  const parts: string[] = []
  let at: unknown = error
  while (at !== undefined && at !== null && parts.length < 8) {
    const text = at instanceof Error ? at.message || at.name : typeof at === 'string' ? at : inspect(at)
    if (text !== '' && !parts.some(seen => seen.includes(text))) parts.push(text)
    at = at instanceof Error ? at.cause : undefined
  }
  return parts.join(': ')
}
