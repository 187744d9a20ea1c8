/**
 * Moves chunks of a finished image into new blobs, and writes the bootstrap that refers to them there:
 *
 *     old blobs ── Content ── threads (digest, compress) ── BlobWriter, one for each new blob
 *     old tree, its chunk lists pointed to the new rows ── writer-v5 | writer-v6
 *
 * Blobs that nothing refers to any more leave the image. Nothing stands under a final name before all of it is right.
 */
import { join } from 'node:path'
import type { Backend } from '../backend/backend.js'
import { NydusError } from '../base/errors.js'
import { BlobSink } from '../build/blob-sink.js'
import { BlobWriter } from '../build/blob-writer.js'
import { CHUNK, Chunks } from '../build/chunks.js'
import { BlobCipher } from '../build/cipher.js'
import { finishBlob } from '../build/finish-blob.js'
import { hasFeature, type BuiltBlob } from '../build/image.js'
import { JobPool } from '../build/job-pool.js'
import { JobQueue } from '../build/job-queue.js'
import { loadImage, type LoadedImage } from '../build/load-image.js'
import { usedBlobs } from '../build/merge.js'
import { orderOf, type Order } from '../build/order.js'
import type { Slot } from '../build/slot.js'
import { TYPE } from '../build/tree.js'
import { writeV5 } from '../build/writer-v5.js'
import { writeV6 } from '../build/writer-v6.js'
import { BLOB_FEATURE, type ChunkWant, type Compressor, type Digester } from '../cache/cache.js'
import { RafsImage } from '../rafs/image.js'
import { RAFS_FLAG } from '../rafs/layout/flags.js'
import { Content, type Wanted } from './content.js'

const PAGE = 4096
const UNMOVED = 0xffff_ffff

/** A finished image, loaded to be changed. */
export interface Source {
  readonly loaded: LoadedImage
  readonly chunks: Chunks
  readonly order: Order
  /** Opened for reading its blobs; to be closed. */
  readonly image: RafsImage
  readonly compressor: Compressor
  /** What new blobs are written with: nothing writes gzip. */
  readonly newCompressor: Compressor
  readonly digester: Digester
}

const COMPRESSOR_FLAGS: readonly (readonly [number, Compressor])[] = [
  [RAFS_FLAG.COMPRESSION_LZ4, 'lz4_block'],
  [RAFS_FLAG.COMPRESSION_ZSTD, 'zstd'],
  [RAFS_FLAG.COMPRESSION_GZIP, 'gzip'],
]

/** Throws NydusError RAFS_*; REBUILD_OLD for images that no blob can be added to. */
export async function openSource(path: string): Promise<Source> {
  const chunks = new Chunks()
  const loaded = await loadImage(path, chunks, 0)
  const image = await RafsImage.open({ path, xattrs: true, validate: true })
  if (loaded.version === 5 && loaded.blobs.some(blob => blob.chunkCount === 0)) {
    await image.close()
    throw new NydusError(
      'REBUILD_OLD',
      'EINVAL',
      `${path} is an image of 2020, whose chunks have no numbers: build it anew (nydus-image unpack, then create)`,
    )
  }
  const { bits } = image.facts.flags
  const compressor = COMPRESSOR_FLAGS.find(([flag]) => (bits & flag) !== 0)?.[1] ?? 'none'
  if (loaded.version === 5 && compressor === 'gzip') {
    await image.close()
    throw new NydusError(
      'REBUILD_OLD',
      'EINVAL',
      `${path} is a v5 image of gzip blobs, which nothing writes: build it anew (nydus-image unpack, then create)`,
    )
  }
  return {
    loaded,
    chunks,
    order: orderOf(loaded.tree),
    image,
    compressor,
    newCompressor: compressor === 'gzip' ? 'zstd' : compressor,
    digester: (bits & RAFS_FLAG.DIGEST_SHA256) !== 0 ? 'sha256' : 'blake3',
  }
}

/** What a row's chunk is called in its blob. */
function wantOf(source: Source, row: number): ChunkWant {
  const chunk = source.chunks.get(row)
  const place = {
    index: chunk.index,
    uncompressedOffset: chunk.uncompressedOffset,
    uncompressedSize: chunk.uncompressedSize,
    digest: chunk.digest.slice(),
  }
  if (source.loaded.version === 6) return place
  return {
    ...place,
    record: {
      ...place,
      compressedOffset: chunk.compressedOffset,
      compressedSize: chunk.compressedSize,
      compressed: (chunk.flags & CHUNK.COMPRESSED) !== 0,
      encrypted: (chunk.flags & CHUNK.ENCRYPTED) !== 0,
      ...((chunk.flags & CHUNK.CRC) !== 0 ? { crc32: chunk.crc32 } : {}),
    },
  }
}

export interface NewBlob {
  /** Rows of the source's chunks, each once, in the order in which they shall lie. */
  readonly rows: readonly number[]
  /** BLOB_FEATURE bits that it gets besides. */
  readonly features: number
}

export interface RebuildOptions {
  readonly source: Source
  readonly backend: Backend
  readonly newBlobs: readonly NewBlob[]
  /** Where the new blobs go, named by their ids. */
  readonly folder: string
  readonly bootstrap: string
  /** Image whose chunks are referred to instead of being stored again. */
  readonly chunkDict: string | undefined
  /** Nodes to be prefetched, in order. */
  readonly prefetch: readonly number[]
}

export interface Rebuilt {
  readonly bootstrap: string
  /** Of the whole image, in the order of its table. */
  readonly blobIds: readonly string[]
  /** Those that are new. */
  readonly newIds: readonly string[]
  readonly version: 5 | 6
  readonly compressor: Compressor
}

export interface RebuildProgress {
  stored(chunks: number, bytes: number): void
}

class Rebuild {
  readonly #options: RebuildOptions
  readonly #content: Content
  readonly #pool: JobPool
  readonly #progress: RebuildProgress
  readonly #next = new Chunks()
  /** New row by old row. */
  readonly #moved: Uint32Array
  readonly #encrypted: boolean
  readonly #sinks: { readonly sink: BlobSink; readonly path: string }[] = []

  constructor(options: RebuildOptions, progress: RebuildProgress) {
    const { source } = options
    this.#options = options
    this.#progress = progress
    this.#content = new Content(source.image, options.backend)
    this.#moved = new Uint32Array(source.chunks.rows).fill(UNMOVED)
    this.#encrypted = (source.loaded.flags & RAFS_FLAG.ENCRYPTION_AES_128_XTS) !== 0
    this.#pool = new JobPool({
      compressor: source.newCompressor,
      digester: source.digester,
      chunkSize: source.loaded.chunkSize,
      batchLimit: 0,
    })
  }

  async run(): Promise<Rebuilt> {
    try {
      return await this.#run()
    } catch (error) {
      for (const { sink } of this.#sinks) await sink.abandon()
      throw error
    } finally {
      await this.#content.close()
      this.#pool.close()
    }
  }

  async #run(): Promise<Rebuilt> {
    const { source, newBlobs, folder, bootstrap, chunkDict } = this.#options
    const { loaded } = source
    const own = loaded.blobs.map(blob => ({
      ...blob,
      features: (blob.features & ~BLOB_FEATURE.INLINED_FS_META) >>> 0,
    }))
    const dict =
      chunkDict === undefined ? [] : (await this.#loadDict(chunkDict, own.length + newBlobs.length)).blobs
    const made: BuiltBlob[] = []
    for (const [i, blob] of newBlobs.entries()) made.push(await this.#store(own.length + i, blob, folder))
    this.#relist()
    const used = usedBlobs(loaded.tree, source.order, this.#next, [...own, ...made, ...dict])
    const sink = await BlobSink.create(bootstrap)
    this.#sinks.push({ sink, path: bootstrap })
    await sink.write(this.#metadata(used))
    for (const { sink: finished, path } of this.#sinks) await finished.finish(path)
    return {
      bootstrap,
      blobIds: used.map(({ id }) => id),
      newIds: made.map(({ id }) => id).filter(id => used.some(blob => blob.id === id)),
      version: loaded.version,
      compressor: source.compressor,
    }
  }

  async #loadDict(path: string, firstBlob: number): Promise<LoadedImage> {
    const { loaded } = this.#options.source
    const dict = await loadImage(path, this.#next, firstBlob)
    if (dict.version !== loaded.version || dict.chunkSize !== loaded.chunkSize)
      throw new NydusError(
        'BUILD_MISMATCH',
        'EINVAL',
        `--chunk-dict ${path} is RAFS v${dict.version} with chunks of ${dict.chunkSize} bytes, ` +
          `${loaded.path} is v${loaded.version} with ${loaded.chunkSize}`,
      )
    return dict
  }

  async #store(number: number, { rows, features }: NewBlob, folder: string): Promise<BuiltBlob> {
    const { source } = this.#options
    const { version, blobs } = source.loaded
    const aligned =
      version === 6 || rows.some(row => hasFeature(blobs[source.chunks.blob(row)] as BuiltBlob, 'ALIGNED'))
    const cipher = this.#encrypted ? new BlobCipher() : undefined
    const sink = await BlobSink.create(folder)
    const place = { sink, path: folder }
    this.#sinks.push(place)
    const layout = { alignment: aligned ? PAGE : 1, batchSize: 0, crc: true }
    const writer = new BlobWriter(number, this.#next, sink, this.#pool, layout, cipher)
    await this.#copy(rows, writer)
    await writer.finish()
    const { id, blob } = await finishBlob(
      sink,
      writer,
      this.#next,
      {
        version,
        compressor: source.newCompressor,
        digester: source.digester,
        aligned,
        toc: false,
        inlineMeta: false,
        cipher,
        readaheadSize: 0,
      },
      undefined,
    )
    place.path = join(folder, id)
    // Everything was in the dictionary.
    if (writer.rows.length === 0) {
      await sink.abandon()
      this.#sinks.splice(this.#sinks.indexOf(place), 1)
    }
    return { ...blob, id, features: (blob.features | features) >>> 0 }
  }

  /** Reads chunks in order, has some at a time compressed, stores them in order. */
  async #copy(rows: readonly number[], writer: BlobWriter): Promise<void> {
    const { source } = this.#options
    const wanted = function* (): Generator<Wanted<number>> {
      for (const row of rows)
        yield { tag: row, chunk: { blob: source.chunks.blob(row), want: wantOf(source, row) } }
    }
    const jobs = new JobQueue<readonly number[]>(this.#pool, (done, taken) => this.#take(taken, done, writer))
    let batch: number[] = []
    const dispatch = async (): Promise<void> => {
      await jobs.dispatch('bytes', batch)
      batch = []
    }
    for await (const { tag, bytes: plain } of this.#content.read(
      wanted(),
      row => `chunk ${source.chunks.index(row)}`,
    )) {
      if (!jobs.fits(plain.length, 0)) await dispatch()
      jobs.slot.addBytes(plain.length, plain.length).set(plain)
      batch.push(tag)
    }
    await dispatch()
    await jobs.settle()
    jobs.close()
  }

  async #take(rows: readonly number[], done: Slot, writer: BlobWriter): Promise<void> {
    const list = this.#next.startList(rows.length)
    await writer.store(done, list)
    rows.forEach((row, i) => {
      this.#moved[row] = this.#next.listed(list + i)
    })
    this.#progress.stored(rows.length, done.bytes)
  }

  /** Files refer to the new rows; chunks that stay where they are get theirs now. */
  #relist(): void {
    const { tree } = this.#options.source.loaded
    const { order, chunks } = this.#options.source
    for (const node of order.nodes) {
      if (tree.type(node) !== TYPE.REG || tree.isLink(node)) continue
      const start = tree.chunkStart(node)
      const count = tree.chunkCount(node)
      const list = this.#next.startList(count)
      for (let i = 0; i < count; i++) {
        const row = chunks.listed(start + i)
        if (this.#moved[row] === UNMOVED) this.#moved[row] = this.#next.add(chunks.get(row))
        this.#next.setListed(list + i, this.#moved[row] ?? UNMOVED)
      }
      tree.setChunks(node, list, count)
    }
  }

  #metadata(blobs: readonly BuiltBlob[]): Uint8Array {
    const { source, prefetch } = this.#options
    const { loaded, order, compressor, digester } = source
    return (loaded.version === 5 ? writeV5 : writeV6)({
      tree: loaded.tree,
      order,
      chunks: this.#next,
      blobs,
      chunkSize: loaded.chunkSize,
      compressor,
      digester,
      prefetch,
      encrypted: this.#encrypted,
      xattrFlag: (loaded.flags & RAFS_FLAG.HAS_XATTR) !== 0,
    })
  }
}

/** Throws NydusError BUILD_*, IMAGE_*, BACKEND_*. */
export async function rebuild(options: RebuildOptions, progress: RebuildProgress): Promise<Rebuilt> {
  return await new Rebuild(options, progress).run()
}
