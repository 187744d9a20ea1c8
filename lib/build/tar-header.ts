/**
 * One 512-byte tar header: POSIX ustar, with the number encodings of GNU tar (base 256) and the records of pax.
 * Names stay bytes throughout: an archive says nothing of their encoding.
 */
import { NydusError } from '../base/errors.js'
import { TarHeader } from '../rafs/layout/v6.js'

export const TAR_BLOCK = TarHeader.size

/** typeflag values (POSIX ustar; L, K, S: GNU; x, g: pax). */
export const TAR_TYPE = {
  FILE: '0',
  OLD_FILE: '\0',
  LINK: '1',
  SYMLINK: '2',
  CHR: '3',
  BLK: '4',
  DIR: '5',
  FIFO: '6',
  CONTIGUOUS: '7',
  PAX: 'x',
  PAX_GLOBAL: 'g',
  GNU_LONG_NAME: 'L',
  GNU_LONG_LINK: 'K',
  GNU_SPARSE: 'S',
} as const

export interface TarFields {
  readonly type: string
  readonly name: Buffer
  readonly linkname: Buffer
  /** Permission bits. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Bytes that follow the header. */
  readonly size: number
  /** Seconds. */
  readonly mtime: number
  readonly devmajor: number
  readonly devminor: number
  /** GNU format: what follows the magic is not a ustar prefix but GNU's own fields. */
  readonly gnu: boolean
}

/** Bytes up to the first NUL. */
export function untilNul(bytes: Uint8Array): Buffer {
  const end = bytes.indexOf(0)
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end))
}

/** Octal digits with blanks and NULs around them, or base 256 when the top bit is set (GNU). */
export function parseNumber(field: Uint8Array, what: string, where: number, hint = ''): number {
  const first = field[0] ?? 0
  if ((first & 0x80) !== 0) {
    const negative = (first & 0x40) !== 0
    let value = BigInt(negative ? (first & 0x7f) - 0x80 : first & 0x7f)
    for (const byte of field.subarray(1)) value = value * 256n + BigInt(byte)
    if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < -BigInt(Number.MAX_SAFE_INTEGER))
      throw bad(where, `${what} ${value} is beyond 2^53`)
    return Number(value)
  }
  const text = Buffer.from(field).toString('latin1').replaceAll('\0', ' ').trim()
  if (text === '') return 0
  if (!/^[0-7]+$/.test(text)) throw bad(where, `${what} is '${text}', octal digits expected${hint}`)
  return Number.parseInt(text, 8)
}

export function bad(where: number, what: string): NydusError {
  return new NydusError('TAR_CORRUPT', 'EINVAL', `tar archive, header at byte ${where}: ${what}`)
}

export function isZeroBlock(block: Uint8Array): boolean {
  return block.every(byte => byte === 0)
}

/** Decodes a header; `where` is its byte offset in the archive, for error messages. */
export function parseTarHeader(block: Uint8Array, where: number): TarFields {
  const h = TarHeader.read(block)
  const stored = parseNumber(h.checksum, 'checksum', where, ': not a tar archive, or a damaged one')
  const at = TarHeader.at.checksum
  let unsigned = 0
  let signed = 0
  for (let i = 0; i < TAR_BLOCK; i++) {
    const byte = i >= at && i < at + h.checksum.length ? 0x20 : (block[i] as number)
    unsigned += byte
    signed += (byte << 24) >> 24
  }
  if (stored !== unsigned && stored !== signed)
    throw bad(where, `checksum is ${stored}, ${unsigned} expected: not a tar archive, or a damaged one`)
  const magic = Buffer.from(h.magic).toString('latin1')
  const gnu = magic === 'ustar  \0'
  const prefix = magic.startsWith('ustar\0') ? untilNul(h.prefix) : Buffer.alloc(0)
  const name = untilNul(h.name)
  return {
    type: String.fromCharCode(h.typeflag),
    name: prefix.length > 0 ? Buffer.concat([prefix, Buffer.from('/'), name]) : name,
    linkname: untilNul(h.linkname),
    mode: parseNumber(h.mode, 'mode', where),
    uid: parseNumber(h.uid, 'uid', where),
    gid: parseNumber(h.gid, 'gid', where),
    size: parseNumber(h.size, 'size', where),
    mtime: parseNumber(h.mtime, 'mtime', where),
    devmajor: parseNumber(h.devmajor, 'devmajor', where),
    devminor: parseNumber(h.devminor, 'devminor', where),
    gnu,
  }
}

/** `key` as Latin-1: xattr names keep their bytes. */
export interface PaxRecord {
  readonly key: string
  readonly value: Buffer
}

/**
 * Records of a pax header: `length SP key = value NL`, length counting itself. Values are bytes: an xattr such as
 * security.capability holds NULs and newlines.
 */
export function parsePax(bytes: Uint8Array, where: number): PaxRecord[] {
  const records: PaxRecord[] = []
  let at = 0
  while (at < bytes.length) {
    if (bytes[at] === 0) break
    const space = bytes.indexOf(0x20, at)
    if (space < 0 || space - at > 12) throw bad(where, 'a pax record without a length')
    const digits = Buffer.from(bytes.subarray(at, space)).toString('latin1')
    const length = Number(digits)
    const end = at + length
    if (!/^[1-9][0-9]*$/.test(digits) || end > bytes.length || end <= space + 1 || bytes[end - 1] !== 0x0a)
      throw bad(where, `a pax record of length '${digits}' that does not end in a line feed`)
    const equals = bytes.indexOf(0x3d, space)
    if (equals < 0 || equals >= end) throw bad(where, "a pax record without '='")
    records.push({
      key: Buffer.from(bytes.subarray(space + 1, equals)).toString('latin1'),
      value: Buffer.from(bytes.subarray(equals + 1, end - 1)),
    })
    at = end
  }
  return records
}
