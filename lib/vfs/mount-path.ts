/**
 * Paths of mount points, as users give them.
 */
import { NydusError } from '../base/errors.js'
import { NAME_MAX, PATH_MAX } from './changes.js'

function invalid(path: string, why: string): NydusError {
  return new NydusError('VFS_PATH_INVALID', 'EINVAL', `mountpoint '${path}': ${why}`)
}

/**
 * The components of an absolute path; none for `/`. Repeated and trailing slashes and `.` count for nothing, `..`
 * is refused. Throws NydusError VFS_PATH_INVALID.
 */
export function mountComponents(path: string): string[] {
  if (!path.startsWith('/')) throw invalid(path, 'it must be an absolute path, starting with /')
  if (path.includes('\0')) throw invalid(path.replaceAll('\0', '\\0'), 'it contains a NUL character')
  if (Buffer.byteLength(path) > PATH_MAX) throw invalid(path, `it is longer than ${PATH_MAX} bytes`)
  const components = path.split('/').filter(name => name !== '' && name !== '.')
  for (const name of components) {
    if (name === '..') throw invalid(path, "it must not contain '..'")
    if (Buffer.byteLength(name) > NAME_MAX)
      throw invalid(path, `'${name}' is longer than ${NAME_MAX} bytes, as long as a name can be`)
  }
  return components
}

/** The one way to write a mount point. */
export function mountPath(components: readonly string[]): string {
  return `/${components.join('/')}`
}
