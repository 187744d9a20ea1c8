/**
 * Where a blob is written: a temporary file that gets its name when all is done, or a FIFO or device given by the
 * user. Keeps the running sha256 that becomes the blob's id.
 */
import { createHash, randomBytes, type Hash } from 'node:crypto'
import { constants } from 'node:fs'
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { NydusError, explain } from '../base/errors.js'
import { temporaryFiles } from '../base/temporary-files.js'

const BUFFER = 1 << 20
/** Pieces of this size go out as they are: copying them takes longer than one more write. */
const DIRECT = 256 << 10

export class BlobSink {
  readonly #file: FileHandle
  readonly #path: string
  readonly #temporary: string | undefined
  readonly #hash: Hash = createHash('sha256')
  /** Small pieces (chunks of small files) wait here for each other. */
  readonly #buffer = new Uint8Array(BUFFER)
  #held = 0
  /** Where the next byte will stand: bytes written so far, behind those that somebody else puts before them. */
  offset: number
  readonly #base: number

  private constructor(file: FileHandle, path: string, temporary: string | undefined, base: number) {
    this.offset = base
    this.#base = base
    this.#file = file
    this.#path = path
    this.#temporary = temporary
    if (temporary !== undefined) temporaryFiles.note(temporary)
  }

  /** Bytes written so far. */
  get size(): number {
    return this.offset - this.#base
  }

  /**
   * `path` is the final name; for a name that depends on the id give the folder and pass the name to `finish`. `base`: bytes
   * that will stand in front of these when they are read (`--blob-offset`).
   */
  static async create(path: string, base = 0): Promise<BlobSink> {
    const existing = await stat(path).catch(() => undefined)
    if (existing !== undefined && (existing.isFIFO() || existing.isCharacterDevice()))
      return new BlobSink(await open(path, constants.O_WRONLY), path, undefined, base)
    const folder = existing?.isDirectory() === true ? path : dirname(path)
    const temporary = join(folder, `.nydus-image-${process.pid}-${randomBytes(6).toString('hex')}.tmp`)
    try {
      return new BlobSink(await open(temporary, 'wx', 0o600), path, temporary, base)
    } catch (error) {
      throw new NydusError('BUILD_OUTPUT', 'EIO', `cannot write ${path}: ${explain(error)}`, { cause: error })
    }
  }

  /** Appends; `hashed` false for what the blob id leaves out (blob.digest, rafs-v6.md §9 trap 2). */
  async write(bytes: Uint8Array, hashed = true): Promise<void> {
    this.offset += bytes.length
    if (hashed && bytes.length < DIRECT && this.#held + bytes.length <= this.#buffer.length) {
      this.#buffer.set(bytes, this.#held)
      this.#held += bytes.length
      return
    }
    await this.#flush()
    await this.#hashAndPut(bytes, hashed)
  }

  async #flush(): Promise<void> {
    const bytes = this.#buffer.subarray(0, this.#held)
    this.#held = 0
    await this.#hashAndPut(bytes, true)
  }

  /** Hashes while the bytes are written. */
  async #hashAndPut(bytes: Uint8Array, hashed: boolean): Promise<void> {
    const written = this.#put(bytes)
    if (hashed) this.#hash.update(bytes)
    await written
  }

  async #put(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;)
      try {
        done += (await this.#file.write(bytes, done, bytes.length - done)).bytesWritten
      } catch (error) {
        throw this.#failed(error)
      }
  }

  #failed(error: unknown): NydusError {
    return new NydusError('BUILD_OUTPUT', 'EIO', `cannot write ${this.#path}: ${explain(error)}`, {
      cause: error,
    })
  }

  /** sha256 of what was hashed so far, hex. */
  digest(): string {
    return this.#hash.copy().update(this.#buffer.subarray(0, this.#held)).digest('hex')
  }

  /** Closes and gives the file its final name. */
  async finish(path = this.#path): Promise<void> {
    await this.#flush()
    await this.#file.close()
    if (this.#temporary === undefined) return
    try {
      await rename(this.#temporary, path)
    } catch (error) {
      throw this.#failed(error)
    }
    temporaryFiles.forget(this.#temporary)
  }

  /** Closes and leaves nothing behind. */
  async abandon(): Promise<void> {
    await this.#file.close().catch(() => undefined)
    if (this.#temporary === undefined) return
    await rm(this.#temporary, { force: true })
    temporaryFiles.forget(this.#temporary)
  }
}
