/**
 * The tree that hot-path benchmarks read: 100 folders of 100 small files and one large file, the same bytes every time,
 * as a folder and as an image that our own nydus-image built of it. Kept in .cache/bench between runs.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BenchImage } from './servers.js'

export const FOLDERS = 100
export const FILES = 100
export const LARGE_FILE = 'large'
export const LARGE_SIZE = 128 << 20
const SMALL_SIZE = 4096
/** What nydus-image cuts files into unless it is told otherwise. */
export const CHUNK_SIZE = 1 << 20

/** Deterministic, of about half entropy: it compresses, but not to nothing. */
function content(seed: string, size: number): Buffer {
  const out = Buffer.alloc(size)
  let block = createHash('sha256').update(seed).digest()
  for (let at = 0; at < size; at += 64) {
    block = createHash('sha256').update(block).digest()
    block.copy(out, at)
  }
  return out
}

/** Builds tree and image under `cache` unless they are there. */
export function benchImage(cache: string): BenchImage {
  const folder = join(cache, 'tree')
  const image = { folder, bootstrap: join(cache, 'image/bootstrap'), blobs: join(cache, 'image/blobs') }
  if (existsSync(image.bootstrap)) return image
  rmSync(cache, { recursive: true, force: true })
  mkdirSync(image.blobs, { recursive: true })
  for (let d = 0; d < FOLDERS; d++) {
    mkdirSync(join(folder, `dir${d}`), { recursive: true })
    for (let f = 0; f < FILES; f++)
      writeFileSync(join(folder, `dir${d}`, `file-${f}.txt`), content(`${d}/${f}`, SMALL_SIZE))
  }
  writeFileSync(join(folder, LARGE_FILE), content('large', LARGE_SIZE))
  execFileSync('dist/bin/nydus-image', [
    'create',
    '--fs-version',
    '6',
    '--compressor',
    'lz4_block',
    '-B',
    image.bootstrap,
    '-D',
    image.blobs,
    folder,
  ])
  return image
}
