/**
 * What an image is built upon: the layers below it (`--parent-bootstrap`) and a dictionary of chunks that exist
 * already (`--chunk-dict`). Their chunks become rows, so that a new chunk that is the same as one of them refers to it
 * instead of being stored (blobs-and-cache.md §7: the dictionary first, then parent layers and own chunks).
 */
import { NydusError } from '../base/errors.js'
import { BLOB_FEATURE, type Compressor, type Digester } from '../cache/cache.js'
import { RAFS_FLAG } from '../rafs/layout/flags.js'
import type { Chunks } from './chunks.js'
import type { BuiltBlob } from './image.js'
import { loadImage, type LoadedImage } from './load-image.js'
import type { Tree } from './tree.js'

/** What all images that become one have in common. */
export interface Kind {
  readonly version: 5 | 6
  readonly chunkSize: number
  readonly compressor: Compressor
  readonly digester: Digester
  /** Nobody can choose them: the other image has to be built anew. */
  readonly fixed?: boolean
}

export function compressorOf(flags: number): Compressor {
  if ((flags & RAFS_FLAG.COMPRESSION_ZSTD) !== 0) return 'zstd'
  if ((flags & RAFS_FLAG.COMPRESSION_LZ4) !== 0) return 'lz4_block'
  return (flags & RAFS_FLAG.COMPRESSION_GZIP) !== 0 ? 'gzip' : 'none'
}

export function digesterOf(flags: number): Digester {
  return (flags & RAFS_FLAG.DIGEST_SHA256) !== 0 ? 'sha256' : 'blake3'
}

function checkKind(option: string, image: LoadedImage, wanted: Kind): void {
  const mismatch = (what: string, has: string | number, want: string | number, cure: string): NydusError =>
    new NydusError(
      'BUILD_MISMATCH',
      'EINVAL',
      `${option} ${image.path} has ${what} ${has}, this image ${want}: build ` +
        (wanted.fixed === true && cure !== '--chunk-size'
          ? `the other with ${cure} ${want}`
          : `with ${cure} ${has}`),
    )
  if (image.version !== wanted.version)
    throw mismatch('RAFS version', image.version, wanted.version, '--fs-version')
  if (image.chunkSize !== wanted.chunkSize)
    throw mismatch('a chunk size of', image.chunkSize, wanted.chunkSize, '--chunk-size')
  // An image without data says nothing of them. In v6 each blob has a compressor of its own.
  if (image.blobs.length === 0) return
  const digester = digesterOf(image.flags)
  if (digester !== wanted.digester) throw mismatch('the digester', digester, wanted.digester, '--digester')
  const compressor = compressorOf(image.flags)
  if (image.version === 5 && compressor !== wanted.compressor)
    throw mismatch('the compressor', compressor, wanted.compressor, '--compressor')
}

/** A blob that holds its own bootstrap is from now on one like all others. */
function asLayer(blob: BuiltBlob): BuiltBlob {
  return { ...blob, features: (blob.features & ~BLOB_FEATURE.INLINED_FS_META) >>> 0 }
}

export class LowerLayers {
  /** Tree of the parent. */
  readonly tree: Tree | undefined
  readonly #parent: readonly BuiltBlob[]
  readonly #dict: readonly BuiltBlob[]
  /** Entries of the lists of chunks that belong to the parent. */
  readonly #listed: number

  private constructor(chunks: Chunks, parent: LoadedImage | undefined, dict: LoadedImage | undefined) {
    this.tree = parent?.tree
    this.#parent = (parent?.blobs ?? []).map(asLayer)
    this.#dict = (dict?.blobs ?? []).map(asLayer)
    this.#listed = chunks.listedCount
  }

  static async load(
    options: { readonly parent: string | undefined; readonly chunkDict: string | undefined },
    kind: Kind,
    chunks: Chunks,
  ): Promise<LowerLayers> {
    // Of two equal chunks the first row is found: the dictionary goes before the parent.
    const dict = options.chunkDict === undefined ? undefined : await loadImage(options.chunkDict, chunks, 0)
    if (dict !== undefined) checkKind('--chunk-dict', dict, kind)
    const first = dict?.blobs.length ?? 0
    const parent = options.parent === undefined ? undefined : await loadImage(options.parent, chunks, first)
    if (parent !== undefined) checkKind('--parent-bootstrap', parent, kind)
    return new LowerLayers(chunks, parent, dict)
  }

  /** Number among the chunk rows of the blob that is being built. */
  get ownNumber(): number {
    return this.#dict.length + this.#parent.length
  }

  /**
   * Numbers the blobs as the image's table will have them: all of the parent's, then those of the dictionary and the new
   * ones in the order of their first use. Changes the rows; returns the table, in which a number stands for a new blob: 0 is
   * the one with `ownNumber`.
   */
  settle(chunks: Chunks): (BuiltBlob | number)[] {
    const table: (BuiltBlob | number)[] = [...this.#parent]
    const numbers: (number | undefined)[] = []
    this.#parent.forEach((_, i) => (numbers[this.#dict.length + i] = i))
    const byId = new Map(this.#parent.map((blob, i) => [blob.id, i]))
    const place = (number: number): void => {
      const blob = this.#dict[number]
      const known = blob === undefined ? undefined : byId.get(blob.id)
      numbers[number] = known ?? table.length
      if (known === undefined) table.push(blob ?? number - this.ownNumber)
    }
    for (let at = this.#listed; at < chunks.listedCount; at++) {
      const number = chunks.blob(chunks.listed(at))
      if (numbers[number] === undefined) place(number)
    }
    // Own chunks of files that others replaced later are in the blob all the same.
    for (let row = 0; row < chunks.rows; row++) {
      const number = chunks.blob(row)
      if (number >= this.ownNumber && numbers[number] === undefined) place(number)
      chunks.setBlob(row, numbers[number] ?? number)
    }
    return table
  }
}
