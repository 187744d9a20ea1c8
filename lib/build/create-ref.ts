/**
 * Images that refer to a layer as it is in a registry, a tar or tar.gz, instead of holding its data (`targz-ref`,
 * rafs-v6.md §9, blobs-and-cache.md §4). What is written is a small meta blob: where each chunk lies in the layer, and
 * for a tar.gz the windows that make random access possible.
 *
 *     layer ──> sha256 ──> [inflate, noting places] ──> tar ──> digests (pool) ──> RefWriter ──> meta blob, bootstrap
 */
import { createHash } from 'node:crypto'
import { NydusError } from '../base/errors.js'
import { hashed, notGzip, openGzip, openRaw, readArchive, type Archive } from './archive.js'
import { ByteSource } from './byte-source.js'
import { Chunker } from './chunker.js'
import { Chunks } from './chunks.js'
import type { Created, CreateProgress } from './create.js'
import { JobPool } from './job-pool.js'
import { LowerLayers } from './lower-layers.js'
import { refuseSparse, RefWriter } from './ref-writer.js'
import type { TarEntry } from './tar-reader.js'
import type { Tree } from './tree.js'
import { referenceKind, writeReference, type RefOptions } from './write-ref.js'
import { ZranWindows } from './zran-windows.js'

export interface LayerOptions extends RefOptions {
  /** The layer is in eStargz format, whose table of contents must agree with it. */
  readonly estargz: boolean
}

/** A layer that is being read: its identity, and where its chunks lie. */
interface Layer {
  readonly archive: Archive
  readonly windows: ZranWindows | undefined
  /** Reads one chunk of `entry` and tells `writer` where it was. */
  readChunk(entry: TarEntry, into: Uint8Array, writer: RefWriter): Promise<void>
  /** sha256 and bytes of what was read. */
  readonly identity: () => { id: string; size: number }
}

async function openLayer(options: LayerOptions): Promise<Layer> {
  const { format, pieces } = await openRaw(options.source)
  const { pieces: all, identity } = hashed(pieces, createHash('sha256'))
  if (format === 'zstd')
    throw new NydusError(
      'BUILD_SOURCE',
      'EINVAL',
      `${options.source} is packed with zstd: an image can refer to a tar or tar.gz only; use --type tar-rafs`,
    )
  if (format === 'gzip') {
    const archive = openGzip(options.source, all, options.estargz)
    const gzip = archive.bytes
    const windows = new ZranWindows(options.source, options.chunkSize)
    return {
      archive,
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
  if (options.estargz) throw notGzip(options.source)
  const plain = new ByteSource(all)
  return {
    archive: { bytes: plain },
    windows: undefined,
    async readChunk(entry, into, writer) {
      const start = plain.offset
      await entry.read(into)
      writer.note({ start, end: plain.offset })
    },
    identity,
  }
}

export async function createReference(options: LayerOptions, progress: CreateProgress): Promise<Created> {
  const chunks = new Chunks()
  const layers = await LowerLayers.load(options, referenceKind(options.chunkSize), chunks)
  const layer = await openLayer(options)
  const writer = new RefWriter(chunks, layer.windows, layers.ownNumber)
  // Threads are started for the first file, not for a layer that turns out to be none.
  let pool: JobPool | undefined
  let chunker: Chunker | undefined
  const start = (tree: Tree): Chunker => {
    pool = new JobPool({
      compressor: 'none',
      digester: 'sha256',
      chunkSize: options.chunkSize,
      batchLimit: 0,
      discard: true,
    })
    return new Chunker(tree, chunks, pool, writer, options.chunkSize, progress)
  }
  try {
    const tree = await readArchive(options.source, layer.archive, {
      file: async (tree, node, entry) => {
        refuseSparse(entry, options.source)
        chunker ??= start(tree)
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
    return await writeReference(options, tree, chunks, writer, layers)
  } finally {
    pool?.close()
  }
}
