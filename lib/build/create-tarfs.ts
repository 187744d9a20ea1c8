/**
 * Metadata over an untouched tar (`tar-tarfs`): a v6 image with blocks of 512 bytes, so that every file's data in the
 * archive starts at a block, and the tar itself is the blob. A kernel's EROFS mounts the two as they are.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { NydusError } from '../base/errors.js'
import { BLOB_FEATURE } from '../cache/cache.js'
import { V6_MAX_CHUNKS } from '../rafs/layout/v6.js'
import { hashed, openRaw, readArchive } from './archive.js'
import { BlobSink } from './blob-sink.js'
import { ByteSource } from './byte-source.js'
import { Chunks, DIGEST_SIZE } from './chunks.js'
import type { Created, CreateProgress } from './create.js'
import type { Place } from './place.js'
import type { BuiltBlob } from './image.js'
import { orderOf } from './order.js'
import { prefetchNodes } from './prefetch-list.js'
import { refuseSparse } from './ref-writer.js'
import type { TarEntry } from './tar-reader.js'
import type { Tree } from './tree.js'
import { writeV6 } from './writer-v6.js'

export interface TarfsOptions {
  readonly source: string
  readonly chunkSize: number
  /** Paths to prefetch, in the user's order; empty for none. */
  readonly prefetchPaths: readonly string[]
  readonly bootstrap: Place
}

const NO_DIGEST = new Uint8Array(DIGEST_SIZE)

/** A file's chunks: ranges of the tar, one behind the other. */
function addChunks(chunks: Chunks, tree: Tree, node: number, entry: TarEntry, chunkSize: number): void {
  const count = Math.ceil(entry.size / chunkSize)
  const list = chunks.startList(count)
  tree.setChunks(node, list, count)
  for (let i = 0; i < count; i++) {
    const offset = entry.dataOffset + i * chunkSize
    const size = Math.min(chunkSize, entry.size - i * chunkSize)
    const index = chunks.rows
    if (index >= V6_MAX_CHUNKS - 1)
      throw new NydusError(
        'BUILD_TOO_MANY_CHUNKS',
        'EFBIG',
        `the image would have more than ${V6_MAX_CHUNKS - 1} chunks; use a larger --chunk-size`,
      )
    const row = chunks.add({
      digest: NO_DIGEST,
      blob: 0,
      index,
      flags: 0,
      compressedOffset: offset,
      compressedSize: size,
      uncompressedOffset: offset,
      uncompressedSize: size,
      crc32: 0,
      window: 0,
      windowOffset: 0,
    })
    chunks.setListed(list + i, row)
  }
}

export async function createTarfs(options: TarfsOptions, progress: CreateProgress): Promise<Created> {
  const { format, pieces } = await openRaw(options.source)
  if (format !== 'plain')
    throw new NydusError(
      'BUILD_SOURCE',
      'EINVAL',
      `${options.source} is packed with ${format}: tar-tarfs serves the bytes of the archive itself; unpack it, or use --type targz-ref`,
    )
  const bytes = hashed(pieces, createHash('sha256'))
  const { file, folder } = { file: undefined, folder: undefined, ...options.bootstrap }
  const sink = await BlobSink.create(file ?? folder ?? '')
  try {
    const chunks = new Chunks()
    const source = new ByteSource(bytes.pieces)
    const tree = await readArchive(
      options.source,
      { bytes: source },
      {
        file(tree, node, entry) {
          refuseSparse(entry, options.source)
          addChunks(chunks, tree, node, entry, options.chunkSize)
          progress.stored(1, entry.size)
          return Promise.resolve()
        },
        found: entries => progress.found(entries),
      },
    )
    const { id, size } = bytes.identity()
    const blob: BuiltBlob = {
      id,
      chunkCount: chunks.rows,
      features: BLOB_FEATURE.TARFS | BLOB_FEATURE.CAP_TAR_TOC,
      compressor: 'none',
      digester: 'sha256',
      compressedSize: size,
      uncompressedSize: size,
      ci: { compressor: 'none', offset: 0, compressedSize: 0, uncompressedSize: 0 },
      readaheadSize: 0,
    }
    const order = orderOf(tree)
    await sink.write(
      writeV6({
        tree,
        order,
        chunks,
        blobs: chunks.rows === 0 ? [] : [blob],
        chunkSize: options.chunkSize,
        compressor: 'none',
        digester: 'sha256',
        prefetch: prefetchNodes(tree, options.prefetchPaths, options.source),
        encrypted: false,
        tarfs: true,
        xattrFlag: tree.hasXattrs,
      }),
    )
    const bootstrap = file ?? join(folder ?? '', sink.digest())
    await sink.finish(bootstrap)
    return {
      blobIds: chunks.rows === 0 ? [] : [id],
      externalIds: [],
      blob: undefined,
      blobSize: chunks.rows === 0 ? 0 : size,
      bootstrap,
      files: order.nodes.length,
      dedupChunks: 0,
      dedupBytes: 0,
      uncompressedSize: size,
    }
  } catch (error) {
    await sink.abandon()
    throw error
  }
}
