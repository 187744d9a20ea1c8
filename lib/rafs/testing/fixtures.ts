/** The reference builder's images (vm-tests/fixtures), and what they must show. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { projectRoot } from '../../../vm-tests/project.js'
import type { BlobInfo } from '../../cache/cache.js'
import { Blobs } from '../blobs.js'
import { Bootstrap } from '../bootstrap.js'
import { RafsReader, type ReaderOptions } from '../reader.js'
import { readSuper, type RafsSuper } from '../super.js'

const ROOT = join(projectRoot, 'vm-tests/fixtures')

export interface Expected {
  readonly path: string
  readonly type: 'dir' | 'file' | 'symlink' | 'blk' | 'chr' | 'fifo' | 'sock'
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtime: number
  readonly nlink?: number
  readonly size?: number
  readonly sha256?: string
  readonly target?: string
  readonly rdev?: readonly [major: number, minor: number]
  readonly xattrs?: Readonly<Record<string, string>>
}

export interface Fixture {
  readonly name: string
  /** What to open. */
  readonly bootstrap: string
  readonly manifest: string
}

const BUILT = join(ROOT, 'as-built.jsonl')

function fixture(name: string, manifest: string): Fixture {
  return { name, bootstrap: join(ROOT, name, 'bootstrap'), manifest }
}

export const FIXTURES: readonly Fixture[] = [
  fixture('v5-lz4-blake3', BUILT),
  fixture('v5-zstd-sha256', BUILT),
  fixture('v6-zstd-blake3', BUILT),
  fixture('v6-none', BUILT),
  fixture('v6-lz4-64k', BUILT),
  fixture('v6-batch', BUILT),
  fixture('v6-zran', join(ROOT, 'v6-zran/tree.jsonl')),
  fixture('layers', join(ROOT, 'layers/tree.jsonl')),
  { name: 'v6-toc-inline', bootstrap: onlyFile(join(ROOT, 'v6-toc-inline/blobs')), manifest: BUILT },
]

function onlyFile(folder: string): string {
  return join(folder, readdirSync(folder)[0] ?? '')
}

export function fixtureNamed(name: string): Fixture {
  const found = FIXTURES.find(candidate => candidate.name === name)
  if (found === undefined) throw new Error(`no fixture ${name}`)
  return found
}

export function expected({ manifest }: Fixture): Expected[] {
  const lines = readFileSync(manifest, 'utf8').trimEnd().split('\n')
  return lines.map(line => JSON.parse(line) as Expected)
}

/** Path of a blob of a fixture. */
export function blobPath({ name }: Fixture, { id }: Pick<BlobInfo, 'id'>): string {
  return join(ROOT, name, 'blobs', id)
}

/** A private copy of a bootstrap, to damage. */
export function bytesOf(path: string): Uint8Array {
  return Uint8Array.from(readFileSync(path))
}

export const PLAIN_OPTIONS: ReaderOptions = {
  bootstrapFile: 7,
  xattrs: true,
  validate: false,
  uid: 1234,
  gid: 4321,
}

export interface OpenedBytes {
  readonly sb: RafsSuper
  readonly reader: RafsReader
}

/** The memory of bytes, which must be all of it (or are copied). */
export function memoryOf(bytes: Uint8Array): ArrayBuffer {
  const { buffer, byteOffset, byteLength } = bytes
  const whole = buffer instanceof ArrayBuffer && byteOffset === 0 && byteLength === buffer.byteLength
  return whole ? buffer : Uint8Array.from(bytes).buffer
}

/** A reader over bytes in memory. Throws NydusError for what cannot be opened. */
export function openBytes(bytes: Uint8Array, options: Partial<ReaderOptions> = {}): OpenedBytes {
  const memory = memoryOf(bytes)
  const boot = new Bootstrap(memory, memory.byteLength, 'image')
  const sb = readSuper(boot, 'stem')
  const reader = new RafsReader(boot, sb, new Blobs(sb.blobs, [], []), { ...PLAIN_OPTIONS, ...options })
  return { sb, reader }
}
