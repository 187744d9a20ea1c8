/**
 * `nydus-image check`: is this bootstrap one that every reader will accept? Walks the whole tree and looks at every
 * inode, name, target, xattr and chunk; with the blobs at hand, that they are there and of the size that the image says.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { NydusError } from '../base/errors.js'
import { BLOB_FEATURE, type BlobInfo } from '../cache/cache.js'
import { RafsImage } from '../rafs/image.js'
import { newAttr } from '../vfs/filesystem.js'
import { TYPE } from './tree.js'
import { Names, Pieces } from './load-image.js'

export interface CheckReport {
  readonly version: 5 | 6
  readonly blobs: readonly BlobInfo[]
  /** Names, hard links counted each. */
  readonly names: number
  readonly chunks: number
}

export interface CheckOptions {
  readonly bootstrap: string
  /** Folder of the blobs; undefined: they are not looked at. */
  readonly blobDir: string | undefined
  /** Called for every name, in index order. */
  readonly seen: (path: Buffer, ino: number, type: number) => void
}

function damaged(bootstrap: string, path: Buffer, ino: number, what: string): NydusError {
  return new NydusError(
    'RAFS_BAD_INODE',
    'EIO',
    `${bootstrap}: ${path.toString()} (inode ${ino}): ${what} is damaged`,
  )
}

export async function checkImage(options: CheckOptions): Promise<CheckReport> {
  const image = await RafsImage.open({ path: options.bootstrap, xattrs: true, validate: true })
  try {
    const attr = newAttr()
    const lengths = image.blobs.map(blob => blob.uncompressedSize)
    let names = 0
    let chunks = 0
    const done = new Set<number>()
    for (const { path, ino, type } of image.walk()) {
      names++
      options.seen(path, ino, type)
      if (done.has(ino)) continue
      done.add(ino)
      if (image.reader.getattr(ino, attr) !== 0) throw damaged(options.bootstrap, path, ino, 'its record')
      if (type === TYPE.LNK && image.reader.readlink(ino, new Pieces()) < 0)
        throw damaged(options.bootstrap, path, ino, 'its target')
      if (image.reader.listxattr(ino, new Names()) < 0)
        throw damaged(options.bootstrap, path, ino, 'its xattr list')
      for (const chunk of image.chunks(ino)) {
        chunks++
        const end = chunk.want.uncompressedOffset + chunk.want.uncompressedSize
        const length = lengths[chunk.blob] ?? 0
        if (length > 0 && end > length)
          throw damaged(
            options.bootstrap,
            path,
            ino,
            `a chunk (it ends at ${end}, blob ${chunk.blob} has ${length} bytes)`,
          )
      }
    }
    if (options.blobDir !== undefined) for (const blob of image.blobs) await checkBlob(blob, options.blobDir)
    return { version: image.version, blobs: image.blobs, names, chunks }
  } finally {
    await image.close()
  }
}

async function checkBlob(blob: BlobInfo, folder: string): Promise<void> {
  const path = join(folder, blob.id)
  const found = await stat(path).catch(() => undefined)
  if (found === undefined)
    throw new NydusError(
      'BLOB_MISSING',
      'ENOENT',
      `blob ${blob.id} is not in ${folder}: give the folder that has it with --blob-dir`,
    )
  // The size that the image knows of an inlined blob is where its bootstrap starts.
  if (blob.compressedSize > 0 && found.size < blob.compressedSize)
    throw new NydusError(
      'BLOB_TRUNCATED',
      'EIO',
      `${path} has ${found.size} bytes, the image says ${blob.compressedSize}: it is truncated`,
    )
}

const FEATURE_WORDS: readonly [keyof typeof BLOB_FEATURE, string][] = [
  ['ALIGNED', 'aligned'],
  ['INLINED_FS_META', 'fs_meta'],
  ['CHUNK_INFO_V2', 'chunk_v2'],
  ['ZRAN', 'zran'],
  ['SEPARATE', 'separate'],
  ['INLINED_CHUNK_DIGEST', 'chunk_digest'],
  ['TARFS', 'tarfs'],
  ['BATCH', 'batch'],
  ['ENCRYPTED', 'encrypted'],
  ['HAS_TAR_HEADER', 'tar_header'],
  ['HAS_TOC', 'toc'],
  ['CAP_TAR_TOC', 'cap_toc'],
]

/** The features of a blob in words. */
export function featureWords(features: number): string {
  return FEATURE_WORDS.filter(([bit]) => (features & BLOB_FEATURE[bit]) !== 0)
    .map(([, word]) => word)
    .join(' ')
}
