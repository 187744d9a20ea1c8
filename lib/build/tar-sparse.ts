/**
 * Sparse files in tar archives: GNU's old format (type S, map in the header and in blocks behind it) and the three
 * pax formats 0.0, 0.1 and 1.0 (GNU tar manual, appendix "Sparse Formats"). All give one map: where the archive's
 * data bytes lie in the file; what is between them reads as zeros.
 */
import { layout } from '../base/layout.js'
import { TarHeader } from '../rafs/layout/v6.js'
import { bad, parseNumber, TAR_BLOCK, type PaxRecord } from './tar-header.js'
import type { Bytes } from './byte-source.js'

/** A run of data: bytes `offset … offset + length` of the file. */
export interface SparseRun {
  readonly offset: number
  readonly length: number
}

export interface SparseMap {
  /** Bytes of the expanded file. */
  readonly size: number
  readonly runs: readonly SparseRun[]
}

/** GNU's fields in the place of ustar's prefix. */
const GnuTail = layout('gnu_header_tail', 167, {
  atime: [12],
  ctime: [12],
  offset: [12],
  longnames: [4],
  unused: 'u8',
  map: [96],
  isExtended: 'u8',
  realSize: [12],
  padding: [17],
})
const SparseEntry = layout('gnu_sparse', 24, { offset: [12], length: [12] })
const SparseBlock = layout('gnu_sparse_block', TAR_BLOCK, { map: [504], isExtended: 'u8', padding: [7] })

/** More runs than any real file: stops an archive from filling memory with its map. */
const MAX_RUNS = 1 << 20

function entries(map: Uint8Array, where: number): SparseRun[] {
  const runs: SparseRun[] = []
  for (let at = 0; at + SparseEntry.size <= map.length; at += SparseEntry.size) {
    const entry = SparseEntry.read(map, at)
    if (entry.offset[0] === 0) break
    runs.push({
      offset: parseNumber(entry.offset, 'sparse offset', where),
      length: parseNumber(entry.length, 'sparse length', where),
    })
  }
  return runs
}

function checked(runs: readonly SparseRun[], size: number, where: number): SparseMap {
  let end = 0
  for (const run of runs) {
    if (run.offset < end || run.length < 0 || run.offset + run.length > size)
      throw bad(
        where,
        `sparse map: bytes ${run.offset}+${run.length} overlap or lie beyond the file's ${size}`,
      )
    end = run.offset + run.length
  }
  return { size, runs: runs.filter(run => run.length > 0) }
}

/** Type S: reads the extension blocks, which stand between the header and the data, from the archive. */
export async function oldSparseMap(header: Uint8Array, source: Bytes, where: number): Promise<SparseMap> {
  const tail = GnuTail.read(header, TarHeader.at.prefix)
  const runs = entries(tail.map, where)
  const block = new Uint8Array(TAR_BLOCK)
  for (let more = tail.isExtended !== 0; more;) {
    if ((await source.fill(block)) !== TAR_BLOCK) throw bad(where, 'it ends inside a sparse map')
    const extension = SparseBlock.read(block)
    runs.push(...entries(extension.map, where))
    more = extension.isExtended !== 0
    if (runs.length > MAX_RUNS) throw bad(where, `a sparse map of more than ${MAX_RUNS} runs`)
  }
  return checked(runs, parseNumber(tail.realSize, 'real size', where), where)
}

function decimal(value: Uint8Array | undefined, what: string, where: number): number {
  const text = value === undefined ? '' : Buffer.from(value).toString('latin1')
  const n = Number(text)
  if (!/^[0-9]+$/.test(text) || !Number.isSafeInteger(n))
    throw bad(where, `${what} is '${text}', a number expected`)
  return n
}

/** What a pax header says of sparseness: a map (0.0, 0.1), or that it stands in front of the data (1.0). */
export type PaxSparse =
  | { readonly kind: 'map'; readonly name?: Buffer; readonly map: SparseMap }
  | { readonly kind: 'in-data'; readonly name?: Buffer; readonly size: number }

export function paxSparse(records: readonly PaxRecord[], where: number): PaxSparse | undefined {
  const last = (key: string): Buffer | undefined =>
    records.findLast(record => record.key === `GNU.sparse.${key}`)?.value
  const name = last('name')
  const named = name === undefined ? {} : { name }
  if (last('major')?.toString() === '1')
    return { kind: 'in-data', ...named, size: decimal(last('realsize'), 'GNU.sparse.realsize', where) }
  const size = last('size')
  if (size === undefined) return undefined
  const numbers: number[] = []
  const list = last('map')
  if (list !== undefined) {
    if (list.length > 0)
      for (const part of list.toString('latin1').split(','))
        numbers.push(decimal(Buffer.from(part), 'GNU.sparse.map', where))
  } else
    for (const record of records)
      if (record.key === 'GNU.sparse.offset' || record.key === 'GNU.sparse.numbytes')
        numbers.push(decimal(record.value, record.key, where))
  const runs: SparseRun[] = []
  for (let i = 0; i + 1 < numbers.length; i += 2)
    runs.push({ offset: numbers[i] ?? 0, length: numbers[i + 1] ?? 0 })
  return { kind: 'map', ...named, map: checked(runs, decimal(size, 'GNU.sparse.size', where), where) }
}

/** Format 1.0: decimal numbers, one a line, in whole blocks in front of the data. Returns the map and the bytes it took. */
export async function inDataMap(source: Bytes, size: number, where: number): Promise<[SparseMap, number]> {
  const block = new Uint8Array(TAR_BLOCK)
  let taken = 0
  let digits = ''
  const numbers: number[] = []
  let wanted = 1
  while (numbers.length < wanted) {
    if ((await source.fill(block)) !== TAR_BLOCK) throw bad(where, 'it ends inside a sparse map')
    taken += TAR_BLOCK
    for (const byte of block) {
      if (numbers.length >= wanted) break
      if (byte !== 0x0a) {
        digits += String.fromCharCode(byte)
        if (digits.length > 20) throw bad(where, `a sparse map with '${digits}' where a number is expected`)
        continue
      }
      numbers.push(decimal(Buffer.from(digits), 'sparse map', where))
      digits = ''
      if (numbers.length === 1) wanted = 1 + 2 * (numbers[0] ?? 0)
      if (wanted > 2 * MAX_RUNS) throw bad(where, `a sparse map of more than ${MAX_RUNS} runs`)
    }
  }
  const runs: SparseRun[] = []
  for (let i = 1; i + 1 < numbers.length; i += 2)
    runs.push({ offset: numbers[i] ?? 0, length: numbers[i + 1] ?? 0 })
  return [checked(runs, size, where), taken]
}
