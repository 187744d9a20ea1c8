/**
 * `--blob-cache-dir`: while a blob is built, what a daemon's cache would hold of it (blobs-and-cache.md §6): `<id>.blob.data`, all
 * chunks where they lie in the plain blob, and `<id>.blob.meta`, its chunk information.
 */
import { randomBytes } from 'node:crypto'
import { open, rename, rm, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { explain, NydusError } from '../base/errors.js'
import { temporaryFiles } from '../base/temporary-files.js'
import { V6_BLOCK_SIZE } from '../rafs/layout/v6.js'
import type { PlainCopy } from './blob-writer.js'

class Part {
  readonly #file: FileHandle
  readonly #temporary: string
  readonly #folder: string

  private constructor(folder: string, temporary: string, file: FileHandle) {
    this.#folder = folder
    this.#temporary = temporary
    this.#file = file
    temporaryFiles.note(temporary)
  }

  static async create(folder: string): Promise<Part> {
    const temporary = join(folder, `.nydus-image-${process.pid}-${randomBytes(6).toString('hex')}.tmp`)
    try {
      return new Part(folder, temporary, await open(temporary, 'wx', 0o600))
    } catch (error) {
      throw failed(folder, error)
    }
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < bytes.length;)
      try {
        done += (await this.#file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten
      } catch (error) {
        throw failed(this.#folder, error)
      }
  }

  async finish(name: string, size: number): Promise<void> {
    await this.#file.truncate(size)
    await this.#file.close()
    await rename(this.#temporary, join(this.#folder, name))
    temporaryFiles.forget(this.#temporary)
  }

  async abandon(): Promise<void> {
    await this.#file.close().catch(() => undefined)
    await rm(this.#temporary, { force: true })
    temporaryFiles.forget(this.#temporary)
  }
}

function failed(folder: string, error: unknown): NydusError {
  return new NydusError(
    'BUILD_OUTPUT',
    'EIO',
    `cannot write into --blob-cache-dir ${folder}: ${explain(error)}`,
    {
      cause: error,
    },
  )
}

export class CacheCopy implements PlainCopy {
  readonly #folder: string
  readonly #data: Part
  #meta: { readonly part: Part; readonly size: number } | undefined

  private constructor(folder: string, data: Part) {
    this.#folder = folder
    this.#data = data
  }

  static async create(folder: string): Promise<CacheCopy> {
    return new CacheCopy(folder, await Part.create(folder))
  }

  write(bytes: Uint8Array, uncompressedOffset: number): Promise<void> {
    return this.#data.write(bytes, uncompressedOffset)
  }

  /** The plain table, padded to whole blocks, and its header. */
  async chunkInfo(table: Uint8Array, header: Uint8Array): Promise<void> {
    const part = await Part.create(this.#folder)
    const padded = Math.ceil(table.length / V6_BLOCK_SIZE) * V6_BLOCK_SIZE
    this.#meta = { part, size: padded + header.length }
    await part.write(table, 0)
    await part.write(header, padded)
  }

  /** `size`: bytes of the plain blob. */
  async finish(id: string, size: number): Promise<void> {
    await this.#data.finish(`${id}.blob.data`, size)
    await this.#meta?.part.finish(`${id}.blob.meta`, this.#meta.size)
  }

  async abandon(): Promise<void> {
    await this.#data.abandon()
    await this.#meta?.part.abandon()
  }
}
