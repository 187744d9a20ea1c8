/**
 * `nydus-image export --block`: a disk that the kernel's EROFS mounts by itself. A v6 bootstrap is an EROFS image
 * whose files lie on other devices; those are put behind it, where their device slots say (rafs-v6.md §4).
 *
 *     disk: bootstrap · [512 KiB border] plain blob 0 · [border] plain blob 1 · … · [verity tree]
 */
import { Worker } from 'node:worker_threads'
import type { Backend, BackendConfig } from '../backend/backend.js'
import { NydusError, type Code, type Errno } from '../base/errors.js'
import { workerEntry } from '../base/program-files.js'
import { TYPE } from '../build/tree.js'
import type { FileChunk, RafsImage } from '../rafs/image.js'
import { DeviceSlotV6, SuperblockV6, V6_SUPERBLOCK_OFFSET } from '../rafs/layout/v6.js'
import { Content, type Wanted } from './content.js'
import type { Output } from './output.js'
import { appendVerity, type Verity, VERITY_BLOCK } from './verity.js'

/** Each blob starts at a multiple of this many bytes. */
const BLOB_BORDER = 0x80000
/** Bytes of the bootstrap that are copied at once. */
const PIECE = 1 << 20

export interface Exported {
  /** Bytes of the file system. */
  readonly size: number
  readonly verity: Verity | undefined
}

export interface ExportProgress {
  stored(files: number, bytes: number): void
}

interface Place {
  /** Byte offset on the disk. */
  readonly start: number
  readonly size: number
}

/** Where each blob goes, and the end of the last. */
function placesOf(image: RafsImage): { places: Place[]; end: number } {
  let end = image.bootstrapLength
  const places = image.blobs.map(({ uncompressedSize }) => {
    const start = Math.ceil(end / BLOB_BORDER) * BLOB_BORDER
    end = start + uncompressedSize
    return { start, size: uncompressedSize }
  })
  return { places, end: Math.ceil(end / VERITY_BLOCK) * VERITY_BLOCK }
}

/** The bootstrap, its device slots saying what is true of this disk. */
async function copyBootstrap(image: RafsImage, places: readonly Place[], output: Output): Promise<void> {
  const { bootstrapLength } = image
  for (let at = 0; at < bootstrapLength; at += PIECE)
    await output.writeAt(image.bytes(at, Math.min(PIECE, bootstrapLength - at)), at)
  const blockSize = 2 ** SuperblockV6.read(image.bytes(V6_SUPERBLOCK_OFFSET, SuperblockV6.size)).blkszbits
  for (const [i, place] of places.entries()) {
    const offset = image.facts.blob_device_table_offset + i * DeviceSlotV6.size
    const slot = new Uint8Array(DeviceSlotV6.size)
    DeviceSlotV6.write(slot, {
      ...DeviceSlotV6.read(image.bytes(offset, DeviceSlotV6.size)),
      blocks: Math.floor(place.size / blockSize),
      mappedBlkaddr: place.start / blockSize,
    })
    await output.writeAt(slot, offset)
  }
}

/** A part of the work: the stripes of all blobs whose number leaves the remainder `part` when divided by `of`. */
export interface Share {
  readonly part: number
  readonly of: number
}

/** Bytes of a stripe: what lies close together in a blob is read in one request by one thread. */
const STRIPE = 4 << 20

/** Every chunk of a share that a file uses, once, in the order of files. */
function* usedChunks(image: RafsImage, share: Share): Generator<Wanted<{ path: Buffer; chunk: FileChunk }>> {
  /** By blob: places that were seen, one bit for each block. */
  const seen = image.blobs.map(
    ({ uncompressedSize }) => new Uint8Array(Math.ceil(uncompressedSize / SEEN_UNIT / 8) + 1),
  )
  for (const { path, ino, type } of image.walk()) {
    if (type !== TYPE.REG) continue
    for (const chunk of image.chunks(ino)) {
      if (Math.floor(chunk.want.uncompressedOffset / STRIPE) % share.of !== share.part) continue
      const unit = chunk.want.uncompressedOffset / SEEN_UNIT
      const bits = seen[chunk.blob]
      const byte = bits?.[unit >>> 3] ?? 0
      if (bits === undefined || (byte & (1 << (unit & 7))) !== 0) continue
      bits[unit >>> 3] = byte | (1 << (unit & 7))
      yield { tag: { path, chunk }, chunk }
    }
  }
}

/** Chunks start at multiples of a block: 512 bytes in tarfs images. */
const SEEN_UNIT = 512

/** Brings the chunks of a share to where their blob starts on the disk, `starts` by blob. Throws RAFS_*, IMAGE_*, BACKEND_*. */
export async function copyChunks(
  image: RafsImage,
  backend: Backend,
  starts: readonly number[],
  share: Share,
  put: (bytes: Uint8Array, position: number) => Promise<void>,
): Promise<void> {
  const content = new Content(image, backend)
  try {
    for await (const { tag, bytes } of content.read(usedChunks(image, share), ({ path }) => path.toString()))
      await put(bytes, (starts[tag.chunk.blob] ?? 0) + tag.chunk.want.uncompressedOffset)
  } finally {
    await content.close()
  }
}

/** What threads of the export need to do it by themselves. */
export interface Threads {
  readonly count: number
  readonly bootstrap: string
  readonly backend: BackendConfig
}

/** What the program of a thread is given: `fd` is the disk's, which all of the process share. */
export interface ExportTask extends Omit<Threads, 'count'> {
  readonly fd: number
  readonly starts: readonly number[]
  readonly share: Share
}

/** What it says: bytes that it wrote, or why it failed. */
export type ExportSaid =
  { readonly stored: number } | { readonly code: Code; readonly errno: Errno; readonly message: string }

/** Resolves when the thread has done its share. */
function runThread(task: ExportTask, progress: ExportProgress, workers: Worker[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(workerEntry('image/export-worker'), { workerData: task, execArgv: [] })
    workers.push(worker)
    worker.on('message', (said: ExportSaid) => {
      if ('stored' in said) progress.stored(0, said.stored)
      else reject(new NydusError(said.code, said.errno, said.message))
    })
    worker.on('error', reject)
    worker.on('exit', code => {
      if (code === 0) resolve()
      else reject(new NydusError('EXPORT_THREAD', 'EIO', `a thread of the export ended with code ${code}`))
    })
  })
}

async function runThreads(
  threads: Threads,
  fd: number,
  starts: readonly number[],
  progress: ExportProgress,
): Promise<void> {
  const { count, bootstrap, backend } = threads
  const workers: Worker[] = []
  const tasks = Array.from({ length: count }, (_, part) =>
    runThread({ bootstrap, backend, fd, starts, share: { part, of: count } }, progress, workers),
  )
  try {
    await Promise.all(tasks)
  } finally {
    // The first failure ends the others: they must not write into a file that is closed.
    await Promise.all(workers.map(worker => worker.terminate()))
  }
}

/**
 * With `threads`, as many as are worth their start read and decode side by side. Throws NydusError EXPORT_VERSION, RAFS_*,
 * IMAGE_*, BACKEND_*.
 */
export async function exportImage(
  image: RafsImage,
  backend: Backend,
  output: Output,
  verity: boolean,
  progress: ExportProgress,
  threads?: Threads,
): Promise<Exported> {
  if (image.version !== 6)
    throw new NydusError(
      'EXPORT_VERSION',
      'EINVAL',
      'the image is RAFS v5, which no kernel mounts: export needs v6 (nydus-image create --fs-version 6)',
    )
  const { places, end } = placesOf(image)
  const starts = places.map(({ start }) => start)
  await copyBootstrap(image, places, output)
  const stripes = places.reduce((sum, { size }) => sum + Math.ceil(size / STRIPE), 0)
  const count = Math.min(threads?.count ?? 1, stripes)
  if (threads !== undefined && count > 1) await runThreads({ ...threads, count }, output.fd, starts, progress)
  else
    await copyChunks(image, backend, starts, { part: 0, of: 1 }, async (bytes, position) => {
      await output.writeAt(bytes, position)
      progress.stored(0, bytes.length)
    })
  await output.setLength(end)
  return { size: end, verity: verity ? await appendVerity(output, end) : undefined }
}
