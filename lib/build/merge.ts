/**
 * `nydus-image merge`: the bootstraps of an image's layers, lowest first, become one (blobs-and-cache.md §8). No blob is
 * read: what the layers' blobs hold is in their bootstraps.
 */
import { basename } from 'node:path'
import { NydusError } from '../base/errors.js'
import { BLOB_FEATURE, type Compressor } from '../cache/cache.js'
import { RAFS_FLAG } from '../rafs/layout/flags.js'
import { BlobSink } from './blob-sink.js'
import { Chunks } from './chunks.js'
import { hasFeature, type BuiltBlob } from './image.js'
import { loadImage, type LoadedImage } from './load-image.js'
import { compressorOf, digesterOf } from './lower-layers.js'
import { orderOf, type Order } from './order.js'
import { overlay } from './overlay.js'
import { prefetchNodes } from './prefetch-list.js'
import { TYPE, type Tree } from './tree.js'
import { writeV5 } from './writer-v5.js'
import { writeV6 } from './writer-v6.js'

export interface MergeOptions {
  /** Bootstraps, or blobs with inlined ones, lowest layer first. */
  readonly sources: readonly string[]
  readonly parent: string | undefined
  readonly chunkDict: string | undefined
  readonly bootstrap: string
  /** One value for each source, each list empty when it was not given. */
  readonly blobDigests: readonly string[]
  readonly originalBlobIds: readonly string[]
  readonly blobSizes: readonly number[]
  readonly tocDigests: readonly string[]
  readonly tocSizes: readonly number[]
  readonly prefetchPaths: readonly string[]
}

export interface Merged {
  readonly blobIds: readonly string[]
  readonly files: number
  readonly version: 5 | 6
  readonly compressor: Compressor
}

function checkLists(options: MergeOptions): void {
  const lists: readonly [string, readonly unknown[]][] = [
    ['--blob-digests', options.blobDigests],
    ['--original-blob-ids', options.originalBlobIds],
    ['--blob-sizes', options.blobSizes],
    ['--blob-toc-digests', options.tocDigests],
    ['--blob-toc-sizes', options.tocSizes],
  ]
  for (const [name, list] of lists)
    if (list.length !== 0 && list.length !== options.sources.length)
      throw new NydusError(
        'CLI_USAGE',
        'EINVAL',
        `${name} has ${list.length} values for ${options.sources.length} sources: one for each is wanted`,
      )
}

/** Both must be the same for images that become one. */
function checkSame(first: LoadedImage, other: LoadedImage): void {
  if (first.version !== other.version)
    throw new NydusError(
      'BUILD_INCONSISTENT',
      'EINVAL',
      `Inconsistent RAFS Filesystem: ${first.path} is v${first.version}, ${other.path} is v${other.version}`,
    )
  if (first.chunkSize !== other.chunkSize)
    throw new NydusError(
      'BUILD_MISMATCH',
      'EINVAL',
      `Inconsistent RAFS Filesystem: ${first.path} has chunks of ${first.chunkSize} bytes, ${other.path} of ${other.chunkSize}`,
    )
}

/** File name up to the first dot: the id of the blob that belongs to a layer's bootstrap. */
function stem(path: string): string {
  return basename(path).split('.')[0] ?? ''
}

/** The source's own blob under the name and with the figures that it has where it is stored. */
function renamed(blob: BuiltBlob, source: string, i: number, options: MergeOptions): BuiltBlob {
  const separate = hasFeature(blob, 'SEPARATE')
  const digest = options.blobDigests[i]
  const size = options.blobSizes[i]
  const toc =
    options.tocDigests[i] !== undefined || options.tocSizes[i] !== undefined
      ? { size: options.tocSizes[i] ?? 0, digest: Buffer.from(options.tocDigests[i] ?? '', 'hex') }
      : blob.toc
  const id = options.originalBlobIds[i] ?? (separate ? undefined : digest) ?? stem(source)
  return {
    ...blob,
    id,
    features: (blob.features & ~BLOB_FEATURE.INLINED_FS_META) >>> 0,
    compressedSize: separate ? blob.compressedSize : (size ?? blob.compressedSize),
    ...(toc === undefined ? {} : { toc }),
    ...(separate && blob.meta !== undefined
      ? {
          meta: {
            digest: digest === undefined ? blob.meta.digest : Buffer.from(digest, 'hex'),
            size: size ?? blob.meta.size,
          },
        }
      : {}),
  }
}

/** Blobs that files refer to, in the order in which they first do; numbers of all chunk rows follow. */
export function usedBlobs(
  tree: Tree,
  order: Order,
  chunks: Chunks,
  blobs: readonly (BuiltBlob | undefined)[],
): BuiltBlob[] {
  const out: BuiltBlob[] = []
  const number = new Map<number, number>()
  const done = new Uint8Array(chunks.rows)
  for (const node of order.nodes) {
    if (tree.type(node) !== TYPE.REG) continue
    const start = tree.chunkStart(node)
    for (let at = start; at < start + tree.chunkCount(node); at++) {
      const row = chunks.listed(at)
      if (done[row] === 1) continue
      done[row] = 1
      const old = chunks.blob(row)
      let now = number.get(old)
      if (now === undefined) {
        const blob = blobs[old]
        if (blob === undefined) throw new RangeError(`chunk row ${row} is in blob ${old} of ${blobs.length}`)
        now = out.length
        number.set(old, now)
        out.push(blob)
      }
      chunks.setBlob(row, now)
    }
  }
  return out
}

export async function mergeImages(options: MergeOptions): Promise<Merged> {
  checkLists(options)
  const chunks = new Chunks()
  const blobs: BuiltBlob[] = []
  const dict = new Set<string>()
  if (options.chunkDict !== undefined)
    for (const blob of (await loadImage(options.chunkDict, new Chunks(), 0)).blobs) dict.add(blob.id)

  let base: LoadedImage | undefined
  let tree: Tree | undefined
  let last: LoadedImage | undefined
  const add = (image: LoadedImage, own: readonly BuiltBlob[]): void => {
    if (base !== undefined) checkSame(base, image)
    base ??= image
    last = image
    blobs.push(...own)
    if (tree === undefined) tree = image.tree
    else overlay(tree, image.tree, 'oci')
  }
  if (options.parent !== undefined) {
    const parent = await loadImage(options.parent, chunks, 0)
    add(parent, parent.blobs)
  }
  for (const [i, source] of options.sources.entries()) {
    const image = await loadImage(source, chunks, blobs.length)
    const own = image.blobs.filter(blob => !dict.has(blob.id))
    if (own.length > 1)
      throw new NydusError(
        'BUILD_MISMATCH',
        'EINVAL',
        `${source} has ${own.length} blobs of its own; a layer to merge has one at most, all others must be in --chunk-dict`,
      )
    add(
      image,
      image.blobs.map(blob => (dict.has(blob.id) ? blob : renamed(blob, source, i, options))),
    )
  }
  if (tree === undefined || last === undefined)
    throw new NydusError('CLI_USAGE', 'EINVAL', 'no source was given')

  const order = orderOf(tree)
  const used = usedBlobs(tree, order, chunks, blobs)
  const write = last.version === 5 ? writeV5 : writeV6
  const compressor = compressorOf(last.flags)
  const bytes = write({
    tree,
    order,
    chunks,
    blobs: used,
    chunkSize: last.chunkSize,
    compressor,
    digester: digesterOf(last.flags),
    prefetch: prefetchNodes(tree, options.prefetchPaths, ''),
    encrypted: (last.flags & RAFS_FLAG.ENCRYPTION_AES_128_XTS) !== 0,
    // The reference builder sets the flag in merged v6 images whether or not there are xattrs.
    xattrFlag: last.version === 6,
  })
  const sink = await BlobSink.create(options.bootstrap)
  try {
    await sink.write(bytes)
    await sink.finish()
  } catch (error) {
    await sink.abandon()
    throw error
  }
  return { blobIds: used.map(blob => blob.id), files: order.nodes.length, version: last.version, compressor }
}
