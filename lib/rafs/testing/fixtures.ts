/** Bootstraps as bytes, and readers over them. */
import { readFileSync } from 'node:fs'
import { u64 } from '../../base/u64.js'
import { Blobs } from '../blobs.js'
import { Bootstrap } from '../bootstrap.js'
import { SuperblockV5, V5_ALIGNMENT, V5_ROOT_INDEX, V5_SLOT_SIZE } from '../layout/v5.js'
import { RafsReader, type ReaderOptions } from '../reader.js'
import { readSuper, type RafsSuper } from '../super.js'

/** Where the record of inode `ino` starts in a v5 bootstrap. */
export function recordV5(bytes: Uint8Array, ino: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const slot = u64(view, SuperblockV5.at.inodeTableOffset) + (ino - V5_ROOT_INDEX) * V5_SLOT_SIZE
  return view.getUint32(slot, true) * V5_ALIGNMENT
}

/** A private copy of a bootstrap, to damage. */
export function bytesOf(path: string): Uint8Array {
  return Uint8Array.from(readFileSync(path))
}

export const PLAIN_OPTIONS: ReaderOptions = {
  bootstrapFile: 7,
  xattrs: true,
  validate: false,
  uid: 1234,
  gid: 4321,
}

export interface OpenedBytes {
  readonly sb: RafsSuper
  readonly reader: RafsReader
}

/** The memory of bytes, which must be all of it (or are copied). */
export function memoryOf(bytes: Uint8Array): ArrayBuffer {
  const { buffer, byteOffset, byteLength } = bytes
  const whole = buffer instanceof ArrayBuffer && byteOffset === 0 && byteLength === buffer.byteLength
  return whole ? buffer : Uint8Array.from(bytes).buffer
}

/** A reader over bytes in memory. Throws NydusError for what cannot be opened. */
export function openBytes(bytes: Uint8Array, options: Partial<ReaderOptions> = {}): OpenedBytes {
  const memory = memoryOf(bytes)
  const boot = new Bootstrap(memory, memory.byteLength, 'image')
  const sb = readSuper(boot, 'stem')
  const reader = new RafsReader(boot, sb, new Blobs(sb.blobs, [], []), { ...PLAIN_OPTIONS, ...options })
  return { sb, reader }
}
