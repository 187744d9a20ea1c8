/**
 * One blob of a finished image, for tools: from a chunk that an image names to the unit (lib/cache/unit.ts) that has
 * to be read and decoded for it. The chunk table of a v6 blob is fetched at the first question.
 */
import type { BlobReader, Backend, ReadOptions } from '../backend/backend.js'
import { NydusError } from '../base/errors.js'
import { BLOB_FEATURE, type BlobInfo, type ChunkWant } from '../cache/cache.js'
import { ChunkTable, metaFileSize } from '../cache/chunk-table.js'
import type { Coding, UnitCoding } from '../cache/coding.js'
import { decodeHere } from '../cache/decoder.js'
import { CiHeaderV6 } from '../cache/layout.js'
import { recordUnit } from '../cache/loose-units.js'
import type { Unit } from '../cache/unit.js'

/** More than 2^24 chunks with their windows take. */
const MAX_TABLE = 1 << 30

export class BlobSource {
  readonly info: BlobInfo
  readonly reader: BlobReader
  readonly #backend: Backend
  readonly #coding: Coding
  #table: Promise<ChunkTable> | undefined
  /** The unit asked for last: the chunks of a window come one after the other, and its list of them is long. */
  #last: Unit | undefined

  /** Asks the backend for nothing yet. */
  constructor(info: BlobInfo, backend: Backend) {
    this.info = info
    this.reader = backend.open(info.id)
    this.#backend = backend
    this.#coding = {
      compressor: info.compressor,
      digester: info.digester,
      ...(info.cipher === undefined ? {} : { cipher: info.cipher }),
    }
  }

  /** Throws CACHE_BAD_META, CACHE_BAD_RECORD, BACKEND_*. */
  async unitOf(want: ChunkWant, options: ReadOptions): Promise<Unit> {
    if (want.record !== undefined) return recordUnit(this.info, want.record)
    const table = await this.table(options)
    if (this.#last?.key !== table.unitKey(want.index)) this.#last = table.unit(want.index)
    return this.#last
  }

  /** The blob's own table of its chunks; v6 only, and not of a tarfs blob. */
  table(options: ReadOptions): Promise<ChunkTable> {
    this.#table ??= this.#fetchTable(options)
    return this.#table
  }

  async #fetchTable(options: ReadOptions): Promise<ChunkTable> {
    const { ci, metaBlobId } = this.info
    if (ci.uncompressedSize > MAX_TABLE || ci.compressedSize > MAX_TABLE || ci.uncompressedSize === 0)
      throw new NydusError(
        'CACHE_BAD_META',
        'EIO',
        `blob ${this.info.id}: a chunk table of ${ci.compressedSize} to ${ci.uncompressedSize} bytes cannot be`,
      )
    const reader = metaBlobId === undefined ? this.reader : this.#backend.open(metaBlobId)
    try {
      const stored = new Uint8Array(ci.compressedSize + CiHeaderV6.size)
      await reader.read(stored, ci.offset, options)
      return new ChunkTable(this.info, this.#decodeTable(stored))
    } finally {
      if (reader !== this.reader) await reader.close()
    }
  }

  /** In the shape of a cache's blob.meta file, which is what ChunkTable reads. */
  #decodeTable(stored: Uint8Array): Uint8Array {
    const { ci } = this.info
    const encrypted = (this.info.features & BLOB_FEATURE.ENCRYPTED) !== 0
    const out = new Uint8Array(metaFileSize(this.info))
    const table = {
      compressed: ci.compressor !== 'none',
      encrypted,
      outputSize: ci.uncompressedSize,
    }
    const header = { compressed: false, encrypted, outputSize: CiHeaderV6.size }
    const coding = { ...this.#coding, compressor: ci.compressor }
    const wrong =
      wrongWith(coding, table, stored.subarray(0, ci.compressedSize), out) ??
      wrongWith(
        coding,
        header,
        stored.subarray(ci.compressedSize),
        out.subarray(out.length - CiHeaderV6.size),
      )
    if (wrong === undefined) return out
    throw new NydusError(
      'CACHE_BAD_META',
      'EIO',
      `blob ${this.info.id}: its chunk table (${ci.compressedSize} bytes at ${ci.offset}) does not decode: ${wrong}`,
    )
  }

  /** The plain bytes of a unit, in memory of their own. */
  decode(unit: Unit, stored: Uint8Array): Uint8Array {
    const out = new Uint8Array(unit.outputSize)
    const wrong = wrongWith(this.#coding, unit, stored, out)
    if (wrong === undefined) return out
    throw this.#damaged(`${unit.size} bytes at ${unit.offset} do not decode: ${wrong}`)
  }

  /** The chunk's bytes out of its unit's; throws IMAGE_DAMAGED when they are not what the image says. */
  chunkOf(want: ChunkWant, unit: Unit, output: Uint8Array): Uint8Array {
    // Builders number the chunks of a unit in one run.
    const member = unit.members[want.index - (unit.members[0]?.index ?? 0)]
    if (
      member === undefined ||
      member.uncompressedOffset !== want.uncompressedOffset ||
      member.size !== want.uncompressedSize
    )
      throw this.#damaged(
        `chunk ${want.index} has ${want.uncompressedSize} bytes at ${want.uncompressedOffset} for the image, ` +
          'the blob says otherwise: they do not belong together',
      )
    const bytes = output.subarray(member.at, member.at + member.size)
    const digest = want.digest ?? want.record?.digest
    const plain = { compressed: false, encrypted: false, outputSize: bytes.length }
    const expected = {
      at: 0,
      size: bytes.length,
      ...(digest && { digest }),
      ...(member.crc32 !== undefined && { crc32: member.crc32 }),
    }
    const wrong = decodeHere(this.#coding, plain, [expected], bytes).get(0)?.message
    if (wrong !== undefined) throw this.#damaged(`chunk ${want.index} is damaged: ${wrong}`)
    return bytes
  }

  #damaged(what: string, cause?: unknown): NydusError {
    return new NydusError('IMAGE_DAMAGED', 'EIO', `blob ${this.info.id}: ${what}`, { cause })
  }

  close(): Promise<void> {
    return this.reader.close()
  }
}

/** Puts a unit's plain bytes into `out`; what is wrong with it, if anything is. */
function wrongWith(
  coding: Coding,
  unit: UnitCoding,
  stored: Uint8Array,
  out: Uint8Array,
): string | undefined {
  return decodeHere(coding, unit, [], stored, out).get(0)?.message
}
