/** The images that ship with the project: what they are and what a faithful server shows of them. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readManifest, type ManifestRecord } from './manifest.js'
import { projectRoot } from './project.js'

export interface Fixture {
  readonly name: string
  /** What is particular about it. */
  readonly about: string
  /** Path of the metadata; for a self-contained image that is its blob. */
  readonly bootstrap: string
  /** Folder of the blobs, each named by its id. */
  readonly blobs: string
  /** Path of the manifest that the mounted image must show. */
  readonly expected: string
}

const folder = join(projectRoot, 'vm-tests/fixtures')

function fixture(name: string, about: string, parts: { expected?: string; inline?: boolean } = {}): Fixture {
  const blobs = join(folder, name, 'blobs')
  const bootstrap =
    parts.inline === true ? join(blobs, readdirSync(blobs)[0] ?? '') : join(folder, name, 'bootstrap')
  return { name, about, bootstrap, blobs, expected: join(folder, parts.expected ?? 'as-built.jsonl') }
}

export const FIXTURES: readonly Fixture[] = [
  fixture('v5-lz4-blake3', 'RAFS v5, lz4, blake3'),
  fixture('v5-zstd-sha256', 'RAFS v5, zstd, sha256'),
  fixture('v6-zstd-blake3', 'RAFS v6, zstd, blake3'),
  fixture('v6-lz4-64k', 'RAFS v6, lz4, sha256, chunks of 64 KiB'),
  fixture('v6-none', 'RAFS v6, uncompressed'),
  fixture('v6-batch', 'RAFS v6, small chunks merged in batches'),
  fixture('v6-toc-inline', 'RAFS v6, one self-contained blob', { inline: true }),
  fixture('v6-zran', 'RAFS v6 over an unmodified OCI layer', { expected: 'v6-zran/tree.jsonl' }),
  fixture('layers', 'three OCI layers merged', { expected: 'layers/tree.jsonl' }),
]

/** The fixture called `name`. */
export function fixtureNamed(name: string): Fixture {
  const found = FIXTURES.find(candidate => candidate.name === name)
  if (found === undefined) throw new RangeError(`no fixture is called ${name}`)
  return found
}

/** The text of the manifest that `fixture` must show. */
export function expectedManifest(from: Fixture): Buffer {
  return readFileSync(from.expected)
}

/** Its records. */
export function expectedRecords(from: Fixture): ManifestRecord[] {
  return readManifest(from.expected)
}
