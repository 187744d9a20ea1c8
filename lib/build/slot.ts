/**
 * A job of the builder and its results, in memory that this thread and one of the pool hold in turns: the build adds
 * parts, the pool runs them, the build takes the chunks that came out. Slots are used again and again, so that a
 * million files leave nothing behind for the garbage collector.
 */
import { layout } from '../base/layout.js'
import { NydusError } from '../base/errors.js'

/** What is to be read: whole chunks of a file, or its rest (addon/build/slot.h). Places are within the slot's input. */
export const Part = layout('Part', 72, {
  /** Path of the folder; neighbours in one folder share it. */
  folderAt: 'f64',
  folderLength: 'f64',
  nameAt: 'f64',
  nameLength: 'f64',
  /** Within the file. */
  offset: 'f64',
  length: 'f64',
  /** Of the whole file when it was found; others are an error. */
  fileSize: 'f64',
  mtime: 'f64',
  mtimeNs: 'f64',
})

export const ChunkResult = layout('ChunkResult', 48, {
  digest: [32],
  /** CRC-32C of the plain bytes. */
  crc32: 'u32',
  plainSize: 'u32',
  storedSize: 'u32',
  /** RESULT_FLAG. */
  flags: 'u32',
})

export const RESULT_FLAG = {
  COMPRESSED: 1,
  /** A file of less than `batchLimit`: left as it is, to go into a batch. */
  SMALL: 2,
} as const

const DOUBLE = 8
const WORD = 4
const PART_SIZE = Part.size / DOUBLE
/** Words of a result. */
const RESULT_SIZE = ChunkResult.size / WORD
const CRC32 = ChunkResult.at.crc32 / WORD
const PLAIN_SIZE = ChunkResult.at.plainSize / WORD
const STORED_SIZE = ChunkResult.at.storedSize / WORD
const FLAGS = ChunkResult.at.flags / WORD

/** A file that was found: what it must still be when it is read. */
export interface FoundFile {
  readonly size: number
  readonly mtime: number
  readonly mtimeNs: number
}

/** What all slots of a pool take at most. */
export interface SlotLimits {
  readonly parts: number
  /** Plain bytes. */
  readonly bytes: number
  /** Bytes of folders and names. */
  readonly paths: number
}

export class Slot {
  readonly index: number
  readonly #limits: SlotLimits
  readonly #table: Float64Array
  readonly #input: Uint8Array
  /** Results as words: a digest takes eight. */
  readonly words: Uint32Array
  /** The stored bytes of all chunks, one behind the other. */
  readonly data: Uint8Array
  /** Parts and plain bytes that were added. */
  parts = 0
  bytes = 0
  /** Chunks that came out. */
  chunks = 0
  #inputUsed = 0
  #folder: Uint8Array | undefined
  #folderAt = 0

  constructor(
    index: number,
    limits: SlotLimits,
    memory: readonly [ArrayBuffer, ArrayBuffer, ArrayBuffer, ArrayBuffer],
  ) {
    this.index = index
    this.#limits = limits
    this.#table = new Float64Array(memory[0])
    this.#input = new Uint8Array(memory[1])
    this.words = new Uint32Array(memory[2])
    this.data = new Uint8Array(memory[3])
  }

  /** Forgets the last job. */
  clear(): void {
    this.parts = 0
    this.bytes = 0
    this.chunks = 0
    this.#inputUsed = 0
    this.#folder = undefined
  }

  /** Is there room for one more part of `length` bytes, with so many bytes of path? */
  fits(length: number, pathBytes: number): boolean {
    return (
      this.parts < this.#limits.parts &&
      this.bytes + length <= this.#limits.bytes &&
      this.#inputUsed + pathBytes <= this.#limits.paths
    )
  }

  /**
   * A part of the file that is named by `names[nameAt … nameAt + nameLength)` in `folder`, a path. Calls for files of one
   * folder give the same `folder` object.
   */
  addFile(
    folder: Uint8Array,
    names: Uint8Array,
    nameAt: number,
    nameLength: number,
    offset: number,
    length: number,
    file: FoundFile,
  ): void {
    const input = this.#input
    if (folder !== this.#folder) {
      this.#folder = folder
      this.#folderAt = this.#inputUsed
      input.set(folder, this.#inputUsed)
      this.#inputUsed += folder.length
    }
    const start = this.#inputUsed
    for (let i = 0; i < nameLength; i++) input[start + i] = names[nameAt + i] as number
    this.#inputUsed = start + nameLength
    const at = this.#append(offset, length, file.size)
    this.#table[at + Part.at.folderAt / DOUBLE] = this.#folderAt
    this.#table[at + Part.at.folderLength / DOUBLE] = folder.length
    this.#table[at + Part.at.nameAt / DOUBLE] = start
    this.#table[at + Part.at.nameLength / DOUBLE] = nameLength
    this.#table[at + Part.at.mtime / DOUBLE] = file.mtime
    this.#table[at + Part.at.mtimeNs / DOUBLE] = file.mtimeNs
  }

  /** A part whose content the caller writes into what is returned. `fileSize`: of the whole file. */
  addBytes(length: number, fileSize: number): Uint8Array {
    const into = this.#input.subarray(this.bytes, this.bytes + length)
    const at = this.#append(0, length, fileSize)
    this.#table.fill(0, at, at + Part.at.offset / DOUBLE)
    return into
  }

  #append(offset: number, length: number, fileSize: number): number {
    const at = this.parts++ * PART_SIZE
    this.bytes += length
    this.#table[at + Part.at.offset / DOUBLE] = offset
    this.#table[at + Part.at.length / DOUBLE] = length
    this.#table[at + Part.at.fileSize / DOUBLE] = fileSize
    return at
  }

  #number(part: number, field: keyof typeof Part.at): number {
    return this.#table[part * PART_SIZE + Part.at[field] / DOUBLE] ?? 0
  }

  /** Where the digest of a chunk starts in `words`. */
  digestAt(chunk: number): number {
    return chunk * RESULT_SIZE
  }
  crc32(chunk: number): number {
    return this.words[chunk * RESULT_SIZE + CRC32] as number
  }
  plainSize(chunk: number): number {
    return this.words[chunk * RESULT_SIZE + PLAIN_SIZE] as number
  }
  storedSize(chunk: number): number {
    return this.words[chunk * RESULT_SIZE + STORED_SIZE] as number
  }
  flags(chunk: number): number {
    return this.words[chunk * RESULT_SIZE + FLAGS] as number
  }

  /** Why a part could not be used: `error`, or that the file is another one now, of `foundSize` bytes. */
  failure(part: number, foundSize: number, error: NydusError | undefined): NydusError {
    const folderAt = this.#number(part, 'folderAt')
    const nameAt = this.#number(part, 'nameAt')
    const folder = this.#input.subarray(folderAt, folderAt + this.#number(part, 'folderLength'))
    const name = this.#input.subarray(nameAt, nameAt + this.#number(part, 'nameLength'))
    const path = Buffer.concat([folder, Buffer.from('/'), name]).toString()
    if (error !== undefined)
      return new NydusError('BUILD_SOURCE_UNREADABLE', 'EIO', `cannot read ${path}: ${error.message}`, {
        cause: error,
      })
    const fileSize = this.#number(part, 'fileSize')
    const what =
      foundSize === fileSize
        ? 'its modification time moved'
        : `it had ${fileSize} bytes, now it has ${foundSize}`
    return new NydusError(
      'BUILD_SOURCE_CHANGED',
      'EIO',
      `${path} changed while it was read: ${what}; build from a source that nobody writes to`,
    )
  }
}
