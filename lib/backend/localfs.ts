/**
 * Blobs as files of this machine: `blob_file`, or `dir/<id>`, or the first of `alt_dirs` that holds one.
 *
 * The file is opened at the first read and stays open; it is looked up again after any failure and when the
 * caller says that the bytes were wrong, so a blob that is delivered late, replaced or repaired is found.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { checkBlobId } from '../base/blob-id.js'
import { NydusError } from '../base/errors.js'
import type { Backend, BackendConfig, BlobReader, LocalfsOptions, ReadOptions } from './backend.js'
import { countRead, newBackendMetrics } from './metrics.js'
import { readFully } from './pread.js'

export function openLocalfs(config: Extract<BackendConfig, { type: 'localfs' }>): Backend {
  const options = config.localfs
  if (options.blob_file === '' && options.dir === '')
    throw new NydusError(
      'BACKEND_CONFIG',
      'EINVAL',
      'backend localfs: neither blob_file nor dir is set; name the folder that holds the blobs in dir',
    )
  const metrics = newBackendMetrics()
  return {
    type: 'localfs',
    metrics,
    open: blobId => new LocalBlob(checkBlobId(blobId), options, metrics),
    reconfigure() {},
    async close() {},
  }
}

/** Paths where a blob may lie, in the order in which they are tried. */
function candidates(options: LocalfsOptions, blobId: string): string[] {
  if (options.blob_file !== '') return [options.blob_file]
  return [options.dir, ...options.alt_dirs].map(dir => join(dir, blobId))
}

interface OpenBlob {
  readonly file: FileHandle
  readonly path: string
  /** Bytes of the file when it was opened. */
  readonly size: number
  /** Reads that use `file`; the last one closes it when the blob has moved on to another. */
  users: number
}

class LocalBlob implements BlobReader {
  readonly blobId: string
  readonly #options: LocalfsOptions
  readonly #metrics: Backend['metrics']
  #opening: Promise<void> | undefined
  #current: OpenBlob | undefined
  #closed = false

  constructor(blobId: string, options: LocalfsOptions, metrics: Backend['metrics']) {
    this.blobId = blobId
    this.#options = options
    this.#metrics = metrics
  }

  async size(options?: ReadOptions): Promise<number> {
    options?.signal?.throwIfAborted()
    return await this.#use(options, async blob => blob.size)
  }

  async read(into: Uint8Array, offset: number, options?: ReadOptions): Promise<void> {
    await countRead(this.#metrics, into.byteLength, options?.signal, async () => {
      options?.signal?.throwIfAborted()
      await this.#use(options, blob =>
        readFully(blob.file, into, offset, `blob ${this.blobId} in ${blob.path}`, options?.signal),
      )
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#drop(this.#current)
  }

  /** Runs `work` on the open file; any failure makes the next use look the file up again. */
  async #use<T>(options: ReadOptions | undefined, work: (blob: OpenBlob) => Promise<T>): Promise<T> {
    if (options?.fresh === true) await this.#drop(this.#current)
    let blob = this.#current
    while (blob === undefined) {
      await this.#open()
      blob = this.#current
    }
    blob.users++
    try {
      return await work(blob)
    } catch (error) {
      if (options?.signal?.aborted !== true && this.#current === blob) this.#current = undefined
      throw error
    } finally {
      blob.users--
      if (this.#current !== blob && blob.users === 0) await blob.file.close()
    }
  }

  async #drop(blob: OpenBlob | undefined): Promise<void> {
    if (blob === undefined || this.#current !== blob) return
    this.#current = undefined
    if (blob.users === 0) await blob.file.close()
  }

  #open(): Promise<void> {
    this.#opening ??= this.#find().finally(() => {
      this.#opening = undefined
    })
    return this.#opening
  }

  async #find(): Promise<void> {
    const seen: string[] = []
    const paths = candidates(this.#options, this.blobId)
    for (const [i, path] of paths.entries()) {
      let file: FileHandle
      try {
        file = await open(path, 'r')
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
        seen.push(`${path} (${code === 'ENOENT' ? 'missing' : code})`)
        continue
      }
      const stat = await file.stat()
      const usable = !stat.isDirectory() && (stat.size > 0 || (i === 0 && paths.length === 1))
      if (usable && !this.#closed) {
        this.#current = { file, path, size: stat.size, users: 0 }
        return
      }
      await file.close()
      if (this.#closed)
        throw new NydusError('BACKEND_CLOSED', 'EIO', `blob ${this.blobId}: its backend was closed`)
      seen.push(`${path} (${stat.isDirectory() ? 'is a folder' : 'empty'})`)
    }
    throw new NydusError(
      'BACKEND_BLOB_MISSING',
      'EIO',
      `blob ${this.blobId} is in none of the places that the localfs backend knows: ${seen.join(', ')}; ` +
        'put the blob there or correct backend.config.dir',
    )
  }
}
