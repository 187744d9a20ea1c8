/**
 * Sections of a blob behind its chunks (rafs-v6.md §9): tar headers that stand behind their content, so that a blob
 * can be streamed out, and a table of contents at the very end.
 */
import { createHash, type Hash } from 'node:crypto'
import { TarHeader, TOC_COMPRESSION, TOC_NAME, TocEntry } from '../rafs/layout/v6.js'
import type { BlobSink } from './blob-sink.js'

const GNU_MAGIC = 'ustar  \0'
const FILE_TYPE = 0x30

/** A header as the reference builder writes it: name, size and checksum, nothing of owner or mode. */
export function sectionHeader(name: string, size: number): Uint8Array {
  const out = new Uint8Array(TarHeader.size)
  const value = {
    name: Buffer.from(name, 'latin1'),
    size: Buffer.from(`${size.toString(8).padStart(11, '0')}\0`, 'latin1'),
    mtime: Buffer.from(`${'0'.repeat(11)}\0`, 'latin1'),
    typeflag: FILE_TYPE,
    magic: Buffer.from(GNU_MAGIC, 'latin1'),
  }
  TarHeader.write(out, { ...value, checksum: Buffer.from(' '.repeat(8), 'latin1') })
  const sum = out.reduce((total, byte) => total + byte, 0)
  TarHeader.write(out, { ...value, checksum: Buffer.from(`${sum.toString(8).padStart(7, '0')}\0`, 'latin1') })
  return out
}

interface Entry {
  readonly name: string
  readonly compression: number
  readonly digest: Uint8Array
  readonly offset: number
  readonly storedSize: number
  readonly uncompressedSize: number
}

/** Collects the table of contents while the sections are written. */
export class Sections {
  readonly #sink: BlobSink
  readonly #entries: Entry[] = []

  constructor(sink: BlobSink) {
    this.#sink = sink
  }

  /** The chunks have been written and hashed by the sink: closes their section. `uncompressedSize`: of the plain blob. */
  async endData(compressor: number, uncompressedSize: number): Promise<void> {
    const { size, offset } = this.#sink
    await this.#sink.write(sectionHeader(TOC_NAME.BLOB_DATA, size))
    this.#entries.push({
      name: TOC_NAME.BLOB_DATA,
      compression: compressor,
      // Of the data and its header: that is what the reference builder hashes (rafs-v6.md §9, trap 1).
      digest: Buffer.from(this.#sink.digest(), 'hex'),
      offset: offset - size,
      storedSize: size,
      uncompressedSize,
    })
  }

  /** An entry for bytes at `offset` that are written already. */
  note(name: string, compression: number, plain: Uint8Array, offset: number, storedSize: number): void {
    const hash: Hash = createHash('sha256').update(plain)
    this.#entries.push({
      name,
      compression,
      digest: hash.digest(),
      offset,
      storedSize,
      uncompressedSize: plain.length,
    })
  }

  async header(name: string, size: number): Promise<void> {
    await this.#sink.write(sectionHeader(name, size))
  }

  /** Writes the table and its header; returns its bytes and digest, as blob tables keep them. */
  async finish(): Promise<{ size: number; digest: Uint8Array }> {
    const table = new Uint8Array(this.#entries.length * TocEntry.size)
    this.#entries.forEach((entry, i) =>
      TocEntry.write(
        table,
        {
          flags: entry.compression,
          name: Buffer.from(entry.name, 'latin1'),
          digest: entry.digest,
          offset: BigInt(entry.offset),
          storedSize: BigInt(entry.storedSize),
          uncompressedSize: BigInt(entry.uncompressedSize),
        },
        i * TocEntry.size,
      ),
    )
    const header = sectionHeader(TOC_NAME.TOC, table.length)
    await this.#sink.write(table)
    await this.#sink.write(header)
    return {
      size: table.length + header.length,
      digest: createHash('sha256').update(table).update(header).digest(),
    }
  }
}

export function tocCompression(compressor: 'none' | 'lz4_block' | 'zstd' | 'gzip'): number {
  return compressor === 'zstd'
    ? TOC_COMPRESSION.ZSTD
    : compressor === 'lz4_block'
      ? TOC_COMPRESSION.LZ4_BLOCK
      : TOC_COMPRESSION.NONE
}
