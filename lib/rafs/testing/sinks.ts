/** Sinks that write down what a FileSystem gives them. */
import type { ByteSink, DirSink, ExtentSink } from '../../vfs/filesystem.js'

export interface Extent {
  readonly file: number
  readonly offset: number
  readonly length: number
}

export interface Want {
  readonly blob: number
  readonly ref: number
  readonly chunkOffset: number
  readonly length: number
}

export class Extents implements ExtentSink {
  readonly extents: Extent[] = []
  readonly wants: Want[] = []
  readonly #room: number

  /** Takes `room` extents, then no more. */
  constructor(room = Infinity) {
    this.#room = room
  }

  add(file: number, offset: number, length: number): boolean {
    if (this.extents.length >= this.#room) return false
    this.extents.push({ file, offset, length })
    return true
  }

  want(blob: number, ref: number, chunkOffset: number, length: number): boolean {
    this.wants.push({ blob, ref, chunkOffset, length })
    return true
  }

  get length(): number {
    return this.extents.reduce((sum, extent) => sum + extent.length, 0)
  }
}

export interface DirEntry {
  /** Bytes as Latin-1. */
  readonly name: string
  readonly ino: number
  readonly mode: number
  readonly next: number
}

export class Entries implements DirSink {
  readonly entries: DirEntry[] = []
  readonly #room: number

  constructor(room = Infinity) {
    this.#room = room
  }

  entry(ino: number, mode: number, bytes: Uint8Array, start: number, length: number, next: number): boolean {
    if (this.entries.length >= this.#room) return false
    const name = Buffer.from(bytes.subarray(start, start + length)).toString('latin1')
    this.entries.push({ name, ino, mode, next })
    return true
  }
}

export class Bytes implements ByteSink {
  text = ''

  bytes(from: Uint8Array, start: number, length: number): boolean {
    this.text += Buffer.from(from.subarray(start, start + length)).toString('latin1')
    return true
  }
}

export function latin1(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'latin1'))
}
