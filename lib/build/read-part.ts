/** Reads a part of a source file and makes sure that the file is still the one that was found. */
import { NydusError, explain } from '../base/errors.js'
import { native } from '../native.js'
import type { FilePart } from './job.js'

function changed(part: FilePart, what: string): NydusError {
  const path = Buffer.from(part.path).toString()
  return new NydusError(
    'BUILD_SOURCE_CHANGED',
    'EIO',
    `${path} changed while it was read: ${what}; build from a source that nobody writes to`,
  )
}

/** Size, mtime and its nanoseconds, as `native.readFile` sets them. */
const after = new Float64Array(3)
const afterBytes = new Uint8Array(after.buffer)

/** Fills `into`, which has the part's length. Throws BUILD_SOURCE_UNREADABLE, BUILD_SOURCE_CHANGED. */
export function readUnchanged(part: FilePart, into: Uint8Array): void {
  let done: number
  try {
    done = native.readFile(part.path, part.offset, into, afterBytes)
  } catch (error) {
    const path = Buffer.from(part.path).toString()
    throw new NydusError('BUILD_SOURCE_UNREADABLE', 'EIO', `cannot read ${path}: ${explain(error)}`, { cause: error })
  }
  const [size, mtime, mtimeNs] = after
  if (done < part.length || size !== part.fileSize)
    throw changed(part, `it had ${part.fileSize} bytes, now it has ${size}`)
  if (mtime !== part.mtime || mtimeNs !== part.mtimeNs) throw changed(part, 'its modification time moved')
}
