/** The trees that tests compare, as the fixtures' manifests hold them: one JSON record a path; and how two such lists differ. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

/** Type names by S_IFMT >> 12. */
const TYPES = {
  1: 'fifo',
  2: 'chr',
  4: 'dir',
  6: 'blk',
  8: 'file',
  10: 'symlink',
  12: 'sock',
} as const

export type EntryType = (typeof TYPES)[keyof typeof TYPES]

/** One path. Byte strings are Latin-1: every byte is the code point of the same number. */
export interface ManifestRecord {
  readonly path: string
  readonly type: EntryType
  /** Permission bits. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Seconds. */
  readonly mtime: number
  /** Not for folders. */
  readonly nlink?: number
  readonly size?: number
  readonly sha256?: string
  readonly target?: string
  readonly rdev?: readonly [major: number, minor: number]
  /** Name to hex. */
  readonly xattrs?: Readonly<Record<string, string>>
  /** Why something of it could not be read. */
  readonly error?: string
}

/** What stat tells of an entry. */
export interface Stat {
  /** Type and permissions. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Seconds. */
  readonly mtime: number
  readonly nlink: number
  readonly size: number
  readonly rdev: number
}

/** That as a record: all of it but content, target and xattrs. Throws RangeError for a mode that no entry has. */
export function statRecord(path: string, stat: Stat): ManifestRecord {
  const { mode, uid, gid, mtime, nlink, size, rdev } = stat
  const type = (TYPES as Readonly<Record<number, EntryType>>)[mode >> 12]
  if (type === undefined) throw new RangeError(`${path}: mode ${mode.toString(8)} is of no type`)
  return {
    ...{ path, type, mode: mode & 0o7777, uid, gid, mtime },
    ...(type !== 'dir' && { nlink }),
    ...(type === 'file' && { size }),
    ...((type === 'chr' || type === 'blk') && { rdev: deviceNumbers(rdev) }),
  }
}

/** Linux's 32-bit dev_t (new_encode_dev). */
function deviceNumbers(rdev: number): [major: number, minor: number] {
  return [(rdev >>> 8) & 0xfff, (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)]
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Reads a manifest, one JSON object a line. */
export function readManifest(path: string): ManifestRecord[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as ManifestRecord)
}

/** What `actual` shows otherwise than `expected`, one readable line a path; empty when nothing. */
export function differences(
  expected: readonly ManifestRecord[],
  actual: readonly ManifestRecord[],
): string[] {
  const out: string[] = []
  const left = new Map(actual.map(record => [record.path, record]))
  for (const wanted of expected) {
    const got = left.get(wanted.path)
    left.delete(wanted.path)
    if (got === undefined) out.push(`${wanted.path}: missing`)
    else out.push(...recordDifferences(wanted, got))
  }
  for (const path of left.keys()) out.push(`${path}: should not be there`)
  return out
}

function recordDifferences(wanted: ManifestRecord, got: ManifestRecord): string[] {
  const parts: string[] = []
  const fields = new Set([...Object.keys(wanted), ...Object.keys(got)]) as Set<keyof ManifestRecord>
  for (const field of fields) {
    const [should, is] = [show(field, wanted[field]), show(field, got[field])]
    if (should !== is) parts.push(`${field} is ${is}, should be ${should}`)
  }
  return parts.length === 0 ? [] : [`${wanted.path}: ${parts.join('; ')}`]
}

function show(field: keyof ManifestRecord, value: unknown): string {
  if (value === undefined) return 'absent'
  if (field === 'mode') return Number(value).toString(8)
  if (field === 'xattrs')
    return JSON.stringify(Object.entries(value as object).sort(([a], [b]) => (a < b ? -1 : 1)))
  return JSON.stringify(value)
}
