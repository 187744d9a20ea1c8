/**
 * Reads the source of an image, a folder or an archive, and brings its data into the blob; puts its tree over that of
 * the layers below.
 */
import { openArchive, readArchive } from './archive.js'
import type { BlobWriter } from './blob-writer.js'
import { Chunker } from './chunker.js'
import type { Chunks } from './chunks.js'
import type { CreateOptions, CreateProgress } from './create.js'
import { dataOrder } from './data-order.js'
import { DirSource } from './dir-source.js'
import type { JobPool } from './job-pool.js'
import type { LowerLayers } from './lower-layers.js'
import { orderOf } from './order.js'
import { overlay } from './overlay.js'
import { prefetchNodes } from './prefetch-list.js'
import { NONE, TYPE, type Tree } from './tree.js'

export interface FillParts {
  readonly chunks: Chunks
  readonly layers: LowerLayers
  readonly pool: JobPool
  readonly progress: CreateProgress
}

/** Where data goes. */
export interface Writers {
  readonly own: BlobWriter
  /** Of files that `options.external` names. */
  readonly external: BlobWriter | undefined
}

export interface Filled {
  readonly tree: Tree
  /** Bytes at the start of the blob that prefetch policy "blob" wants. */
  readonly readaheadSize: number
}

export async function fill(options: CreateOptions, parts: FillParts, writers: Writers): Promise<Filled> {
  const from = options.type === 'dir-rafs' ? fillFromFolder : fillFromTar
  const filled = await from(options, parts, writers)
  const lower = parts.layers.tree
  if (lower === undefined) return filled
  overlay(lower, filled.tree, options.whiteoutSpec)
  return { ...filled, tree: lower }
}

/** Whether a file's data goes to the external blob. */
function isExternal(options: CreateOptions, tree: Tree, node: number): boolean {
  return options.external?.rules.isExternal(tree.path(node)) === true
}

async function fillFromFolder(options: CreateOptions, parts: FillParts, writers: Writers): Promise<Filled> {
  // Without layers below there is nothing that a marker could hide.
  const dropped = parts.layers.tree === undefined ? options.whiteoutSpec : 'none'
  const filler = new FolderFiller(new DirSource(options.source, dropped), options, parts, writers)
  const { tree } = filler
  const readaheadSize =
    options.prefetchPolicy === 'none' ? await filler.alongWalk() : await filler.prefetchedFirst()
  await filler.finish()
  return { tree, readaheadSize }
}

class FolderFiller {
  readonly tree: Tree
  readonly #source: DirSource
  readonly #options: CreateOptions
  readonly #parts: FillParts
  readonly #writers: Writers
  readonly #chunker: Chunker
  /** External files come last: their chunks may be those that the image has, but never the other way. */
  readonly #aside: number[] = []
  #folder = NONE
  #path: Uint8Array = new Uint8Array(0)

  constructor(source: DirSource, options: CreateOptions, parts: FillParts, writers: Writers) {
    this.#source = source
    this.tree = source.tree
    this.#options = options
    this.#parts = parts
    this.#writers = writers
    this.#chunker = this.#chunkerFor(writers.own)
  }

  #chunkerFor(writer: BlobWriter): Chunker {
    const { chunks, pool, progress } = this.#parts
    return new Chunker(this.tree, chunks, pool, writer, this.#options.chunkSize, progress)
  }

  /** Data in the order of the walk, and along with it: the pool works while folders are read. */
  async alongWalk(): Promise<number> {
    const { tree } = this
    for (const { count, first, end } of this.#source.walk()) {
      this.#parts.progress.found(count)
      for (let node = first; node < end; node++) {
        if (tree.type(node) !== TYPE.REG || tree.isLink(node) || tree.size(node) === 0) continue
        const busy = this.#add(node)
        if (busy !== undefined) await busy
      }
    }
    return 0
  }

  /** What is to be prefetched comes first, and which files that are is known after the walk. */
  async prefetchedFirst(): Promise<number> {
    const { tree } = this
    const { prefetchPaths, source, prefetchPolicy } = this.#options
    for (const { count } of this.#source.walk()) this.#parts.progress.found(count)
    const { prefetched, others } = dataOrder(tree, orderOf(tree), prefetchNodes(tree, prefetchPaths, source))
    for (const node of prefetched) await this.#add(node)
    let readaheadSize = 0
    if (prefetchPolicy === 'blob') {
      await this.#chunker.settle()
      readaheadSize = this.#writers.own.compressedSize
    }
    for (const node of others) await this.#add(node)
    return readaheadSize
  }

  async finish(): Promise<void> {
    await this.#chunker.finish()
    if (this.#writers.external === undefined) return
    const chunker = this.#chunkerFor(this.#writers.external)
    for (const node of this.#aside) await chunker.addFile(node, this.#folderOf(node))
    await chunker.finish()
  }

  #add(node: number): Promise<void> | undefined {
    if (this.#writers.external !== undefined && isExternal(this.#options, this.tree, node)) {
      this.#aside.push(node)
      return undefined
    }
    return this.#chunker.addFile(node, this.#folderOf(node))
  }

  /** Path on disk of the folder that a file is in; the same object for neighbours. */
  #folderOf(node: number): Uint8Array {
    const folder = this.tree.parent(node)
    if (folder !== this.#folder) {
      this.#folder = folder
      this.#path = this.#source.path(folder)
    }
    return this.#path
  }
}

async function fillFromTar(options: CreateOptions, parts: FillParts, writers: Writers): Promise<Filled> {
  const { progress } = parts
  const archive = await openArchive(options.source, options.type === 'estargz-rafs')
  const chunkers = new Map<BlobWriter, Chunker>()
  const tree = await readArchive(options.source, archive, {
    file: async (tree, node, entry) => {
      const { own, external } = writers
      const to = external !== undefined && isExternal(options, tree, node) ? external : own
      const chunker =
        chunkers.get(to) ?? new Chunker(tree, parts.chunks, parts.pool, to, options.chunkSize, progress)
      chunkers.set(to, chunker)
      await chunker.addStream(node, entry.size, into => entry.read(into))
    },
    found: entries => progress.found(entries),
  })
  for (const chunker of chunkers.values()) await chunker.finish()
  return { tree, readaheadSize: 0 }
}
