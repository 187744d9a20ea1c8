/**
 * Reads a tar archive as a stream of entries: ustar, GNU (long names, base 256, sparse) and pax, in any mix, with
 * all names and values as bytes. It says what stands in the archive; what a name or a link means is the business
 * of tar-source.ts.
 */
import type { Bytes } from './byte-source.js'
import {
  bad,
  isZeroBlock,
  parsePax,
  parseTarHeader,
  TAR_BLOCK,
  TAR_TYPE,
  untilNul,
  type PaxRecord,
} from './tar-header.js'
import { inDataMap, oldSparseMap, paxSparse, type SparseMap } from './tar-sparse.js'
import type { Xattr } from './tree.js'

export interface TarEntry {
  /** One of TAR_TYPE; sparse and contiguous files are FILE. */
  readonly type: string
  /** As written in the archive. */
  readonly path: Buffer
  /** Target of LINK and SYMLINK. */
  readonly linkname: Buffer
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Seconds (rounded down; may be negative) and nanoseconds. */
  readonly mtime: number
  readonly mtimeNs: number
  /** Bytes of the file, holes included. */
  readonly size: number
  readonly devmajor: number
  readonly devminor: number
  readonly xattrs: readonly Xattr[]
  /** Byte offset of the header in the archive, for messages; of its data, for images that refer to the archive. */
  readonly headerOffset: number
  readonly dataOffset: number
  readonly sparse: boolean
  /** Fills `into` with the file's next bytes, zeros for holes; returns how many there were. */
  read(into: Uint8Array): Promise<number>
}

const XATTR_PREFIX = 'SCHILY.xattr.'
/** Long names and pax headers: more than any real one. */
const MAX_META = 16 << 20

class Content {
  readonly #source: Bytes
  readonly #map: SparseMap
  readonly #where: number
  #run = 0
  #at = 0
  /** Bytes of the archive that have not been read yet. */
  left: number

  constructor(source: Bytes, map: SparseMap, stored: number, where: number) {
    this.#source = source
    this.#map = map
    this.#where = where
    this.left = stored
  }

  async read(into: Uint8Array): Promise<number> {
    const want = Math.min(into.length, this.#map.size - this.#at)
    let done = 0
    while (done < want) {
      const run = this.#map.runs[this.#run]
      const dataAt = run === undefined ? this.#map.size : run.offset
      if (run !== undefined && this.#at >= run.offset + run.length) {
        this.#run++
        continue
      }
      if (this.#at < dataAt) {
        const n = Math.min(want - done, dataAt - this.#at)
        into.fill(0, done, done + n)
        done += n
        this.#at += n
        continue
      }
      const n = Math.min(
        want - done,
        (run as { offset: number; length: number }).length - (this.#at - dataAt),
      )
      if (n > this.left || (await this.#source.fill(into.subarray(done, done + n))) !== n)
        throw bad(
          this.#where,
          `the archive ends ${this.left} bytes before the end of this file: it is truncated`,
        )
      this.left -= n
      done += n
      this.#at += n
    }
    return done
  }
}

function paxTime(value: Buffer, where: number): [seconds: number, ns: number] {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(value.toString('latin1'))
  if (match === null)
    throw bad(where, `pax mtime is '${value.toString('latin1')}', a decimal number expected`)
  const ns = Number((match[3] ?? '').padEnd(9, '0').slice(0, 9))
  const seconds = Number(match[2])
  if (match[1] !== '-') return [seconds, ns]
  return ns === 0 ? [0 - seconds, 0] : [-seconds - 1, 1_000_000_000 - ns]
}

function paxNumber(value: Buffer, key: string, where: number): number {
  const n = Number(value.toString('latin1'))
  if (!/^-?[0-9]+$/.test(value.toString('latin1')) || !Number.isSafeInteger(n))
    throw bad(where, `pax ${key} is '${value.toString('latin1')}', a number expected`)
  return n
}

/** The entries of an archive, in its order. What an entry's `read` leaves is skipped when the next one is asked for. */
export async function* readTar(source: Bytes): AsyncGenerator<TarEntry> {
  let global: readonly PaxRecord[] = []
  let local: readonly PaxRecord[] = []
  let longName: Buffer | undefined
  let longLink: Buffer | undefined
  const block = new Uint8Array(TAR_BLOCK)
  for (;;) {
    const where = source.offset
    const got = await source.fill(block)
    // Two zero blocks end an archive; an end of file at a header's place is accepted as GNU tar does.
    if (got === 0 || (got === TAR_BLOCK && isZeroBlock(block))) {
      if (got === 0 && where === 0) throw bad(0, 'the archive is empty')
      await source.drain()
      return
    }
    if (got !== TAR_BLOCK)
      throw bad(where, `only ${got} of ${TAR_BLOCK} bytes are there: the archive is truncated`)
    const header = parseTarHeader(block, where)
    if (header.size < 0) throw bad(where, `size ${header.size} is negative`)

    const meta = async (): Promise<Buffer> => {
      if (header.size > MAX_META) throw bad(where, `a name or pax header of ${header.size} bytes`)
      const bytes = Buffer.alloc(header.size)
      const padding = (TAR_BLOCK - (header.size % TAR_BLOCK)) % TAR_BLOCK
      if ((await source.fill(bytes)) !== bytes.length || (await source.skip(padding)) !== padding)
        throw bad(where, 'it ends inside a name or pax header: the archive is truncated')
      return bytes
    }
    if (header.type === TAR_TYPE.GNU_LONG_NAME) longName = untilNul(await meta())
    else if (header.type === TAR_TYPE.GNU_LONG_LINK) longLink = untilNul(await meta())
    else if (header.type === TAR_TYPE.PAX) local = parsePax(await meta(), where)
    else if (header.type === TAR_TYPE.PAX_GLOBAL) global = [...global, ...parsePax(await meta(), where)]
    else {
      const records = [...global, ...local]
      const pax = (key: string): Buffer | undefined => records.findLast(record => record.key === key)?.value
      const number = (key: string, other: number): number => {
        const value = pax(key)
        return value === undefined || value.length === 0 ? other : paxNumber(value, key, where)
      }
      let stored = number('size', header.size)
      if (stored < 0) throw bad(where, `size ${stored} is negative`)
      const isFile =
        header.type === TAR_TYPE.FILE ||
        header.type === TAR_TYPE.OLD_FILE ||
        header.type === TAR_TYPE.CONTIGUOUS ||
        header.type === TAR_TYPE.GNU_SPARSE
      // Links and special files have no data, whatever their size field says.
      if (!isFile && header.type !== TAR_TYPE.DIR) stored = 0
      let map: SparseMap = { size: isFile ? stored : 0, runs: isFile ? [{ offset: 0, length: stored }] : [] }
      const padded = stored + ((TAR_BLOCK - (stored % TAR_BLOCK)) % TAR_BLOCK)
      let taken = 0
      let sparse = false
      const paxMap = isFile ? paxSparse(records, where) : undefined
      if (header.type === TAR_TYPE.GNU_SPARSE) map = await oldSparseMap(block, source, where)
      const dataOffset = source.offset
      if (paxMap?.kind === 'map') map = paxMap.map
      else if (paxMap?.kind === 'in-data') [map, taken] = await inDataMap(source, paxMap.size, where)
      if (header.type === TAR_TYPE.GNU_SPARSE || paxMap !== undefined) sparse = true

      const mtime = pax('mtime')
      const [seconds, ns] =
        mtime === undefined || mtime.length === 0 ? [header.mtime, 0] : paxTime(mtime, where)
      const path = paxMap?.name ?? pax('path') ?? longName ?? header.name
      const slash = header.type === TAR_TYPE.OLD_FILE && path.at(-1) === 0x2f
      const content = new Content(source, map, stored - taken, where)
      yield {
        type: slash ? TAR_TYPE.DIR : isFile ? TAR_TYPE.FILE : header.type,
        path,
        linkname: pax('linkpath') ?? longLink ?? header.linkname,
        mode: header.mode & 0o7777,
        uid: number('uid', header.uid),
        gid: number('gid', header.gid),
        mtime: seconds,
        mtimeNs: ns,
        size: map.size,
        devmajor: header.devmajor,
        devminor: header.devminor,
        xattrs: records
          .filter(record => record.key.startsWith(XATTR_PREFIX))
          .map(record => ({
            name: Buffer.from(record.key.slice(XATTR_PREFIX.length), 'latin1'),
            value: record.value,
          })),
        headerOffset: where,
        dataOffset,
        sparse,
        read: into => content.read(into),
      }
      const rest = padded - stored + content.left
      if ((await source.skip(rest)) !== rest)
        throw bad(where, `the archive ends inside '${path.toString('latin1')}': it is truncated`)
      local = []
      longName = undefined
      longLink = undefined
    }
  }
}
