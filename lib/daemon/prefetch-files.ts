/**
 * `--prefetch-files` in both its meanings (design: nydusd.md 1.3): a file on this host that lists paths within the
 * image, one a line (today), or those paths themselves (2020).
 */
import { readFile, stat } from 'node:fs/promises'
import { NydusError } from '../base/errors.js'
import { reason } from './reason.js'

/** A list of a million paths of 100 bytes. */
const MAX_LIST_BYTES = 100 << 20

function invalid(message: string): NydusError {
  return new NydusError('START_PREFETCH_FILES', 'EINVAL', message)
}

/** Every entry absolute, or it throws: `where` tells whence they come. */
export function checkPrefetchPaths(paths: readonly string[], where: string): readonly string[] {
  const wrong = paths.find(path => !path.startsWith('/'))
  if (wrong !== undefined)
    throw invalid(`${where}: "${wrong}" is not a path within the image; it must start with /`)
  return paths
}

/** The paths within the image. Throws NydusError START_PREFETCH_FILES. */
export async function resolvePrefetchFiles(values: readonly string[]): Promise<readonly string[]> {
  const [first] = values
  if (first === undefined) return []
  const isFile = (await stat(first).catch(() => undefined))?.isFile() === true
  if (values.length > 1 || (first.startsWith('/') && !isFile))
    return checkPrefetchPaths(values, '--prefetch-files')
  let list: string
  try {
    const { size } = await stat(first)
    if (size > MAX_LIST_BYTES) throw new Error(`it has ${size} bytes, more than ${MAX_LIST_BYTES}`)
    list = await readFile(first, 'utf8')
  } catch (error) {
    throw invalid(`--prefetch-files ${first}: the list cannot be read: ${reason(error)}`)
  }
  const lines = list.split('\n').map(line => line.trim())
  return checkPrefetchPaths(
    lines.filter(line => line !== ''),
    `--prefetch-files ${first}`,
  )
}
