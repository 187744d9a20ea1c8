/**
 * `nydus-image create`: a source in, a bootstrap and a blob out.
 *
 *     source ──> Tree ──> order ──> content (threads) ──> blob ──> writer-v5 | writer-v6 ──> bootstrap
 *
 * Nothing stands under a final name before all of it is right: outputs are written beside it and renamed at the end,
 * and a build that fails or is interrupted takes them away.
 */
import { createHash } from 'node:crypto'
import type { Compressor, Digester } from '../cache/cache.js'
import type { Attributes } from './attributes.js'
import { BlobSink } from './blob-sink.js'
import { BlobWriter } from './blob-writer.js'
import { CacheCopy } from './cache-copy.js'
import type { Progress } from './chunker.js'
import { Chunks } from './chunks.js'
import { BlobCipher } from './cipher.js'
import { fill, type FillParts } from './fill.js'
import { finishBlob, type BlobSettings } from './finish-blob.js'
import type { BuiltBlob } from './image.js'
import { JobPool } from './job-pool.js'
import { LowerLayers } from './lower-layers.js'
import { orderOf } from './order.js'
import { pathOf, placed, type Place } from './place.js'
import { prefetchNodes } from './prefetch-list.js'
import type { WhiteoutSpec } from './whiteout.js'
import { writeV5 } from './writer-v5.js'
import { writeV6 } from './writer-v6.js'

export type SourceType = 'dir-rafs' | 'tar-rafs' | 'targz-rafs' | 'estargz-rafs'

export interface CreateOptions {
  readonly type: SourceType
  readonly source: string
  readonly version: 5 | 6
  readonly compressor: Compressor
  readonly digester: Digester
  readonly chunkSize: number
  /** 0 = no batches. */
  readonly batchSize: number
  readonly alignedChunk: boolean
  readonly whiteoutSpec: WhiteoutSpec
  readonly toc: boolean
  readonly inlineMeta: boolean
  readonly encrypt: boolean
  readonly prefetchPolicy: 'none' | 'fs' | 'blob'
  /** Paths of the image (or host paths below the source), in the user's order. */
  readonly prefetchPaths: readonly string[]
  readonly blobId: string | undefined
  /** Final place of the blob: a file, FIFO or device, or the folder in which it is named by its id. */
  readonly blob: Place
  /** Bytes that will stand in front of the blob's own in the file that readers get. */
  readonly blobOffset: number
  /** Files whose data goes to a blob of its own, and where that one goes. */
  readonly external: { readonly rules: Attributes; readonly blob: Place } | undefined
  /** Final place of the bootstrap, in a folder named by its digest; undefined with `inlineMeta`. */
  readonly bootstrap: Place | undefined
  /** Bootstrap of the layers below. */
  readonly parent: string | undefined
  /** Bootstrap whose chunks need not be stored again. */
  readonly chunkDict: string | undefined
  /** Folder that gets what a daemon's cache would hold of the blob; only uncompressed. */
  readonly blobCacheDir: string | undefined
}

export interface Created {
  /** Blobs of the image, those of lower layers among them; without the external one. */
  readonly blobIds: readonly string[]
  /** Of the external blob that was written, if one was. */
  readonly externalIds: readonly string[]
  /** Where the new blob is; undefined when there was no data for one. */
  readonly blob: { readonly id: string; readonly path: string } | undefined
  /** Bytes of the blob that was written; 0 when the source has no data. */
  readonly blobSize: number
  readonly bootstrap: string
  readonly files: number
  readonly dedupChunks: number
  readonly dedupBytes: number
  readonly uncompressedSize: number
}

export interface CreateProgress extends Progress {
  found(entries: number): void
}

const PAGE = 4096

/** Everything that is open while an image is built. */
interface Outputs {
  readonly blob: BlobSink
  readonly external: BlobSink | undefined
  readonly bootstrap: BlobSink | undefined
  readonly cache: CacheCopy | undefined
}

async function openOutputs(options: CreateOptions): Promise<Outputs> {
  const blob = await BlobSink.create(pathOf(options.blob), options.blobOffset)
  let external: BlobSink | undefined
  let bootstrap: BlobSink | undefined
  try {
    external =
      options.external === undefined ? undefined : await BlobSink.create(pathOf(options.external.blob))
    bootstrap = options.bootstrap === undefined ? undefined : await BlobSink.create(pathOf(options.bootstrap))
    return {
      blob,
      external,
      bootstrap,
      cache: options.blobCacheDir === undefined ? undefined : await CacheCopy.create(options.blobCacheDir),
    }
  } catch (error) {
    await bootstrap?.abandon()
    await external?.abandon()
    await blob.abandon()
    throw error
  }
}

async function abandon(outputs: Outputs): Promise<void> {
  await outputs.blob.abandon()
  await outputs.external?.abandon()
  await outputs.bootstrap?.abandon()
  await outputs.cache?.abandon()
}

export async function createImage(options: CreateOptions, progress: CreateProgress): Promise<Created> {
  const chunks = new Chunks()
  const layers = await LowerLayers.load(options, options, chunks)
  const outputs = await openOutputs(options)
  const pool = new JobPool({
    compressor: options.compressor,
    digester: options.digester,
    chunkSize: options.chunkSize,
    batchLimit: options.batchSize / 2,
  })
  try {
    return await build(options, { chunks, layers, pool, outputs, progress })
  } catch (error) {
    await abandon(outputs)
    throw error
  } finally {
    pool.close()
  }
}

interface Parts extends FillParts {
  readonly outputs: Outputs
}

async function build(options: CreateOptions, parts: Parts): Promise<Created> {
  const { chunks, layers, outputs } = parts
  const sink = outputs.blob
  const cipher = options.encrypt ? new BlobCipher() : undefined
  const aligned = options.version === 6 || options.alignedChunk
  const externalNumber = layers.ownNumber + 1
  const layout = { alignment: aligned ? PAGE : 1, batchSize: options.batchSize, crc: true }
  const ownLayout = { ...layout, except: outputs.external === undefined ? undefined : externalNumber }
  const writer = new BlobWriter(layers.ownNumber, chunks, sink, parts.pool, ownLayout, cipher, outputs.cache)
  const externalCipher = options.encrypt ? new BlobCipher() : undefined
  const external =
    outputs.external === undefined
      ? undefined
      : new BlobWriter(externalNumber, chunks, outputs.external, parts.pool, layout, externalCipher)
  const content = await fill(options, parts, { own: writer, external })
  const { tree } = content
  const table = layers.settle(chunks)
  const order = orderOf(tree)
  const prefetch =
    options.prefetchPolicy === 'fs' ? prefetchNodes(tree, options.prefetchPaths, options.source) : []
  const write = options.version === 5 ? writeV5 : writeV6
  const settings = {
    version: options.version,
    compressor: options.compressor,
    digester: options.digester,
    aligned,
    toc: options.toc,
    readaheadSize: 0,
  }
  const elsewhere = await finishExternal(outputs, external, chunks, { ...settings, cipher: externalCipher })
  const bootstrapOf = (own: BuiltBlob | undefined): Uint8Array => {
    const blobs = table.flatMap(blob =>
      typeof blob === 'object' ? blob : ((blob === 0 ? own : elsewhere) ?? []),
    )
    return write({
      tree,
      order,
      chunks,
      blobs,
      chunkSize: options.chunkSize,
      compressor: options.compressor,
      digester: options.digester,
      prefetch,
      encrypted: options.encrypt || blobs.some(blob => blob.cipher !== undefined),
      xattrFlag: tree.hasXattrs,
    })
  }
  const finished = await finishBlob(
    sink,
    writer,
    chunks,
    {
      ...settings,
      inlineMeta: options.inlineMeta,
      cipher,
      readaheadSize: content.readaheadSize,
      ...(outputs.cache === undefined
        ? {}
        : { chunkInfo: (info, header) => outputs.cache?.chunkInfo(info, header) ?? Promise.resolve() }),
    },
    options.inlineMeta ? bootstrapOf : undefined,
  )
  const id = options.blobId ?? finished.id
  const ownBlob = writer.rows.length === 0 ? undefined : { ...finished.blob, id }
  let bootstrap = ''
  if (options.bootstrap !== undefined) {
    const bytes = bootstrapOf(ownBlob)
    await outputs.bootstrap?.write(bytes)
    bootstrap = placed(options.bootstrap, createHash('sha256').update(bytes).digest('hex'))
  }
  const blob = sink.size > 0 ? { id, path: placed(options.blob, id) } : undefined
  if (blob === undefined && 'folder' in options.blob) await sink.abandon()
  else await sink.finish(placed(options.blob, id))
  if (options.external !== undefined && elsewhere !== undefined)
    await outputs.external?.finish(placed(options.external.blob, elsewhere.id))
  else await outputs.external?.abandon()
  if (ownBlob === undefined) await outputs.cache?.abandon()
  else await outputs.cache?.finish(id, writer.uncompressedSize)
  await outputs.bootstrap?.finish(bootstrap)
  return {
    blobIds:
      ownBlob === undefined && blob !== undefined
        ? [id]
        : table.flatMap(entry => (typeof entry === 'object' ? entry.id : entry === 0 ? id : [])),
    externalIds: elsewhere === undefined ? [] : [elsewhere.id],
    blob,
    blobSize: sink.size,
    bootstrap,
    files: order.nodes.length,
    dedupChunks: writer.dedupChunks + (external?.dedupChunks ?? 0),
    dedupBytes: writer.dedupBytes + (external?.dedupBytes ?? 0),
    uncompressedSize: writer.uncompressedSize,
  }
}

/** Ends the external blob; undefined when no file's data went there. */
async function finishExternal(
  outputs: Outputs,
  writer: BlobWriter | undefined,
  chunks: Chunks,
  settings: Omit<BlobSettings, 'inlineMeta'>,
): Promise<BuiltBlob | undefined> {
  if (outputs.external === undefined || writer === undefined || writer.rows.length === 0) return undefined
  const whole = { ...settings, inlineMeta: false, external: true }
  const { id, blob } = await finishBlob(outputs.external, writer, chunks, whole, undefined)
  return { ...blob, id }
}
