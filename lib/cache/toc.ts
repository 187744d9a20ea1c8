/**
 * A blob's table of contents (rafs-v6.md §9): entries, then a tar header named `rafs.blob.toc`, at the very end.
 */
import { createHash } from 'node:crypto'
import type { BlobReader, ReadOptions } from '../backend/backend.js'
import { NydusError, type Code } from '../base/errors.js'
import type { BlobInfo } from './cache.js'
import { TarHeader, TOC_NAME, TocEntry } from './layout.js'

/** Five kinds of entries exist; a table of contents that claims many more is none. */
const MAX_ENTRIES = 64

export interface TocSection {
  /** sha256 of the uncompressed content. */
  readonly digest: Uint8Array
  readonly offset: number
  readonly storedSize: number
  readonly uncompressedSize: number
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return Buffer.from(bytes.subarray(0, end < 0 ? bytes.length : end)).toString('latin1')
}

function bad(blob: string, what: string): NydusError {
  const code: Code = 'CACHE_BAD_TOC'
  return new NydusError(code, 'EIO', `blob ${blob}: its table of contents is damaged: ${what}`)
}

/** Name and content size of the tar header that ends at the end of `bytes`. */
function lastHeader(blob: string, bytes: Uint8Array): { name: string; size: number } {
  const header = TarHeader.read(bytes, bytes.byteLength - TarHeader.size)
  const size = Number.parseInt(text(header.size), 8)
  if (!Number.isSafeInteger(size) || size < 0) throw bad(blob, 'its tar header has no size')
  return { name: text(header.name), size }
}

/** Sections by name, from entries and their tar header. `digest`: sha256 of both, when the image says what it is. */
export function parseToc(blob: string, bytes: Uint8Array, digest?: Uint8Array): Map<string, TocSection> {
  const entriesSize = bytes.byteLength - TarHeader.size
  if (entriesSize < 0 || entriesSize % TocEntry.size !== 0 || entriesSize > MAX_ENTRIES * TocEntry.size)
    throw bad(blob, `it has ${bytes.byteLength} bytes`)
  const { name, size } = lastHeader(blob, bytes)
  if (name !== TOC_NAME.TOC || size !== entriesSize)
    throw bad(blob, `its tar header names ${JSON.stringify(name)} with ${size} bytes`)
  if (digest?.some(byte => byte !== 0) === true) {
    const found = createHash('sha256').update(bytes).digest()
    if (!found.equals(digest)) throw bad(blob, `its sha256 is ${found.toString('hex')}`)
  }
  const sections = new Map<string, TocSection>()
  for (let at = 0; at < entriesSize; at += TocEntry.size) {
    const entry = TocEntry.read(bytes, at)
    sections.set(text(entry.name), {
      digest: entry.digest,
      offset: Number(entry.offset),
      storedSize: Number(entry.storedSize),
      uncompressedSize: Number(entry.uncompressedSize),
    })
  }
  return sections
}

/** Reads the table of contents off the end of the blob; its raw bytes. */
export async function readToc(info: BlobInfo, reader: BlobReader, options: ReadOptions): Promise<Uint8Array> {
  const blobSize = await reader.size(options)
  const known = info.toc?.size ?? 0
  const read = async (size: number): Promise<Uint8Array> => {
    if (size > blobSize || size > MAX_ENTRIES * TocEntry.size + TarHeader.size)
      throw bad(info.id, `${size} bytes of ${blobSize}`)
    const bytes = new Uint8Array(size)
    await reader.read(bytes, blobSize - size, options)
    return bytes
  }
  if (known > 0) return await read(known)
  // With an inlined bootstrap the image cannot know the size: its own blob was not finished.
  const { size } = lastHeader(info.id, await read(TarHeader.size))
  return await read(size + TarHeader.size)
}
