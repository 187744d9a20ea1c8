/**
 * Blobs on a local disk: a device or file that is one blob, or a GPT disk with one blob per partition.
 *
 * A partition's name holds the first 32 characters of a blob id and its GUID the other 32. Partitions of the type
 * "basic data" are an older form, known by the name alone (blobs-and-cache.md §6).
 */
import { open, readFile, type FileHandle } from 'node:fs/promises'
import { checkBlobId } from '../base/blob-id.js'
import { explain, NydusError } from '../base/errors.js'
import type { Backend, BackendConfig, BlobReader, LocaldiskOptions, ReadOptions } from './backend.js'
import { type Partition, readGpt } from './gpt.js'
import { countRead, newBackendMetrics } from './metrics.js'
import { readFully } from './pread.js'

const BASIC_DATA = 'ebd0a0a2b9e5443387c068b6b72699c7'
/** Characters of a blob id in a partition's name. */
const NAME_LENGTH = 32
/** The kernel counts a block device in these, whatever its sectors are. */
const SYSFS_SECTOR = 512

export function openLocaldisk(config: Extract<BackendConfig, { type: 'localdisk' }>): Backend {
  const disk = new Disk(config.localdisk)
  return {
    type: 'localdisk',
    metrics: disk.metrics,
    open: blobId => new DiskBlob(disk, checkBlobId(blobId)),
    reconfigure() {},
    close: () => disk.close(),
  }
}

interface OpenDisk {
  readonly file: FileHandle
  readonly size: number
}

interface Extent {
  readonly file: FileHandle
  readonly offset: number
  readonly length: number
}

/** The device, opened at the first use; its partitions are looked at again when a blob was in none of them. */
class Disk {
  readonly metrics = newBackendMetrics()
  readonly #options: LocaldiskOptions
  #opening: Promise<OpenDisk> | undefined
  /** Resolves to undefined when the disk is one blob. */
  #scanning: Promise<Partition[] | undefined> | undefined
  #closed = false

  constructor(options: LocaldiskOptions) {
    this.#options = options
  }

  get path(): string {
    return this.#options.device_path
  }

  async find(blobId: string): Promise<Extent> {
    if (this.#closed) throw new NydusError('BACKEND_CLOSED', 'EIO', `blob ${blobId}: its backend was closed`)
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = undefined
      throw this.#failed('cannot be opened', error)
    })
    const disk = await this.#opening
    this.#scanning ??= this.#scan(disk).catch((error: unknown) => {
      this.#scanning = undefined
      throw this.#failed('cannot be read', error)
    })
    const partitions = await this.#scanning
    if (partitions === undefined) return { file: disk.file, offset: 0, length: disk.size }
    const found =
      partitions.find(one => one.name + one.guid === blobId) ??
      partitions.find(one => one.typeGuid === BASIC_DATA && one.name === blobId.slice(0, NAME_LENGTH))
    if (found !== undefined) return { file: disk.file, offset: found.offset, length: found.length }
    this.#scanning = undefined
    throw new NydusError(
      'BACKEND_BLOB_MISSING',
      'EIO',
      `blob ${blobId} is in none of the ${partitions.length} partitions of ${this.path}; write it to one that is ` +
        `named ${blobId.slice(0, NAME_LENGTH)}, or set disable_gpt when the whole device is the blob`,
    )
  }

  async close(): Promise<void> {
    this.#closed = true
    const disk = await this.#opening?.catch(() => undefined)
    await disk?.file.close()
  }

  async #open(): Promise<OpenDisk> {
    const file = await open(this.path, 'r')
    try {
      return { file, size: await sizeOf(file) }
    } catch (error) {
      await file.close()
      throw error
    }
  }

  async #scan({ file, size }: OpenDisk): Promise<Partition[] | undefined> {
    if (this.#options.disable_gpt) return undefined
    return await readGpt(async (offset, length) => {
      const into = new Uint8Array(length)
      await readFully(file, into, offset, this.path)
      return into
    }, size)
  }

  #failed(what: string, error: unknown): NydusError {
    return new NydusError(
      'BACKEND_DISK_FAILED',
      'EIO',
      `localdisk ${this.path} ${what}: ${explain(error)}; check backend.config.device_path`,
      { cause: error },
    )
  }
}

/** Bytes of a file or block device. */
async function sizeOf(file: FileHandle): Promise<number> {
  const stat = await file.stat()
  if (!stat.isBlockDevice()) return stat.size
  // Numbers of a device as glibc packs them: 12 bits of major above 8 of minor, the rest beyond.
  const device = BigInt(stat.rdev)
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn)
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffff_ff00n)
  const sectors = await readFile(`/sys/dev/block/${major}:${minor}/size`, 'utf8')
  return Number(sectors.trim()) * SYSFS_SECTOR
}

class DiskBlob implements BlobReader {
  readonly blobId: string
  readonly #disk: Disk

  constructor(disk: Disk, blobId: string) {
    this.#disk = disk
    this.blobId = blobId
  }

  async size(options?: ReadOptions): Promise<number> {
    return (await this.#find(options)).length
  }

  async read(into: Uint8Array, offset: number, options?: ReadOptions): Promise<void> {
    await countRead(this.#disk.metrics, into.byteLength, options?.signal, async () => {
      const extent = await this.#find(options)
      if (offset + into.byteLength > extent.length)
        throw new NydusError(
          'BACKEND_SHORT_READ',
          'EIO',
          `blob ${this.blobId}: ${into.byteLength} bytes at ${offset} wanted, but it has only ${extent.length} on ` +
            this.#disk.path,
        )
      await readFully(
        extent.file,
        into,
        extent.offset + offset,
        `blob ${this.blobId} on ${this.#disk.path}`,
        options?.signal,
      )
    })
  }

  async close(): Promise<void> {}

  async #find(options: ReadOptions | undefined): Promise<Extent> {
    options?.signal?.throwIfAborted()
    return await this.#disk.find(this.blobId)
  }
}
