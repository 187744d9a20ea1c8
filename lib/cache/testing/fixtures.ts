/** The reference builder's images as the cache's users: every chunk with the digest that it must have. */
import { closeSync, existsSync, openSync, readdirSync, readlinkSync, readSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { digestOf } from '../../base/testing/digest.js'
import { RafsImage } from '../../rafs/image.js'
import type { BlobCache, BlobInfo, CacheConfig, ChunkWant, Fetched } from '../cache.js'

/** Beside the sources; compiled, this module lies one folder deeper. */
const ROOT = ['../../../', '../../../../']
  .map(up => fileURLToPath(new URL(`${up}vm-tests/fixtures`, import.meta.url)))
  .find(path => existsSync(path)) as string

export const FIXTURES = [
  'v5-lz4-blake3',
  'v5-zstd-sha256',
  'v6-zstd-blake3',
  'v6-none',
  'v6-lz4-64k',
  'v6-batch',
  'v6-zran',
  'layers',
  'v6-toc-inline',
] as const
export type FixtureName = (typeof FIXTURES)[number]

export interface Fixture {
  readonly name: string
  /** Folder of the blobs. */
  readonly dir: string
  readonly image: RafsImage
  /** By blob number: each chunk once, in the order of the tree. */
  readonly wants: readonly (readonly ChunkWant[])[]
}

export function fixturePaths(name: FixtureName): { readonly dir: string; readonly bootstrap: string } {
  const dir = join(ROOT, name, 'blobs')
  const inline = name === 'v6-toc-inline'
  return { dir, bootstrap: inline ? join(dir, readdirSync(dir)[0] ?? '') : join(ROOT, name, 'bootstrap') }
}

export async function openFixture(name: FixtureName): Promise<Fixture> {
  const { dir, bootstrap } = fixturePaths(name)
  const image = await RafsImage.open({ path: bootstrap, xattrs: false, validate: true })
  const wants = image.blobs.map((): ChunkWant[] => [])
  const seen = new Set<string>()
  for (const ino of image.files(image.rootIno)) {
    for (const { blob, want } of image.chunks(ino)) {
      const key = `${blob}/${want.uncompressedOffset}`
      if (!seen.has(key)) wants[blob]?.push(want)
      seen.add(key)
    }
  }
  return { name, dir, image, wants }
}

export function firstBlob(fixture: Fixture): { info: BlobInfo; wants: readonly ChunkWant[] } {
  const info = fixture.image.blobs[0]
  const wants = fixture.wants[0]
  if (info === undefined || wants === undefined) throw new Error(`${fixture.name} has no blob`)
  return { info, wants }
}

const PREFETCH = { enable: false, threads: 1, batch_size: 1 << 20, bandwidth_limit: 0, prefetch_all: false }

export function cacheConfig(workDir: string | undefined, validate = false): CacheConfig {
  if (workDir === undefined) return { type: '', compressed: false, validate, prefetch: PREFETCH }
  const filecache = { work_dir: workDir, disable_indexed_map: false }
  return { type: 'blobcache', compressed: false, validate, prefetch: PREFETCH, filecache }
}

/** Bytes of a fetched chunk: from the data file in `workDir`, or from the temporary pool. */
export function bytesOf(fetched: Fetched, i: number, want: ChunkWant, dataPath: string): Uint8Array {
  const place = fetched.placements[i]
  const bytes = new Uint8Array(want.uncompressedSize)
  const named = existsSync(dataPath) ? dataPath : undefined
  const path = place === undefined ? (named ?? unnamedFile(dirname(dataPath))) : unnamedFile('/')
  const fd = openSync(path, 'r')
  readSync(fd, bytes, 0, bytes.byteLength, place?.offset ?? want.uncompressedOffset)
  closeSync(fd)
  return bytes
}

/** The biggest file without a name that this process has below `dir`: its temporary pool, unless told otherwise. */
function unnamedFile(dir: string): string {
  const files = readdirSync('/proc/self/fd').map(fd => join('/proc/self/fd', fd))
  const unnamed = files.filter(path => {
    try {
      const target = readlinkSync(path)
      return target.startsWith(dir) && /\.nydus-\d+-\d+\.tmp \(deleted\)$/.test(target)
    } catch {
      return false
    }
  })
  const biggest = unnamed.toSorted((a, b) => statSync(b).size - statSync(a).size)[0]
  if (biggest === undefined) throw new Error(`there is no unnamed file in ${dir}`)
  return biggest
}

/** The digest that the image gives for a chunk. */
export function expectedDigest(want: ChunkWant): Uint8Array | undefined {
  return want.digest ?? want.record?.digest
}

/** Fetches all wants, a few at a time, and compares each with its digest; returns the wrong ones. */
export async function wrongChunks(
  blob: BlobCache,
  wants: readonly ChunkWant[],
  workDir: string,
): Promise<ChunkWant[]> {
  const wrong: ChunkWant[] = []
  for (let i = 0; i < wants.length; i += 16) {
    const batch = wants.slice(i, i + 16)
    const fetched = await blob.fetch(batch)
    for (const [k, want] of batch.entries()) {
      const bytes = bytesOf(fetched, k, want, join(workDir, `${blob.info.id}.blob.data`))
      const digest = expectedDigest(want)
      if (digest === undefined || !digestOf(blob.info.digester, bytes).equals(digest)) wrong.push(want)
    }
    fetched.release()
  }
  return wrong
}
