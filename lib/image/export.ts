/**
 * `nydus-image export --block`: a disk that the kernel's EROFS mounts by itself. A v6 bootstrap is an EROFS image
 * whose files lie on other devices; those are put behind it, where their device slots say (rafs-v6.md §4).
 *
 *     disk: bootstrap · [512 KiB border] plain blob 0 · [border] plain blob 1 · … · [verity tree]
 */
import type { Backend } from '../backend/backend.js'
import { NydusError } from '../base/errors.js'
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

/** Every chunk that a file uses, once, in the order of files. */
function* usedChunks(image: RafsImage): Generator<Wanted<{ path: Buffer; chunk: FileChunk }>> {
  /** By blob: places that were seen, one bit for each block. */
  const seen = image.blobs.map(
    ({ uncompressedSize }) => new Uint8Array(Math.ceil(uncompressedSize / SEEN_UNIT / 8) + 1),
  )
  for (const { path, ino, type } of image.walk()) {
    if (type !== TYPE.REG) continue
    for (const chunk of image.chunks(ino)) {
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

/** Throws NydusError EXPORT_VERSION, RAFS_*, IMAGE_*, BACKEND_*. */
export async function exportImage(
  image: RafsImage,
  backend: Backend,
  output: Output,
  verity: boolean,
  progress: ExportProgress,
): Promise<Exported> {
  if (image.version !== 6)
    throw new NydusError(
      'EXPORT_VERSION',
      'EINVAL',
      'the image is RAFS v5, which no kernel mounts: export needs v6 (nydus-image create --fs-version 6)',
    )
  const { places, end } = placesOf(image)
  const content = new Content(image, backend)
  try {
    await copyBootstrap(image, places, output)
    for await (const { tag, bytes } of content.read(usedChunks(image), ({ path }) => path.toString())) {
      const start = places[tag.chunk.blob]?.start ?? 0
      await output.writeAt(bytes, start + tag.chunk.want.uncompressedOffset)
      progress.stored(0, bytes.length)
    }
    await output.setLength(end)
    return { size: end, verity: verity ? await appendVerity(output, end) : undefined }
  } finally {
    await content.close()
  }
}
