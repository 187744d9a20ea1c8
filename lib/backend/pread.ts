import type { FileHandle } from 'node:fs/promises'
import { explain, NydusError } from '../base/errors.js'

/** One pread asks for no more: a thread of libuv's pool of four is not held for long, and aborts are seen. */
const MAX_PREAD = 4 << 20

/**
 * Fills `into` with the bytes of `file` at `offset`; throws BACKEND_SHORT_READ, BACKEND_READ_FAILED. `what` is
 * being read, for the message.
 */
export async function readFully(
  file: FileHandle,
  into: Uint8Array,
  offset: number,
  what: string,
  signal?: AbortSignal,
): Promise<void> {
  let done = 0
  while (done < into.byteLength) {
    signal?.throwIfAborted()
    const length = Math.min(into.byteLength - done, MAX_PREAD)
    const bytesRead = await readSome(file, into, done, length, offset + done, what)
    if (bytesRead === 0)
      throw new NydusError(
        'BACKEND_SHORT_READ',
        'EIO',
        `${what}: ${into.byteLength} bytes at ${offset} wanted, but it ends at ${offset + done}; it is truncated`,
      )
    done += bytesRead
  }
}

async function readSome(
  file: FileHandle,
  into: Uint8Array,
  at: number,
  length: number,
  position: number,
  what: string,
): Promise<number> {
  try {
    const { bytesRead } = await file.read(into, at, length, position)
    return bytesRead
  } catch (error) {
    throw new NydusError('BACKEND_READ_FAILED', 'EIO', `${what}: reading failed: ${explain(error)}`, {
      cause: error,
    })
  }
}
