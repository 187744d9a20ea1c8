/**
 * From stored bytes to checked plain chunks: decrypt, decompress, verify. Synchronous and CPU-bound: for chunk
 * Workers (and tests).
 */
import { crc32c } from '@node-rs/crc32'
import { createDecipheriv } from 'node:crypto'
import { digestOf } from '../base/digest.js'
import { NydusError } from '../base/errors.js'
import { native } from '../native.js'
import type { Compressor, Digester } from './cache.js'
import type { ZranEntry } from './unit.js'

/** How all units of a blob are coded. */
export interface Coding {
  readonly compressor: Compressor
  readonly digester: Digester
  readonly cipher?: { readonly key: Uint8Array; readonly iv: Uint8Array }
}

/** How one unit is coded. */
export interface UnitCoding {
  readonly compressed: boolean
  readonly encrypted: boolean
  readonly outputSize: number
  readonly zran?: ZranEntry
}

/** Shortest unit that XTS can encrypt; shorter ones are padded (blobs-and-cache.md §5). */
const XTS_MIN = 16
const XTS_PADDED = 18
const XTS_MARK = [0x78, 0x90] as const

/** Decrypts one AES-128-XTS data unit and takes off its padding. */
export function decrypt(coding: Coding, unit: Uint8Array): Uint8Array {
  if (coding.cipher === undefined)
    throw new NydusError('CACHE_NO_KEY', 'EIO', 'it is encrypted, but the image has no key for this blob')
  if (unit.byteLength < XTS_MIN)
    throw new NydusError('CODEC_CORRUPT', 'EIO', `${unit.byteLength} bytes are too short for AES-XTS`)
  const decipher = createDecipheriv('aes-128-xts', coding.cipher.key, coding.cipher.iv)
  const plain = decipher.update(unit)
  decipher.final()
  const pad = plain[XTS_MIN - 1] ?? 0
  const padded =
    plain.byteLength === XTS_PADDED && plain[XTS_MIN] === XTS_MARK[0] && plain[XTS_MIN + 1] === XTS_MARK[1]
  return padded && pad >= 1 && pad <= XTS_MIN ? plain.subarray(0, XTS_MIN - pad) : plain
}

/** Decodes a unit into `scratch` (or finds it in `stored`); returns its `outputSize` bytes. Throws CODEC_CORRUPT. */
export function decodeUnit(
  coding: Coding,
  unit: UnitCoding,
  stored: Uint8Array,
  scratch: Uint8Array,
): Uint8Array {
  const input = unit.encrypted ? decrypt(coding, stored) : stored
  if (!unit.compressed && unit.zran === undefined) {
    if (input.byteLength !== unit.outputSize) throw wrongSize(input.byteLength, unit.outputSize)
    return input
  }
  const output = scratch.subarray(0, unit.outputSize)
  const written = decompress(coding.compressor, unit.zran, input, output)
  if (written !== unit.outputSize) throw wrongSize(written, unit.outputSize)
  return output
}

function decompress(
  compressor: Compressor,
  zran: ZranEntry | undefined,
  input: Uint8Array,
  output: Uint8Array,
): number {
  if (zran !== undefined) {
    native.zranInflate(input, zran.dictionary, zran.byte, zran.bits, output)
    return output.byteLength
  }
  switch (compressor) {
    case 'lz4_block':
      return native.lz4Decompress(input, output)
    case 'zstd':
      return native.zstdDecompress(input, output)
    case 'gzip':
      return inflateStart(input, output)
    case 'none':
      throw new NydusError('CODEC_CORRUPT', 'EIO', 'it is marked compressed in a blob without compression')
  }
}

/** The first plain bytes of a gzip member: in stargz, the next files' headers stand behind a chunk in its member. */
function inflateStart(input: Uint8Array, output: Uint8Array): number {
  const progress = new Float64Array(4)
  native.createGzipIndexer().step(input, output, progress)
  return progress[1] ?? 0
}

function wrongSize(found: number, expected: number): NydusError {
  return new NydusError('CODEC_CORRUPT', 'EIO', `it decodes to ${found} bytes instead of ${expected}`)
}

/** What a plain chunk must match. */
export interface Expected {
  readonly digest?: Uint8Array
  readonly crc32?: number
}

/** Why `plain` is not the expected chunk; undefined when it is. The digest decides when there is one. */
export function mismatch(digester: Digester, plain: Uint8Array, expected: Expected): string | undefined {
  if (expected.digest !== undefined) {
    const found = digestOf(digester, plain)
    if (found.equals(expected.digest)) return undefined
    const wanted = Buffer.from(expected.digest).toString('hex')
    return `its ${digester} digest is ${found.toString('hex')}, the image says ${wanted}`
  }
  if (expected.crc32 !== undefined) {
    const found = crc32c(plain)
    return found === expected.crc32
      ? undefined
      : `its CRC-32C is 0x${found.toString(16)}, the image says 0x${expected.crc32.toString(16)}`
  }
  return undefined
}
