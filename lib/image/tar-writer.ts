/**
 * Writes a tar archive: POSIX ustar headers, pax records for what does not fit into them. Our own, because names and
 * xattr values are bytes here: the archivers of npm take text.
 */
import { TAR_BLOCK, TAR_TYPE } from '../build/tar-header.js'
import type { Xattr } from '../build/tree.js'
import { TarHeader } from '../rafs/layout/v6.js'
import type { Output } from './output.js'

export interface TarMember {
  /** One of TAR_TYPE: FILE, LINK, SYMLINK, CHR, BLK, DIR, FIFO. */
  readonly type: string
  /** Relative, folders with a slash at the end. */
  readonly path: Uint8Array
  /** Target of LINK (a path of the archive) and SYMLINK. */
  readonly linkname?: Uint8Array
  /** Permission bits. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Seconds (may be negative) and nanoseconds. */
  readonly mtime: number
  readonly mtimeNs: number
  /** Bytes of content that follow; 0 for all but FILE. */
  readonly size: number
  readonly devmajor?: number
  readonly devminor?: number
  readonly xattrs: readonly Xattr[]
}

/** magic and version of POSIX ustar, in the field that GNU fills as one. */
const USTAR_MAGIC = Buffer.from('ustar\x0000', 'latin1')
const NAME_LENGTH = TarHeader.fields.name[0]
const PREFIX_LENGTH = TarHeader.fields.prefix[0]
const SLASH = 0x2f
/** Archives are padded to records of 20 blocks. */
const RECORD = 20 * TAR_BLOCK
const NS_DIGITS = 9

/** The octal digits and NUL of a numeric field; undefined when the number has no place there. */
function octal(value: number, bytes: number): Uint8Array | undefined {
  if (value < 0 || value >= 8 ** (bytes - 1)) return undefined
  return Buffer.from(`${value.toString(8).padStart(bytes - 1, '0')}\0`, 'latin1')
}

/** A path of more than 100 bytes, cut at a slash into prefix and name; undefined when that does not fit either. */
function splitPath(path: Uint8Array): { prefix: Uint8Array; name: Uint8Array } | undefined {
  if (path.length <= NAME_LENGTH) return { prefix: new Uint8Array(0), name: path }
  const slash = path.indexOf(SLASH, path.length - NAME_LENGTH - 1)
  if (slash <= 0 || slash > PREFIX_LENGTH || slash === path.length - 1) return undefined
  return { prefix: path.subarray(0, slash), name: path.subarray(slash + 1) }
}

/** `length SP key = value NL`; the length counts its own digits. */
function paxRecord(key: Uint8Array, value: Uint8Array): Buffer {
  const rest = key.length + value.length + 3
  let length = rest + String(rest).length
  if (rest + String(length).length !== length) length++
  return Buffer.concat([Buffer.from(`${length} `), key, Buffer.from('='), value, Buffer.from('\n')])
}

/** Decimal seconds; a time before 1970 counts down from zero: -3 s + 0.5 s is -2.5. */
export function paxTime(seconds: number, ns: number): string {
  if (ns === 0) return String(seconds)
  const [whole, part, sign] = seconds < 0 ? [-(seconds + 1), 1e9 - ns, '-'] : [seconds, ns, '']
  return `${sign}${whole}.${String(part).padStart(NS_DIGITS, '0').replace(/0+$/, '')}`
}

/** A key ends at the first '='; GNU tar escapes one inside a name, and knows its escapes by these two. */
function xattrKey(name: Uint8Array): Buffer {
  const text = Buffer.from(name).toString('latin1')
  const safe = /=|%3D|%25/.test(text) ? text.replaceAll('%', '%25').replaceAll('=', '%3D') : text
  return Buffer.from(`SCHILY.xattr.${safe}`, 'latin1')
}

/** What takes an archive's bytes. */
export type TarOutput = Pick<Output, 'write' | 'zeros' | 'offset'>

export class TarWriter {
  readonly #output: TarOutput
  #left = 0

  constructor(output: TarOutput) {
    this.#output = output
  }

  /** Starts a member; `size` bytes of content follow by `content`. */
  async member(member: TarMember): Promise<void> {
    const pax: Buffer[] = []
    const text = (key: string, value: string | Uint8Array): void => {
      pax.push(paxRecord(Buffer.from(key), typeof value === 'string' ? Buffer.from(value) : value))
    }
    const number = (key: string, value: number, bytes: number): Uint8Array => {
      const field = octal(value, bytes)
      if (field === undefined) text(key, String(value))
      return field ?? octalZero(bytes)
    }
    const { fields } = TarHeader
    const path = splitPath(member.path)
    if (path === undefined) text('path', member.path)
    const linkname = member.linkname ?? new Uint8Array(0)
    if (linkname.length > fields.linkname[0]) text('linkpath', linkname)
    const mtime = member.mtimeNs === 0 ? octal(member.mtime, fields.mtime[0]) : undefined
    if (mtime === undefined) text('mtime', paxTime(member.mtime, member.mtimeNs))
    const header = {
      name: path?.name ?? member.path.subarray(0, NAME_LENGTH),
      mode: octal(member.mode, fields.mode[0]) ?? octalZero(fields.mode[0]),
      uid: number('uid', member.uid, fields.uid[0]),
      gid: number('gid', member.gid, fields.gid[0]),
      size: number('size', member.size, fields.size[0]),
      mtime: mtime ?? octal(Math.max(0, member.mtime), fields.mtime[0]) ?? octalZero(fields.mtime[0]),
      typeflag: member.type.charCodeAt(0),
      linkname: linkname.subarray(0, fields.linkname[0]),
      devmajor: octal(member.devmajor ?? 0, fields.devmajor[0]) ?? octalZero(fields.devmajor[0]),
      devminor: octal(member.devminor ?? 0, fields.devminor[0]) ?? octalZero(fields.devminor[0]),
      prefix: path?.prefix ?? new Uint8Array(0),
    }
    for (const { name, value } of member.xattrs) pax.push(paxRecord(xattrKey(name), value))
    if (pax.length > 0) await this.#pax(Buffer.concat(pax), member)
    await this.#output.write(headerBlock(header))
    this.#left = member.size
  }

  async #pax(records: Buffer, member: TarMember): Promise<void> {
    const { fields } = TarHeader
    const name = Buffer.concat([Buffer.from('PaxHeaders/'), lastPart(member.path)]).subarray(0, NAME_LENGTH)
    await this.#output.write(
      headerBlock({
        name,
        mode: octal(0o644, fields.mode[0]) ?? octalZero(fields.mode[0]),
        size: octal(records.length, fields.size[0]) ?? octalZero(fields.size[0]),
        mtime: octalZero(fields.mtime[0]),
        typeflag: TAR_TYPE.PAX.charCodeAt(0),
      }),
    )
    await this.#output.write(records)
    await this.#pad()
  }

  /** The next bytes of the member's content. */
  async content(bytes: Uint8Array): Promise<void> {
    await this.#output.write(bytes)
    await this.#wrote(bytes.length)
  }

  /** A hole of that many bytes. */
  async zeros(count: number): Promise<void> {
    await this.#output.zeros(count)
    await this.#wrote(count)
  }

  async #wrote(count: number): Promise<void> {
    this.#left -= count
    if (this.#left < 0) throw new RangeError(`${-this.#left} bytes more than the member has`)
    if (this.#left === 0) await this.#pad()
  }

  async #pad(): Promise<void> {
    await this.#output.zeros((TAR_BLOCK - (this.#output.offset % TAR_BLOCK)) % TAR_BLOCK)
  }

  /** Two blocks of zeros, then up to a whole record. */
  async end(): Promise<void> {
    const end = this.#output.offset + 2 * TAR_BLOCK
    await this.#output.zeros(Math.ceil(end / RECORD) * RECORD - this.#output.offset)
  }
}

function octalZero(bytes: number): Uint8Array {
  return Buffer.from(`${'0'.repeat(bytes - 1)}\0`, 'latin1')
}

function lastPart(path: Uint8Array): Uint8Array {
  const end = path.at(-1) === SLASH ? path.length - 1 : path.length
  return path.subarray(path.lastIndexOf(SLASH, end - 1) + 1, end)
}

type HeaderFields = Parameters<typeof TarHeader.write>[1]

function headerBlock(value: HeaderFields): Uint8Array {
  const block = new Uint8Array(TAR_BLOCK)
  const fields = { ...value, magic: USTAR_MAGIC }
  TarHeader.write(block, { ...fields, checksum: Buffer.from(' '.repeat(8), 'latin1') })
  const sum = block.reduce((total, byte) => total + byte, 0)
  // Six digits, NUL, space: as POSIX has it.
  TarHeader.write(block, {
    ...fields,
    checksum: Buffer.from(`${sum.toString(8).padStart(6, '0')}\0 `, 'latin1'),
  })
  return block
}
