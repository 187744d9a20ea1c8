/** Writes an image that refers to somebody else's file: the meta blob with its chunk information, and the bootstrap. */
import { BlobSink } from './blob-sink.js'
import type { Chunks } from './chunks.js'
import type { Created } from './create.js'
import { finishBlob } from './finish-blob.js'
import type { BuiltBlob, BuiltImage } from './image.js'
import type { Kind, LowerLayers } from './lower-layers.js'
import { orderOf } from './order.js'
import { overlay } from './overlay.js'
import { pathOf, placed, type Place } from './place.js'
import { prefetchNodes } from './prefetch-list.js'
import type { RefWriter } from './ref-writer.js'
import type { Tree } from './tree.js'
import type { WhiteoutSpec } from './whiteout.js'
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
  /** Bootstrap of the layers below, and how this layer marks what of them is gone. */
  readonly parent: string | undefined
  readonly whiteoutSpec: WhiteoutSpec
  /** Bootstrap whose chunks are referred to where this layer has the same. */
  readonly chunkDict: string | undefined
}

/** What an index of a layer always is; those that it is built upon have to be the same. */
export function referenceKind(chunkSize: number): Kind {
  return { version: 6, chunkSize, compressor: 'gzip', digester: 'sha256', fixed: true }
}

/** `writer` has all chunks and knows the file that they are in; `upper` is the layer's tree, which goes over that of `layers`. */
export async function writeReference(
  options: RefOptions,
  upper: Tree,
  chunks: Chunks,
  writer: RefWriter,
  layers: LowerLayers,
): Promise<Created> {
  const tree = layers.tree ?? upper
  if (layers.tree !== undefined) overlay(layers.tree, upper, options.whiteoutSpec)
  const table = layers.settle(chunks)
  const order = orderOf(tree)
  const prefetch = prefetchNodes(tree, options.prefetchPaths, options.source)
  const bootstrapOf = (blob: BuiltBlob | undefined): Uint8Array => {
    const image: BuiltImage = {
      tree,
      order,
      chunks,
      blobs: table.flatMap(entry => (typeof entry === 'object' ? entry : (blob ?? []))),
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
      blobIds: table.map(entry => (typeof entry === 'object' ? entry.id : writer.foreign.id)),
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
