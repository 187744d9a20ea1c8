/**
 * `nydus-image chunkdict`: from images that exist to a dictionary of the chunks that several of them have. A
 * dictionary is a bootstrap whose files are such chunks, one each, named by their digests; its blobs are those of the
 * images, so nothing is copied. `create --chunk-dict` refers to what is in it.
 */
import { basename, dirname, resolve } from 'node:path'
import { NydusError } from '../base/errors.js'
import { Chunks } from '../build/chunks.js'
import { hasFeature, type BuiltBlob } from '../build/image.js'
import { loadImage, type LoadedImage } from '../build/load-image.js'
import { usedBlobs } from '../build/merge.js'
import { orderOf } from '../build/order.js'
import { ROOT, Tree, TYPE } from '../build/tree.js'
import { writeV5 } from '../build/writer-v5.js'
import { writeV6 } from '../build/writer-v6.js'
import { BLOB_FEATURE, type Compressor } from '../cache/cache.js'
import { RAFS_FLAG } from '../rafs/layout/flags.js'
import { ChunkDatabase, chunkKey, type StoredChunk } from './chunk-database.js'
import { written } from './output.js'

export interface DictSource {
  readonly name: string
  readonly tag: string
  readonly path: string
}

/** The folder of a bootstrap says whose it is: `image:tag`. Throws CLI_USAGE. */
export function dictSource(path: string): DictSource {
  const folder = basename(dirname(resolve(path)))
  const colon = folder.lastIndexOf(':')
  if (colon <= 0 || colon === folder.length - 1)
    throw new NydusError(
      'CLI_USAGE',
      'EINVAL',
      `${path} lies in a folder called ${folder}: it must be called after the image, name:tag`,
    )
  return { path, name: folder.slice(0, colon), tag: folder.slice(colon + 1) }
}

interface Loaded {
  readonly source: DictSource
  readonly image: LoadedImage
}

/** Loads all into the same rows; they must fit together. */
async function loadAll(sources: readonly DictSource[], chunks: Chunks): Promise<Loaded[]> {
  const out: Loaded[] = []
  let blobs = 0
  for (const source of sources) {
    const image = await loadImage(source.path, chunks, blobs)
    blobs += image.blobs.length
    const first = out[0]?.image
    if (first !== undefined && (first.version !== image.version || first.chunkSize !== image.chunkSize))
      throw new NydusError(
        'BUILD_MISMATCH',
        'EINVAL',
        `${first.path} is RAFS v${first.version} with chunks of ${first.chunkSize} bytes, ` +
          `${image.path} is v${image.version} with ${image.chunkSize}: one dictionary cannot hold both`,
      )
    if (first !== undefined && (first.flags & CODING) !== (image.flags & CODING))
      throw new NydusError(
        'BUILD_MISMATCH',
        'EINVAL',
        `${first.path} and ${image.path} have different compressors or digesters: one dictionary cannot hold both`,
      )
    out.push({ source, image })
  }
  return out
}

const CODING =
  RAFS_FLAG.COMPRESSION_NONE |
  RAFS_FLAG.COMPRESSION_LZ4 |
  RAFS_FLAG.COMPRESSION_GZIP |
  RAFS_FLAG.COMPRESSION_ZSTD |
  RAFS_FLAG.DIGEST_BLAKE3 |
  RAFS_FLAG.DIGEST_SHA256

/** Chunks in archives of others, or ranges of a tar without a digest, are no chunks for a dictionary. */
function isUsable(blob: BuiltBlob | undefined): blob is BuiltBlob {
  return (
    blob !== undefined &&
    !hasFeature(blob, 'SEPARATE') &&
    !hasFeature(blob, 'TARFS') &&
    !hasFeature(blob, 'EXTERNAL')
  )
}

function storedChunks({ image }: Loaded, chunks: Chunks): { row: number; chunk: StoredChunk }[] {
  const out: { row: number; chunk: StoredChunk }[] = []
  for (const row of image.rows) {
    const { blob, digest, index, compressedSize, uncompressedSize } = chunks.get(row)
    const of = image.blobs[blob - image.firstBlob]
    if (isUsable(of))
      out.push({
        row,
        chunk: {
          digest: Buffer.from(digest).toString('hex'),
          uncompressedSize,
          blobId: of.id,
          index,
          compressedSize,
        },
      })
  }
  return out
}

/** Notes the chunks of images in the database. Throws NydusError RAFS_*, CHUNKDICT_DATABASE. */
export async function saveChunks(sources: readonly DictSource[], database: string): Promise<void> {
  const db = await ChunkDatabase.open(database)
  try {
    for (const source of sources) {
      const chunks = new Chunks()
      const loaded: Loaded = { source, image: await loadImage(source.path, chunks, 0) }
      db.save(
        source.name,
        source.tag,
        storedChunks(loaded, chunks).map(({ chunk }) => chunk),
      )
    }
    await db.write()
  } finally {
    db.close()
  }
}

export interface GeneratedDict {
  readonly chunks: number
  readonly blobIds: readonly string[]
  readonly version: 5 | 6
  readonly compressor: Compressor
}

/** Saves the images, then writes the dictionary of what they share with each other or with those saved before. */
export async function generateDict(
  sources: readonly DictSource[],
  database: string,
  bootstrap: string,
): Promise<GeneratedDict> {
  const chunks = new Chunks()
  const loaded = await loadAll(sources, chunks)
  const [first] = loaded
  if (first === undefined) throw new NydusError('CLI_USAGE', 'EINVAL', 'no source was given')
  const db = await ChunkDatabase.open(database)
  try {
    const found = loaded.map(one => storedChunks(one, chunks))
    for (const [i, { source }] of loaded.entries())
      db.save(
        source.name,
        source.tag,
        (found[i] ?? []).map(({ chunk }) => chunk),
      )
    const shared = db.shared()
    const rows = new Map<string, { row: number; digest: string }>()
    for (const { row, chunk } of found.flat()) {
      const key = chunkKey(chunk.digest, chunk.uncompressedSize)
      if (shared.has(key) && !rows.has(key)) rows.set(key, { row, digest: chunk.digest })
    }
    const result = await writeDict(first.image, loaded, chunks, [...rows.values()], bootstrap)
    await db.write()
    return result
  } finally {
    db.close()
  }
}

const STAT = { uid: 0, gid: 0, mtime: 0, mtimeNs: 0, rdev: 0 }

async function writeDict(
  first: LoadedImage,
  loaded: readonly Loaded[],
  chunks: Chunks,
  rows: readonly { row: number; digest: string }[],
  bootstrap: string,
): Promise<GeneratedDict> {
  const tree = new Tree({ ...STAT, mode: TYPE.DIR | 0o755, size: 0 })
  const names = new Set<string>()
  for (const { row, digest } of rows) {
    const size = chunks.uncompressedSize(row)
    // Two chunks of one digest and different sizes would be a collision; a name for each all the same.
    const name = names.has(digest) ? `${digest}.${size}` : digest
    names.add(name)
    const node = tree.add(ROOT, Buffer.from(name), { ...STAT, mode: TYPE.REG | 0o444, size })
    const list = chunks.startList(1)
    chunks.setListed(list, row)
    tree.setChunks(node, list, 1)
  }
  const order = orderOf(tree)
  const blobs = loaded
    .flatMap(({ image }) => image.blobs)
    .map(blob => ({ ...blob, features: (blob.features & ~BLOB_FEATURE.INLINED_FS_META) >>> 0 }))
  const used = usedBlobs(tree, order, chunks, blobs)
  const compressor = used[0]?.compressor ?? 'none'
  const bytes = (first.version === 5 ? writeV5 : writeV6)({
    tree,
    order,
    chunks,
    blobs: used,
    chunkSize: first.chunkSize,
    compressor,
    digester: (first.flags & RAFS_FLAG.DIGEST_SHA256) !== 0 ? 'sha256' : 'blake3',
    prefetch: [],
    encrypted: used.some(blob => hasFeature(blob, 'ENCRYPTED')),
    xattrFlag: false,
  })
  await written(bootstrap, output => output.write(bytes))
  return { chunks: rows.length, blobIds: used.map(({ id }) => id), version: first.version, compressor }
}
