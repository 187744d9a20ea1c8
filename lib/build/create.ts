/**
 * `nydus-image create`: a source in, a bootstrap and a blob out.
 *
 *     source ──> Tree ──> order ──> content (Workers) ──> blob ──> writer-v5 | writer-v6 ──> bootstrap
 *
 * Nothing stands under a final name before all of it is right: outputs are written beside it and renamed at the end,
 * and a build that fails or is interrupted takes them away.
 */
import { createReadStream } from 'node:fs'
import { createGunzip } from 'node:zlib'
import type { Readable } from 'node:stream'
import { NydusError } from '../base/errors.js'
import type { Compressor, Digester } from '../cache/cache.js'
import { BlobSink } from './blob-sink.js'
import { BlobWriter } from './blob-writer.js'
import { ByteSource } from './byte-source.js'
import { Chunker, type Progress } from './chunker.js'
import { Chunks } from './chunks.js'
import { BlobCipher } from './cipher.js'
import { readDirSource } from './dir-source.js'
import { finishBlob } from './finish-blob.js'
import type { BuiltBlob, BuiltImage } from './image.js'
import { isFirstName, orderOf, type Order } from './order.js'
import { prefetchNodes } from './prefetch-list.js'
import { readTarSource } from './tar-source.js'
import { TYPE, type Tree } from './tree.js'
import type { WhiteoutSpec } from './whiteout.js'
import { WorkerPool } from './worker-pool.js'
import { writeV5 } from './writer-v5.js'
import { writeV6 } from './writer-v6.js'

export type SourceType = 'dir-rafs' | 'tar-rafs' | 'targz-rafs'

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
  readonly blob: { readonly file: string } | { readonly folder: string }
  /** Final place of the bootstrap; undefined with `inlineMeta`. */
  readonly bootstrap: string | undefined
}

export interface Created {
  readonly blobIds: readonly string[]
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

/** Files in the order of their data: those to be prefetched first, then all by number. */
function* dataOrder(tree: Tree, order: Order, prefetch: readonly number[]): Generator<number> {
  const done = new Uint8Array(tree.rows)
  const isData = (node: number): boolean => tree.type(node) === TYPE.REG && tree.size(node) > 0 && done[tree.inodeOf(node)] === 0
  const stack: number[] = []
  for (const top of prefetch) {
    stack.push(top)
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      if (isData(node)) {
        done[tree.inodeOf(node)] = 1
        yield tree.inodeOf(node)
      }
      if (tree.type(node) === TYPE.DIR) stack.push(...tree.sortedChildren(node).reverse())
    }
  }
  for (const node of order.nodes)
    if (isFirstName(tree, order, node) && isData(node)) {
      done[tree.inodeOf(node)] = 1
      yield tree.inodeOf(node)
    }
}

function openStream(options: CreateOptions): Readable {
  const file = createReadStream(options.source, { highWaterMark: 1 << 20 })
  return options.type === 'targz-rafs' ? file.pipe(createGunzip({ chunkSize: 1 << 20 })) : file
}

export async function createImage(options: CreateOptions, progress: CreateProgress): Promise<Created> {
  const chunks = new Chunks()
  const pool = new WorkerPool({
    compressor: options.compressor,
    digester: options.digester,
    chunkSize: options.chunkSize,
    batchLimit: options.batchSize / 2,
  })
  const sink = await BlobSink.create('file' in options.blob ? options.blob.file : options.blob.folder)
  let bootstrapSink: BlobSink | undefined
  try {
    const cipher = options.encrypt ? new BlobCipher() : undefined
    const aligned = options.version === 6 || options.alignedChunk
    const writer = new BlobWriter(
      0,
      chunks,
      sink,
      pool,
      { alignment: aligned ? PAGE : 1, batchSize: options.batchSize, crc: true },
      cipher,
    )
    const { tree, order, prefetch, readaheadSize } = await fill(options, chunks, pool, writer, sink, progress)
    const image = (blobs: readonly BuiltBlob[]): BuiltImage => ({
      tree,
      order,
      chunks,
      blobs,
      chunkSize: options.chunkSize,
      compressor: options.compressor,
      digester: options.digester,
      prefetch: options.prefetchPolicy === 'fs' ? prefetch : [],
      encrypted: options.encrypt,
      xattrFlag: tree.hasXattrs,
    })
    const write = options.version === 5 ? writeV5 : writeV6
    const finished = await finishBlob(
      sink,
      writer,
      chunks,
      {
        version: options.version,
        compressor: options.compressor,
        digester: options.digester,
        aligned,
        toc: options.toc,
        inlineMeta: options.inlineMeta,
        cipher,
        readaheadSize,
      },
      options.inlineMeta ? blob => write(image(blob === undefined ? [] : [blob])) : undefined,
    )
    const id = options.blobId ?? finished.id
    const hasBlob = sink.offset > 0
    if (options.bootstrap !== undefined) {
      const blobs = writer.rows.length === 0 ? [] : [{ ...finished.blob, id }]
      bootstrapSink = await BlobSink.create(options.bootstrap)
      await bootstrapSink.write(write(image(blobs)))
    }
    const blobSize = sink.offset
    if (!hasBlob && 'folder' in options.blob) await sink.abandon()
    else await sink.finish('file' in options.blob ? options.blob.file : `${options.blob.folder}/${id}`)
    await bootstrapSink?.finish()
    return {
      blobIds: hasBlob ? [id] : [],
      blobSize,
      bootstrap: options.bootstrap ?? '',
      files: order.nodes.length,
      dedupChunks: writer.dedupChunks,
      dedupBytes: writer.dedupBytes,
      uncompressedSize: writer.uncompressedSize,
    }
  } catch (error) {
    await sink.abandon()
    await bootstrapSink?.abandon()
    throw error
  } finally {
    await pool.close()
  }
}

interface Filled {
  readonly tree: Tree
  readonly order: Order
  readonly prefetch: readonly number[]
  readonly readaheadSize: number
}

async function fill(
  options: CreateOptions,
  chunks: Chunks,
  pool: WorkerPool,
  writer: BlobWriter,
  sink: BlobSink,
  progress: CreateProgress,
): Promise<Filled> {
  if (options.type === 'dir-rafs') {
    const source = readDirSource(options.source, options.whiteoutSpec, entries => progress.found(entries))
    const { tree } = source
    const order = orderOf(tree)
    const prefetch = options.prefetchPolicy === 'none' ? [] : prefetchNodes(tree, options.prefetchPaths, options.source)
    const chunker = new Chunker(tree, chunks, pool, writer, options.chunkSize, progress)
    for (const node of dataOrder(tree, order, prefetch)) await chunker.addFile(node, source.path(node), tree.size(node))
    await chunker.finish()
    return { tree, order, prefetch, readaheadSize: 0 }
  }
  const bytes = new ByteSource(openStream(options))
  let chunker: Chunker | undefined
  const tree = await readTarSource(bytes, {
    file: async (tree, node, entry) => {
      chunker ??= new Chunker(tree, chunks, pool, writer, options.chunkSize, progress)
      await chunker.addStream(node, entry.size, into => entry.read(into))
    },
    found: entries => progress.found(entries),
  })
  await chunker?.finish()
  const order = orderOf(tree)
  if (sink.offset === 0 && tree.count === 1 && bytes.offset === 0)
    throw new NydusError('BUILD_SOURCE', 'EINVAL', `${options.source} is empty`)
  return { tree, order, prefetch: options.prefetchPolicy === 'none' ? [] : prefetchNodes(tree, options.prefetchPaths, options.source), readaheadSize: 0 }
}
