/** Opens a tar archive, whatever it is packed with: the name of a file says nothing of that, its first bytes do. */
import type { Hash } from 'node:crypto'
import { NydusError } from '../base/errors.js'
import { ByteSource, type Bytes } from './byte-source.js'
import { StargzWatch } from './estargz.js'
import { GzipSource } from './gzip-source.js'
import { openSource } from './source-stream.js'
import type { TarEntry } from './tar-reader.js'
import { readTarSource, type TarVisitor } from './tar-source.js'
import type { Tree } from './tree.js'
import { openZstd } from './zstd-source.js'

/** RFC 1952 §2.3.1, RFC 8878 §3.1.1. */
const GZIP_MAGIC = Buffer.from([0x1f, 0x8b])
const ZSTD_MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])

export interface RawArchive {
  readonly format: 'gzip' | 'zstd' | 'plain'
  /** All bytes of the file, in order. */
  readonly pieces: AsyncIterable<Buffer>
}

/** A file, FIFO or device: it is read once, from start to end. */
export async function openRaw(path: string): Promise<RawArchive> {
  const pieces = openSource(path)
  let head: Buffer = Buffer.alloc(0)
  // A FIFO may bring a byte at a time.
  while (head.length < ZSTD_MAGIC.length) {
    const next = await pieces.next()
    if (next.done === true) break
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value])
  }
  const startsWith = (magic: Buffer): boolean => head.subarray(0, magic.length).equals(magic)
  return {
    format: startsWith(GZIP_MAGIC) ? 'gzip' : startsWith(ZSTD_MAGIC) ? 'zstd' : 'plain',
    pieces: (async function* () {
      if (head.length > 0) yield head
      yield* pieces
    })(),
  }
}

/** The same pieces; `identity` is the digest (hex) and number of the bytes that have passed. */
export function hashed(
  pieces: AsyncIterable<Buffer>,
  hash: Hash,
): { readonly pieces: AsyncIterable<Buffer>; readonly identity: () => { id: string; size: number } } {
  let size = 0
  return {
    pieces: (async function* () {
      for await (const piece of pieces) {
        hash.update(piece)
        size += piece.length
        yield piece
      }
    })(),
    identity: () => ({ id: hash.copy().digest('hex'), size }),
  }
}

export interface Archive {
  /** The plain bytes. */
  readonly bytes: Bytes
  /** For `TarVisitor.skipped`. */
  readonly skipped?: (name: string, entry: TarEntry) => Promise<void>
  /** Throws when the archive, read to its end, is not what it should be. */
  readonly check?: (tree: Tree) => void
}

/** A gzip file; with `estargz` its table of contents must agree with it. */
export function openGzip(
  path: string,
  pieces: AsyncIterable<Buffer>,
  estargz: boolean,
): Archive & { readonly bytes: GzipSource } {
  if (!estargz) return { bytes: new GzipSource(path, pieces) }
  const watch = new StargzWatch(path)
  const bytes = new GzipSource(path, watch.watch(pieces))
  return {
    bytes,
    skipped: (name, entry) => watch.skipped(name, entry, bytes.place().border),
    check: tree => watch.finish(tree),
  }
}

export async function openArchive(path: string, estargz: boolean): Promise<Archive> {
  const { format, pieces } = await openRaw(path)
  if (format === 'gzip') return openGzip(path, pieces, estargz)
  if (estargz) throw notGzip(path)
  return { bytes: format === 'zstd' ? await openZstd(path, pieces) : new ByteSource(pieces) }
}

export function notGzip(path: string): NydusError {
  return new NydusError('BUILD_SOURCE', 'EINVAL', `${path} is not in gzip format, eStargz is`)
}

/** The tree of an archive, all of which has been read and checked; what is wrong with it is told with its path. */
export async function readArchive(path: string, archive: Archive, visitor: TarVisitor): Promise<Tree> {
  try {
    const tree = await readTarSource(archive.bytes, {
      ...visitor,
      ...(archive.skipped !== undefined && { skipped: archive.skipped }),
    })
    archive.check?.(tree)
    return tree
  } catch (error) {
    if (!(error instanceof NydusError) || !error.code.startsWith('TAR_')) throw error
    throw new NydusError(error.code, error.errno, `${path}: ${error.message}`, { cause: error.cause })
  }
}
