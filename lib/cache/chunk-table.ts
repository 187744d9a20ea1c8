/**
 * The chunk table of a RAFS v6 blob ("blob.meta", rafs-v6.md §7), used in place: a table of a million chunks costs
 * no objects until somebody asks for one. It comes from the blob, so nothing in it is believed: every number is
 * checked against the blob's sizes before it is used.
 */
import { NydusError } from '../base/errors.js'
import { bitsOf } from '../base/u64.js'
import { BLOB_FEATURE, type BlobInfo } from './cache.js'
import {
  BatchWindowV6,
  CI_MAGIC,
  CI_V1,
  CI_V2,
  CI_V2_FLAG,
  CiHeaderV6,
  CiRecordV1,
  CiRecordV2,
  V6_COMPRESSOR,
  ZranWindowV6,
} from './layout.js'
import { MAX_OUTPUT, MAX_STORED, windowKey, type Member, type Unit } from './unit.js'

const BLOCK = 4096
/** Chunks of one window; a window of MAX_OUTPUT bytes of 64-byte files has as many. */
const MAX_MEMBERS = 1 << 18

/** Bytes of `<id>.blob.meta`: the plain table, padded to blocks, and its header. */
export function metaFileSize(info: BlobInfo): number {
  return Math.ceil(info.ci.uncompressedSize / BLOCK) * BLOCK + CiHeaderV6.size
}

/** One decoded record. */
export interface TableChunk {
  readonly index: number
  readonly compressedOffset: number
  /** 0 for members of batch windows. */
  readonly compressedSize: number
  readonly uncompressedOffset: number
  readonly uncompressedSize: number
  readonly compressed: boolean
  readonly encrypted: boolean
  readonly crc32?: number
  /** Window and offset in its output, for chunks of batch and zran blobs. */
  readonly window?: { readonly index: number; readonly at: number; readonly kind: 'batch' | 'zran' }
}

/** Of an entry point into a gzip stream: bits in front of its first whole byte, and history (RFC 1951). */
const MAX_BITS = 7
const MAX_DICTIONARY = 32 << 10

export class ChunkTable {
  readonly count: number
  readonly #info: BlobInfo
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #v2: boolean
  readonly #windowOffset: number
  readonly #windowCount: number
  /** End of the window array and dictionaries. */
  readonly #windowEnd: number

  /** `bytes`: content of a blob.meta file. Throws CACHE_BAD_META when it does not belong to `info`. */
  constructor(info: BlobInfo, bytes: Uint8Array) {
    this.#info = info
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#v2 = (info.features & BLOB_FEATURE.CHUNK_INFO_V2) !== 0
    if (bytes.byteLength !== metaFileSize(info))
      throw this.#bad(`it has ${bytes.byteLength} bytes, the image says ${metaFileSize(info)}`)
    const header = CiHeaderV6.read(bytes, bytes.byteLength - CiHeaderV6.size)
    const expected = {
      magic: CI_MAGIC,
      magic2: CI_MAGIC,
      ciCompressor: V6_COMPRESSOR.indexOf(info.ci.compressor),
      ciOffset: BigInt(info.ci.offset),
      ciCompressedSize: BigInt(info.ci.compressedSize),
      ciUncompressedSize: BigInt(info.ci.uncompressedSize),
    }
    for (const [name, value] of Object.entries(expected)) {
      const found = header[name as keyof typeof expected]
      if (found !== value) throw this.#bad(`field ${name} of its header is ${found}, expected ${value}`)
    }
    this.count = header.entries
    const recordsEnd = this.count * (this.#v2 ? CiRecordV2.size : CiRecordV1.size)
    const windows = (info.features & (BLOB_FEATURE.BATCH | BLOB_FEATURE.ZRAN)) !== 0
    const windowOffset = Number(header.windowOffset)
    const windowEnd = windowOffset + Number(header.windowBytes)
    if (recordsEnd > info.ci.uncompressedSize)
      throw this.#bad(`${this.count} records do not fit in ${info.ci.uncompressedSize} bytes`)
    // Blobs of a generated chunk dictionary may count differently (rafs-v6.md §5.3).
    const generated = (info.features & BLOB_FEATURE.CHUNK_DICT_GENERATED) !== 0
    if (!generated && info.chunkCount !== this.count)
      throw this.#bad(`it has ${this.count} chunks, the image says ${info.chunkCount}`)
    if (
      windows &&
      (windowOffset < recordsEnd ||
        windowEnd > info.ci.uncompressedSize ||
        windowOffset + header.windowCount * ZranWindowV6.size > windowEnd)
    )
      throw this.#bad(`its ${header.windowCount} windows at ${windowOffset} leave the table`)
    this.#windowOffset = windowOffset
    this.#windowCount = windows ? header.windowCount : 0
    this.#windowEnd = windowEnd
  }

  /** The record of chunk `index`; throws CACHE_BAD_META when there is none or it leaves the blob. */
  chunk(index: number): TableChunk {
    if (!Number.isInteger(index) || index < 0 || index >= this.count)
      throw this.#bad(`chunk ${index} is wanted, it has ${this.count}`)
    const chunk = this.#v2 ? this.#chunkV2(index) : this.#chunkV1(index)
    if (
      chunk.uncompressedSize > this.#info.chunkSize ||
      chunk.uncompressedOffset + chunk.uncompressedSize > this.#info.uncompressedSize
    )
      throw this.#bad(
        `chunk ${index} has ${chunk.uncompressedSize} bytes at ${chunk.uncompressedOffset}: ` +
          `more than a chunk (${this.#info.chunkSize}) or behind the end (${this.#info.uncompressedSize})`,
      )
    return chunk
  }

  /** The key of the unit that holds chunk `index`. */
  unitKey(index: number): number {
    const window = this.chunk(index).window
    return window === undefined ? index : windowKey(window.index)
  }

  /** What must be read and decoded to get at chunk `index`, with all chunks that come along. */
  unit(index: number): Unit {
    const chunk = this.chunk(index)
    const unit = chunk.window === undefined ? this.#plainUnit(chunk) : this.#windowUnit(chunk, chunk.window)
    const end = this.#info.compressedSize
    if (
      unit.outputSize > MAX_OUTPUT ||
      unit.size > MAX_STORED ||
      (unit.open !== true && end > 0 && unit.offset + unit.size > end)
    )
      throw this.#bad(
        `chunk ${index} takes ${unit.size} bytes at ${unit.offset} and becomes ${unit.outputSize}; ` +
          `the blob has ${end} bytes, nothing may exceed ${MAX_OUTPUT}`,
      )
    return unit
  }

  /** Number of the first chunk behind those of `unit`; `count` when there is none. */
  after(unit: Unit): number {
    return (unit.members.at(-1)?.index ?? this.count) + 1
  }

  /** Number of the last chunk in front of those of `unit`; -1 when there is none. */
  before(unit: Unit): number {
    return (unit.members[0]?.index ?? 0) - 1
  }

  #plainUnit(chunk: TableChunk): Unit {
    // Legacy stargz does not tell how long a gzip member is (blobs-and-cache.md §2).
    const stargz = this.#info.compressor === 'gzip' && !this.#v2
    return {
      key: chunk.index,
      offset: chunk.compressedOffset,
      size: stargz ? stargzBound(chunk.uncompressedSize) : chunk.compressedSize,
      ...(stargz && { open: true as const }),
      compressed: stargz || chunk.compressed,
      encrypted: chunk.encrypted,
      outputSize: chunk.uncompressedSize,
      members: [member(chunk, 0)],
    }
  }

  #windowUnit(chunk: TableChunk, at: NonNullable<TableChunk['window']>): Unit {
    if (at.index >= this.#windowCount)
      throw this.#bad(`chunk ${chunk.index} lies in window ${at.index}, it has ${this.#windowCount}`)
    const start = this.#windowOffset + at.index * ZranWindowV6.size
    if (at.kind === 'batch') {
      const { compressedSize, uncompressedSize } = BatchWindowV6.read(this.#bytes, start)
      return {
        key: windowKey(at.index),
        offset: chunk.compressedOffset,
        size: compressedSize,
        compressed: compressedSize !== uncompressedSize,
        encrypted: chunk.encrypted,
        outputSize: uncompressedSize,
        members: this.#membersOf(chunk.index, at.index, uncompressedSize),
      }
    }
    const window = ZranWindowV6.read(this.#bytes, start)
    if (window.bits > MAX_BITS || window.dictionaryLength > MAX_DICTIONARY)
      throw this.#bad(
        `window ${at.index} starts with ${window.bits} bits (at most ${MAX_BITS}) and a dictionary of ` +
          `${window.dictionaryLength} bytes (at most ${MAX_DICTIONARY})`,
      )
    const dictionary =
      this.#windowOffset + this.#windowCount * ZranWindowV6.size + Number(window.dictionaryOffset)
    if (dictionary + window.dictionaryLength > this.#windowEnd)
      throw this.#bad(`the dictionary of window ${at.index} leaves the table`)
    return {
      key: windowKey(at.index),
      offset: Number(window.inOffset),
      size: window.inLength,
      compressed: true,
      encrypted: false,
      outputSize: window.outLength,
      zran: {
        dictionary: this.#bytes.slice(dictionary, dictionary + window.dictionaryLength),
        byte: window.byte,
        bits: window.bits,
      },
      members: this.#membersOf(chunk.index, at.index, window.outLength),
    }
  }

  /** Chunks of window `window`: builders number them in one run. */
  #membersOf(index: number, window: number, outputSize: number): Member[] {
    let first = index
    while (first > 0 && this.chunk(first - 1).window?.index === window) first--
    const members: Member[] = []
    for (let i = first; i < this.count; i++) {
      const chunk = this.chunk(i)
      if (chunk.window?.index !== window) break
      if (members.length === MAX_MEMBERS) throw this.#bad(`window ${window} has too many chunks`)
      if (chunk.window.at + chunk.uncompressedSize > outputSize)
        throw this.#bad(`chunk ${i} leaves its window ${window} of ${outputSize} bytes`)
      members.push(member(chunk, chunk.window.at))
    }
    return members
  }

  #chunkV1(index: number): TableChunk {
    const view = this.#view
    const u = index * CiRecordV1.size + CiRecordV1.at.uncompressed
    const c = index * CiRecordV1.size + CiRecordV1.at.compressed
    const { uncompressed, compressed, sizeBits } = CI_V1
    const uncompressedSize =
      (bitsOf(view, u, uncompressed.size) | (bitsOf(view, u, uncompressed.sizeTop) << sizeBits)) + 1
    const compressedSize =
      (bitsOf(view, c, compressed.size) | (bitsOf(view, c, compressed.sizeTop) << sizeBits)) + 1
    return {
      index,
      compressedOffset: bitsOf(view, c, compressed.offset),
      compressedSize,
      uncompressedOffset: bitsOf(view, u, uncompressed.block) * BLOCK,
      uncompressedSize,
      compressed: compressedSize !== uncompressedSize,
      encrypted: false,
    }
  }

  #chunkV2(index: number): TableChunk {
    const view = this.#view
    const start = index * CiRecordV2.size
    const u = start + CiRecordV2.at.uncompressed
    const c = start + CiRecordV2.at.compressed
    const value = view.getUint32(start + CiRecordV2.at.value, true)
    const window = view.getUint32(start + CiRecordV2.at.window, true)
    const flags = bitsOf(view, u, CI_V2.uncompressed.flags)
    const kind = flags & CI_V2_FLAG.ZRAN ? 'zran' : flags & CI_V2_FLAG.BATCH ? 'batch' : undefined
    return {
      index,
      compressedOffset: bitsOf(view, c, CI_V2.compressed.offset),
      compressedSize: bitsOf(view, c, CI_V2.compressed.size),
      uncompressedOffset: bitsOf(view, u, CI_V2.uncompressed.block) * BLOCK,
      uncompressedSize: bitsOf(view, u, CI_V2.uncompressed.size) + 1,
      compressed: (flags & CI_V2_FLAG.COMPRESSED) !== 0,
      encrypted: (flags & CI_V2_FLAG.ENCRYPTED) !== 0,
      ...(kind === undefined && (flags & CI_V2_FLAG.CRC) !== 0 && { crc32: value }),
      ...(kind !== undefined && { window: { index: window, at: value, kind } as const }),
    }
  }

  #bad(what: string): NydusError {
    return new NydusError(
      'CACHE_BAD_META',
      'EIO',
      `blob ${this.#info.id}: its chunk table is damaged or belongs to another image: ${what}`,
    )
  }
}

function member(chunk: TableChunk, at: number): Member {
  return {
    index: chunk.index,
    at,
    size: chunk.uncompressedSize,
    uncompressedOffset: chunk.uncompressedOffset,
    ...(chunk.crc32 !== undefined && { crc32: chunk.crc32 }),
  }
}

/** Longest gzip member that `size` bytes can become: header, trailer, and 5 bytes per stored block of 16 KiB. */
export function stargzBound(size: number): number {
  return size + 10 + 8 + 5 + 5 * Math.floor(size / (16 << 10)) + 128
}
