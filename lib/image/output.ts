/**
 * Where a tool writes what it makes: a file that gets its name when all is done, a FIFO or device as it is, or
 * standard output (`-`). Small writes are gathered.
 */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { explain, NydusError } from '../base/errors.js'
import { temporaryFiles } from '../base/temporary-files.js'

const GATHER = 1 << 20

export class Output {
  readonly #file: FileHandle | undefined
  readonly #path: string
  readonly #temporary: string | undefined
  readonly #gathered = new Uint8Array(GATHER)
  #used = 0
  /** Bytes written so far. */
  offset = 0

  private constructor(file: FileHandle | undefined, path: string, temporary: string | undefined) {
    this.#file = file
    this.#path = path
    this.#temporary = temporary
    if (temporary !== undefined) temporaryFiles.note(temporary)
  }

  /** Throws IMAGE_OUTPUT. Opening a FIFO waits for its reader. */
  static async create(path: string): Promise<Output> {
    try {
      if (path === '-' || path === '/dev/stdout') return new Output(undefined, 'standard output', undefined)
      const existing = await stat(path).catch(() => undefined)
      if (existing !== undefined && !existing.isFile() && !existing.isDirectory())
        return new Output(await open(path, constants.O_WRONLY), path, undefined)
      if (existing?.isDirectory() === true) throw new Error('it is a folder')
      const temporary = join(
        dirname(path),
        `.nydus-image-${process.pid}-${randomBytes(6).toString('hex')}.tmp`,
      )
      return new Output(await open(temporary, 'wx+'), path, temporary)
    } catch (error) {
      throw failed(path, error)
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.offset += bytes.length
    if (this.#used + bytes.length > GATHER) await this.#flush()
    if (bytes.length >= GATHER) return await this.#put(bytes)
    this.#gathered.set(bytes, this.#used)
    this.#used += bytes.length
  }

  /** `count` zeros. */
  async zeros(count: number): Promise<void> {
    for (let left = count; left > 0;) {
      const n = Math.min(left, ZEROS.length)
      await this.write(ZEROS.subarray(0, n))
      left -= n
    }
  }

  /** Writes at a place; `offset` stays as it is. Not for pipes and devices. */
  async writeAt(bytes: Uint8Array, position: number): Promise<void> {
    const file = this.#regular()
    try {
      for (let done = 0; done < bytes.length;)
        done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten
    } catch (error) {
      throw failed(this.#path, error)
    }
  }

  /** Reads what `writeAt` wrote; bytes behind the end are zeros. */
  async readAt(into: Uint8Array, position: number): Promise<void> {
    const file = this.#regular()
    for (let done = 0; done < into.length;) {
      const { bytesRead } = await file.read(into, done, into.length - done, position + done)
      if (bytesRead === 0) {
        into.fill(0, done)
        return
      }
      done += bytesRead
    }
  }

  /** The file's descriptor, for threads that write at places of their own. */
  get fd(): number {
    return this.#regular().fd
  }

  /** Makes the file that long; what was not written is a hole. */
  async setLength(length: number): Promise<void> {
    try {
      await this.#regular().truncate(length)
    } catch (error) {
      throw failed(this.#path, error)
    }
  }

  #regular(): FileHandle {
    if (this.#file === undefined || this.#temporary === undefined)
      throw new NydusError(
        'IMAGE_OUTPUT',
        'EINVAL',
        `${this.#path} is a pipe or device: this needs a file, which is not written from start to end`,
      )
    return this.#file
  }

  async #flush(): Promise<void> {
    const used = this.#used
    this.#used = 0
    if (used > 0) await this.#put(this.#gathered.subarray(0, used))
  }

  async #put(bytes: Uint8Array): Promise<void> {
    try {
      if (this.#file === undefined) await toStdout(bytes)
      else
        for (let done = 0; done < bytes.length;)
          done += (await this.#file.write(bytes, done, bytes.length - done)).bytesWritten
    } catch (error) {
      throw failed(this.#path, error)
    }
  }

  /** Closes and gives the file its final name. */
  async finish(): Promise<void> {
    await this.#flush()
    try {
      await this.#file?.close()
      if (this.#temporary === undefined) return
      await rename(this.#temporary, this.#path)
      temporaryFiles.forget(this.#temporary)
    } catch (error) {
      throw failed(this.#path, error)
    }
  }

  /** Closes and leaves nothing behind. */
  async abandon(): Promise<void> {
    await this.#file?.close().catch(() => undefined)
    if (this.#temporary === undefined) return
    await rm(this.#temporary, { force: true })
    temporaryFiles.forget(this.#temporary)
  }
}

const ZEROS = new Uint8Array(64 << 10)

/** Waits until the bytes are gone: the buffer is used again. */
function toStdout(bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(bytes, error => {
      if (error === null || error === undefined) resolve()
      else reject(error)
    })
  })
}

function failed(path: string, error: unknown): NydusError {
  return new NydusError('IMAGE_OUTPUT', 'EIO', `cannot write ${path}: ${explain(error)}`, { cause: error })
}

/** Runs `fill`, then gives the output its name; when it fails, nothing is left. */
export async function written<T>(path: string, fill: (output: Output) => Promise<T>): Promise<T> {
  const output = await Output.create(path)
  try {
    const result = await fill(output)
    await output.finish()
    return result
  } catch (error) {
    await output.abandon()
    throw error
  }
}
