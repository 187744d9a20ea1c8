/**
 * Images that refer to a layer as it is in a registry, a tar or tar.gz, instead of holding its data (`targz-ref`,
 * rafs-v6.md §9, blobs-and-cache.md §4). What is written is a small meta blob: where each chunk lies in the layer, and
 * for a tar.gz the windows that make random access possible.
 *
 *     layer ──> sha256 ──> [inflate, noting places] ──> tar ──> digests (Workers) ──> RefWriter ──> meta blob, bootstrap
 */
import { createHash, type Hash } from 'node:crypto'
import { join } from 'node:path'
import { NydusError } from '../base/errors.js'
import { openRaw } from './archive.js'
import { BlobSink } from './blob-sink.js'
import { ByteSource, type Bytes } from './byte-source.js'
import { Chunker } from './chunker.js'
import { Chunks } from './chunks.js'
import type { Created, CreateProgress, Place } from './create.js'
import { finishBlob } from './finish-blob.js'
import { GzipSource } from './gzip-source.js'
import type { BuiltBlob, BuiltImage } from './image.js'
import { orderOf } from './order.js'
import { prefetchNodes } from './prefetch-list.js'
import { RefWriter } from './ref-writer.js'
import type { TarEntry } from './tar-reader.js'
import { readTarSource } from './tar-source.js'
import { WorkerPool } from './worker-pool.js'
import { writeV6 } from './writer-v6.js'
import { ZranWindows } from './zran-windows.js'

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

/** A layer that is being read: its identity, and where its chunks lie. */
interface Layer {
  readonly bytes: Bytes
  readonly windows: ZranWindows | undefined
  /** Reads one chunk of `entry` and tells `writer` where it was. */
  readChunk(entry: TarEntry, into: Uint8Array, writer: RefWriter): Promise<void>
  /** sha256 and bytes of what was read. */
  identity(): { id: string; size: number }
}

async function* counted(pieces: AsyncIterable<Buffer>, hash: Hash, add: (bytes: number) => void): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    hash.update(piece)
    add(piece.length)
    yield piece
  }
}

async function openLayer(options: RefOptions): Promise<Layer> {
  const { format, pieces } = await openRaw(options.source)
  const hash = createHash('sha256')
  let size = 0
  const all = counted(pieces, hash, bytes => (size += bytes))
  const identity = (): { id: string; size: number } => ({ id: hash.copy().digest('hex'), size })
  if (format === 'zstd')
    throw new NydusError(
      'BUILD_SOURCE',
      'EINVAL',
      `${options.source} is packed with zstd: an image can refer to a tar or tar.gz only; use --type tar-rafs`,
    )
  if (format === 'gzip') {
    const gzip = new GzipSource(options.source, all)
    const windows = new ZranWindows(options.source, options.chunkSize)
    return {
      bytes: gzip,
      windows,
      async readChunk(entry, into, writer) {
        const start = gzip.place()
        await entry.read(into)
        const end = gzip.place()
        writer.note({ start: start.in, end: end.in, ...windows.add(start, end) })
      },
      identity,
    }
  }
  const plain = new ByteSource(all)
  return {
    bytes: plain,
    windows: undefined,
    async readChunk(entry, into, writer) {
      const start = plain.offset
      await entry.read(into)
      writer.note({ start, end: plain.offset })
    },
    identity,
  }
}

function refuseSparse(entry: TarEntry, source: string): void {
  if (entry.sparse)
    throw new NydusError(
      'BUILD_SPARSE',
      'EINVAL',
      `${source}: '${entry.path.toString()}' (header at byte ${entry.headerOffset}) is a sparse file, its holes are not in the archive: ` +
        'an image cannot refer to it; use --type targz-rafs',
    )
}

export async function createReference(options: RefOptions, progress: CreateProgress): Promise<Created> {
  const chunks = new Chunks()
  const pool = new WorkerPool({ compressor: 'none', digester: 'sha256', chunkSize: options.chunkSize, batchLimit: 0 })
  const sink = await BlobSink.create(pathOf(options.blob))
  let bootstrapSink: BlobSink | undefined
  try {
    const layer = await openLayer(options)
    const writer = new RefWriter(chunks, layer.windows)
    let chunker: Chunker | undefined
    const tree = await readTarSource(layer.bytes, {
      file: async (tree, node, entry) => {
        refuseSparse(entry, options.source)
        chunker ??= new Chunker(tree, chunks, pool, writer, options.chunkSize, progress)
        await chunker.addStream(node, entry.size, async into => {
          for (let at = 0; at < into.length; at += options.chunkSize)
            await layer.readChunk(entry, into.subarray(at, at + options.chunkSize), writer)
          return into.length
        })
      },
      found: entries => progress.found(entries),
    })
    await chunker?.finish()
    writer.foreign = layer.identity()
    const order = orderOf(tree)
    const prefetch = prefetchNodes(tree, options.prefetchPaths, options.source)
    const image = (blob: BuiltBlob | undefined): BuiltImage => ({
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
    })
    const hasData = writer.rows.length > 0
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
      options.inlineMeta ? blob => writeV6(image(blob)) : undefined,
    )
    if (options.bootstrap !== undefined) {
      bootstrapSink = await BlobSink.create(pathOf(options.bootstrap))
      await bootstrapSink.write(writeV6(image(hasData ? finished.blob : undefined)))
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
  } finally {
    await pool.close()
  }
}
