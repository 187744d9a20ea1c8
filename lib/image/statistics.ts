/**
 * `nydus-image stat`: what images are made of, and how much of it they share.
 *
 *     images ── loadImage ── ImageStatistics (sizes, histograms) ── SharedChunks (which chunk is in how many images)
 *
 * A *base* is one image or several; a *target* is an image that could be built with the base as its chunk dictionary.
 */
import { Chunks } from '../build/chunks.js'
import type { LoadedImage } from '../build/load-image.js'
import { ROOT, TYPE } from '../build/tree.js'

/** Chunk sizes 2^12 … 2^20 that files are counted with. */
const CHUNK_BITS = { first: 12, last: 20 } as const
/** Buckets of file sizes by their number of bits. */
const FILE_BITS = 45
const PAGE = 4096

/** A count of chunks with their bytes in the blob and plain. */
export interface Tally {
  chunks: number
  compSize: number
  uncompSize: number
}

export interface ImageStatistics {
  dirs: number
  /** Names; an inode's size and chunks count once. */
  files: number
  symlinks: number
  /** Chunks that files refer to. */
  chunks: number
  fileSize: number
  compSize: number
  /** Each chunk rounded up to 4096. */
  uncompSize: number
  /** Chunks that all files would have with chunks of 2^12 … 2^20 bytes. */
  readonly chunkSizes: number[]
  readonly fileSizes: number[]
  /** Chunks that are different from each other over all images. */
  readonly dedup: Tally
  /** Chunks of each image's own, summed up. */
  readonly own: Tally
  /** Chunks that the base has. */
  readonly ref: Tally
}

export function newStatistics(): ImageStatistics {
  const tally = (): Tally => ({ chunks: 0, compSize: 0, uncompSize: 0 })
  return {
    dirs: 0,
    files: 0,
    symlinks: 0,
    chunks: 0,
    fileSize: 0,
    compSize: 0,
    uncompSize: 0,
    chunkSizes: Array.from({ length: CHUNK_BITS.last - CHUNK_BITS.first + 1 }, () => 0),
    fileSizes: Array.from({ length: FILE_BITS }, () => 0),
    dedup: tally(),
    own: tally(),
    ref: tally(),
  }
}

interface Shared {
  readonly compSize: number
  readonly uncompSize: number
  images: number
}

/** Chunks by digest and size, and in how many images they are. */
export class SharedChunks {
  readonly #chunks = new Map<string, Shared>()

  /** Distinct chunks of one more image; returns those that were not known yet. */
  add(image: LoadedImage, chunks: Chunks): { all: Tally; known: Tally } {
    const all: Tally = { chunks: 0, compSize: 0, uncompSize: 0 }
    const known: Tally = { chunks: 0, compSize: 0, uncompSize: 0 }
    for (const [key, shared] of distinct(image, chunks)) {
      count(all, shared)
      const before = this.#chunks.get(key)
      if (before === undefined) this.#chunks.set(key, shared)
      else {
        before.images++
        count(known, shared)
      }
    }
    return { all, known }
  }

  /** The same without adding. */
  compare(image: LoadedImage, chunks: Chunks): { own: Tally; known: Tally } {
    const own: Tally = { chunks: 0, compSize: 0, uncompSize: 0 }
    const known: Tally = { chunks: 0, compSize: 0, uncompSize: 0 }
    for (const [key, shared] of distinct(image, chunks)) count(this.#chunks.has(key) ? known : own, shared)
    return { own, known }
  }

  total(): Tally {
    return this.#sum(() => true)
  }

  /**
   * If what is in at least `threshold` images went into a shared blob, and all else stayed: `base` is the shared blob,
   * `rest` what stays in the images.
   */
  split(threshold: number): { base: Tally; rest: Tally } {
    const rest: Tally = { chunks: 0, compSize: 0, uncompSize: 0 }
    for (const shared of this.#chunks.values())
      if (shared.images < threshold) for (let i = 0; i < shared.images; i++) count(rest, shared)
    return { base: this.#sum(({ images }) => images >= threshold), rest }
  }

  #sum(wanted: (shared: Shared) => boolean): Tally {
    const sum: Tally = { chunks: 0, compSize: 0, uncompSize: 0 }
    for (const shared of this.#chunks.values()) if (wanted(shared)) count(sum, shared)
    return sum
  }
}

function count(tally: Tally, { compSize, uncompSize }: Pick<Shared, 'compSize' | 'uncompSize'>): void {
  tally.chunks++
  tally.compSize += compSize
  tally.uncompSize += uncompSize
}

export function addTally(to: Tally, from: Tally): void {
  to.chunks += from.chunks
  to.compSize += from.compSize
  to.uncompSize += from.uncompSize
}

function distinct(image: LoadedImage, chunks: Chunks): Map<string, Shared> {
  const out = new Map<string, Shared>()
  for (const row of image.rows) {
    const { digest, compressedSize, uncompressedSize } = chunks.get(row)
    out.set(`${Buffer.from(digest).toString('base64')} ${uncompressedSize}`, {
      compSize: compressedSize,
      uncompSize: uncompressedSize,
      images: 1,
    })
  }
  return out
}

/** Adds an image's files and chunks to `to`. */
export function countFiles(to: ImageStatistics, { tree }: LoadedImage, chunks: Chunks): void {
  const folders = [ROOT]
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    to.dirs++
    for (const node of tree.children(folder)) {
      const type = tree.type(node)
      if (type === TYPE.DIR) folders.push(node)
      else if (type === TYPE.LNK) to.symlinks++
      else if (type === TYPE.REG) {
        to.files++
        if (!tree.isLink(node)) countFile(to, tree.size(node))
      }
      if (type !== TYPE.REG || tree.isLink(node)) continue
      const start = tree.chunkStart(node)
      for (let at = start; at < start + tree.chunkCount(node); at++) {
        const { compressedSize, uncompressedSize } = chunks.get(chunks.listed(at))
        to.chunks++
        to.compSize += compressedSize
        to.uncompSize += Math.ceil(uncompressedSize / PAGE) * PAGE
      }
    }
  }
}

function countFile(to: ImageStatistics, size: number): void {
  to.fileSize += size
  const bits = size === 0 ? 0 : Math.floor(Math.log2(size)) + 1
  const bucket = Math.min(bits, FILE_BITS - 1)
  to.fileSizes[bucket] = (to.fileSizes[bucket] ?? 0) + 1
  for (let bit = CHUNK_BITS.first; bit <= CHUNK_BITS.last; bit++) {
    const i = bit - CHUNK_BITS.first
    to.chunkSizes[i] = (to.chunkSizes[i] ?? 0) + Math.ceil(size / 2 ** bit)
  }
}

export interface Statistics {
  readonly base: ImageStatistics
  readonly target: ImageStatistics
  readonly shared: SharedChunks
}

/** `several`: the base is a set of images, whose common chunks are of interest. Throws NydusError RAFS_*. */
export async function statistics(
  base: readonly string[],
  several: boolean,
  target: string | undefined,
  load: (path: string, chunks: Chunks) => Promise<LoadedImage>,
): Promise<Statistics> {
  const out: Statistics = { base: newStatistics(), target: newStatistics(), shared: new SharedChunks() }
  for (const path of base) {
    const chunks = new Chunks()
    const image = await load(path, chunks)
    countFiles(out.base, image, chunks)
    addTally(out.base.own, out.shared.add(image, chunks).all)
  }
  if (several) addTally(out.base.dedup, out.shared.total())
  if (target !== undefined) {
    const chunks = new Chunks()
    const image = await load(target, chunks)
    countFiles(out.target, image, chunks)
    const { own, known } = out.shared.compare(image, chunks)
    addTally(out.target.own, own)
    addTally(out.target.ref, known)
  }
  return out
}
