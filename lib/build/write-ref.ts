/** Writes an image that refers to somebody else's file: the meta blob with its chunk information, and the bootstrap. */
import { join } from 'node:path'
import { BlobSink } from './blob-sink.js'
import type { Chunks } from './chunks.js'
import type { Created, Place } from './create.js'
import { finishBlob } from './finish-blob.js'
import type { BuiltBlob, BuiltImage } from './image.js'
import { orderOf } from './order.js'
import { prefetchNodes } from './prefetch-list.js'
import type { RefWriter } from './ref-writer.js'
import type { Tree } from './tree.js'
import { writeV6 } from './writer-v6.js'

export interface RefOptions {
  readonly source: string
  readonly chunkSize: number
  readonly toc: boolean
  readonly inlineMeta: boolean
  /** Paths to prefetch, in the user's order; empty for none. */
  readonly prefetchPaths: readonly string[]
  /** Final place of the meta blob. */
  readonly blob: Place
  /** Final place of the bootstrap; undefined with `inlineMeta`. */
  readonly bootstrap: Place | undefined
}

function pathOf(place: Place): string {
  return 'file' in place ? place.file : place.folder
}

function placed(place: Place, name: string): string {
  return 'file' in place ? place.file : join(place.folder, name)
}

/** `writer` has all chunks and knows the file that they are in. */
export async function writeReference(options: RefOptions, tree: Tree, chunks: Chunks, writer: RefWriter): Promise<Created> {
  const order = orderOf(tree)
  const prefetch = prefetchNodes(tree, options.prefetchPaths, options.source)
  const bootstrapOf = (blob: BuiltBlob | undefined): Uint8Array => {
    const image: BuiltImage = {
      tree,
      order,
      chunks,
      blobs: blob === undefined ? [] : [blob],
      chunkSize: options.chunkSize,
      compressor: 'gzip',
      digester: 'sha256',
      prefetch,
      encrypted: false,
      xattrFlag: tree.hasXattrs,
    }
    return writeV6(image)
  }
  const hasData = writer.rows.length > 0
  const sink = await BlobSink.create(pathOf(options.blob))
  let bootstrapSink: BlobSink | undefined
  try {
    const finished = await finishBlob(
      sink,
      writer,
      chunks,
      {
        version: 6,
        compressor: 'gzip',
        digester: 'sha256',
        aligned: true,
        toc: options.toc,
        inlineMeta: options.inlineMeta,
        cipher: undefined,
        readaheadSize: 0,
      },
      options.inlineMeta ? bootstrapOf : undefined,
    )
    if (options.bootstrap !== undefined) {
      bootstrapSink = await BlobSink.create(pathOf(options.bootstrap))
      await bootstrapSink.write(bootstrapOf(hasData ? finished.blob : undefined))
    }
    const metaPath = placed(options.blob, finished.id)
    if (sink.offset === 0 && 'folder' in options.blob) await sink.abandon()
    else await sink.finish(metaPath)
    let bootstrap = ''
    if (bootstrapSink !== undefined && options.bootstrap !== undefined) {
      bootstrap = placed(options.bootstrap, bootstrapSink.digest())
      await bootstrapSink.finish(bootstrap)
    }
    return {
      blob: hasData ? { id: finished.id, path: metaPath } : undefined,
      blobIds: hasData ? [writer.foreign.id] : [],
      externalIds: [],
      blobSize: hasData ? writer.foreign.size : 0,
      bootstrap,
      files: order.nodes.length,
      dedupChunks: writer.dedupChunks,
      dedupBytes: writer.dedupBytes,
      uncompressedSize: writer.uncompressedSize,
    }
  } catch (error) {
    await sink.abandon()
    await bootstrapSink?.abandon()
    throw error
  }
}
