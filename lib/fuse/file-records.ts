/**
 * What is noted down of single files of a mount (`iostats_files`, `access_pattern`, `latest_read_files`): a table in
 * shared memory, one part per lane and one of the yard, one writer each. Nothing is allocated, nothing waits.
 *
 *     inode ── hash ── index ── FileRecord, in the order of first use
 *
 * Memory that was never written takes no room: the table costs what files were used, however large the image is.
 */
import { layout } from '../base/layout.js'
import type { FileNotes } from '../vfs/filesystem.js'
import { METRIC, METRIC_COUNT } from './abi.js'
import { SIZE_BUCKETS, sizeBucket } from './counters.js'

/** Files of which a part keeps records: 44 MB when all are used. Others are not noted. */
const MAX_FILES = 1 << 17

const DOUBLE = 8
const FileRecord = layout('FileRecord', 328, {
  ino: 'f64',
  /** Milliseconds since 1970, with fractions; 0: not read. */
  firstRead: 'f64',
  /** Calls by operation, and those that ended with an errno. */
  hits: [METRIC_COUNT * DOUBLE],
  errors: [METRIC_COUNT * DOUBLE],
  bytesRead: 'f64',
  /** Reads by `sizeBucket`. */
  readSizes: [SIZE_BUCKETS * DOUBLE],
})
// A lane counts in numbers.
const RECORD_NUMBERS = FileRecord.size / DOUBLE
const INO = FileRecord.at.ino / DOUBLE
const FIRST_READ = FileRecord.at.firstRead / DOUBLE
const HITS = FileRecord.at.hits / DOUBLE
const ERRORS = FileRecord.at.errors / DOUBLE
const BYTES_READ = FileRecord.at.bytesRead / DOUBLE
const READ_SIZES = FileRecord.at.readSizes / DOUBLE

const CACHE_LINE = 64
/** Head of a part: number of records, and padding to a cache line. */
const HEAD_BYTES = CACHE_LINE
const START = performance.timeOrigin

/** The table of one mount, structured-cloneable. */
export interface FileTable {
  readonly memory: SharedArrayBuffer
  readonly parts: number
  /** Records in a part at most. */
  readonly capacity: number
  /** Every call is counted (`iostats_files`), not only reads. */
  readonly everyCall: boolean
}

/** `parts`: lanes, and one for the yard. */
export function newFileTable(parts: number, inodes: number, everyCall: boolean, most = MAX_FILES): FileTable {
  const capacity = Math.max(1, Math.min(inodes, most))
  return { memory: new SharedArrayBuffer(parts * partBytes(capacity)), parts, capacity, everyCall }
}

/** At most half full, a power of two. */
function indexSize(capacity: number): number {
  return 2 ** Math.ceil(Math.log2(capacity * 2))
}

function lines(bytes: number): number {
  return Math.ceil(bytes / CACHE_LINE) * CACHE_LINE
}

function recordBytes(capacity: number): number {
  return lines(capacity * FileRecord.size)
}

function partBytes(capacity: number): number {
  const words = capacity + indexSize(capacity)
  return lines(HEAD_BYTES + words * 4) + recordBytes(capacity)
}

/** Views of one part. */
class Part {
  readonly count: Uint32Array
  /** By record: 1 when the file was read since somebody asked. */
  readonly fresh: Uint32Array
  /** Record + 1 by hash; 0 is free. */
  readonly index: Uint32Array
  readonly records: Float64Array

  constructor({ memory, capacity }: FileTable, part: number) {
    const start = part * partBytes(capacity)
    const end = start + partBytes(capacity)
    this.count = new Uint32Array(memory, start, 1)
    this.fresh = new Uint32Array(memory, start + HEAD_BYTES, capacity)
    this.index = new Uint32Array(memory, start + HEAD_BYTES + capacity * 4, indexSize(capacity))
    this.records = new Float64Array(memory, end - recordBytes(capacity), capacity * RECORD_NUMBERS)
  }
}

/** The writer of one part. */
export class FileRecords implements FileNotes {
  readonly #part: Part
  readonly #capacity: number
  readonly #everyCall: boolean
  /** The file noted last, and its record. */
  #ino = -1
  #record = -1

  constructor(table: FileTable, part: number) {
    this.#part = new Part(table, part)
    this.#capacity = table.capacity
    this.#everyCall = table.everyCall
  }

  noteCall(ino: number, operation: number, failed: boolean): void {
    if (!this.#everyCall && operation !== METRIC.READ) return
    const record = this.#recordOf(ino)
    if (record < 0) return
    this.#add(record, HITS + operation, 1)
    if (failed) this.#add(record, ERRORS + operation, 1)
  }

  noteRead(ino: number, bytes: number): void {
    const record = this.#recordOf(ino)
    if (record < 0) return
    const { records, fresh } = this.#part
    const at = record * RECORD_NUMBERS
    if (records[at + FIRST_READ] === 0) records[at + FIRST_READ] = START + performance.now()
    this.#add(record, BYTES_READ, bytes)
    this.#add(record, READ_SIZES + sizeBucket(bytes), 1)
    if (fresh[record] === 0) Atomics.store(fresh, record, 1)
  }

  noteLostRead(ino: number, bytes: number): void {
    const record = this.#recordOf(ino)
    if (record < 0) return
    this.#add(record, ERRORS + METRIC.READ, 1)
    this.#add(record, BYTES_READ, -bytes)
    this.#add(record, READ_SIZES + sizeBucket(bytes), -1)
  }

  #add(record: number, field: number, by: number): void {
    const { records } = this.#part
    const at = record * RECORD_NUMBERS + field
    records[at] = (records[at] as number) + by
  }

  /** Record of a file, a new one if need be; -1 when there is no room. */
  #recordOf(ino: number): number {
    if (ino === this.#ino) return this.#record
    const { index, records, count } = this.#part
    const mask = index.length - 1
    let at = (Math.imul(ino, 0x9e37_79b1) >>> 7) & mask
    for (;;) {
      const found = (index[at] as number) - 1
      if (found < 0) break
      if (records[found * RECORD_NUMBERS + INO] === ino) return this.#remember(ino, found)
      at = (at + 1) & mask
    }
    const record = count[0] as number
    if (record >= this.#capacity) return this.#remember(ino, -1)
    records[record * RECORD_NUMBERS + INO] = ino
    index[at] = record + 1
    Atomics.store(count, 0, record + 1)
    return this.#remember(ino, record)
  }

  #remember(ino: number, record: number): number {
    this.#ino = ino
    this.#record = record
    return record
  }
}

/** All that is known of one file, by all parts together. */
export interface FileReport {
  readonly ino: number
  /** Milliseconds since 1970, with fractions; 0: not read. */
  firstRead: number
  readonly hits: number[]
  readonly errors: number[]
  bytesRead: number
  readonly readSizes: number[]
}

/** By inode number. */
export function fileReports(table: FileTable): Map<number, FileReport> {
  const reports = new Map<number, FileReport>()
  for (let p = 0; p < table.parts; p++) {
    const part = new Part(table, p)
    const count = Atomics.load(part.count, 0)
    for (let at = 0; at < count * RECORD_NUMBERS; at += RECORD_NUMBERS)
      addRecord(reports, part.records.subarray(at, at + RECORD_NUMBERS))
  }
  return reports
}

function addRecord(reports: Map<number, FileReport>, record: Float64Array): void {
  const ino = record[INO] ?? 0
  const report = reports.get(ino) ?? {
    ino,
    firstRead: 0,
    hits: new Array<number>(METRIC_COUNT).fill(0),
    errors: new Array<number>(METRIC_COUNT).fill(0),
    bytesRead: 0,
    readSizes: new Array<number>(SIZE_BUCKETS).fill(0),
  }
  reports.set(ino, report)
  const first = record[FIRST_READ] ?? 0
  if (first !== 0 && (report.firstRead === 0 || first < report.firstRead)) report.firstRead = first
  report.bytesRead += record[BYTES_READ] ?? 0
  addTo(report.hits, record, HITS)
  addTo(report.errors, record, ERRORS)
  addTo(report.readSizes, record, READ_SIZES)
}

function addTo(sums: number[], record: Float64Array, from: number): void {
  for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] ?? 0) + (record[from + i] ?? 0)
}

/** Files read since the last call, ascending; each is told once. */
export function takeLatestRead(table: FileTable): number[] {
  const inos = new Set<number>()
  for (let p = 0; p < table.parts; p++) {
    const { count, fresh, records } = new Part(table, p)
    for (let record = 0; record < Atomics.load(count, 0); record++)
      if (Atomics.exchange(fresh, record, 0) === 1) inos.add(records[record * RECORD_NUMBERS + INO] ?? 0)
  }
  return [...inos].sort((a, b) => a - b)
}
