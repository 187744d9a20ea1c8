/** A Debian root file system and its images: what benchmarks take for a real container. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

/** A Debian 12 with these packages (separated by commas) as a folder, unless it is there. Needs root. */
export function debianTree(tree: string, packages: string): void {
  if (existsSync(join(tree, 'usr/bin'))) return
  mkdirSync(tree, { recursive: true })
  execFileSync('debootstrap', ['--variant=minbase', `--include=${packages}`, 'bookworm', tree], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
}

/** The image of `tree` by our nydus-image with these arguments; made once for both. */
export function rafsImage(
  cache: string,
  tree: string,
  words: readonly string[],
): { bootstrap: string; blobs: string } {
  const key = createHash('sha256')
    .update([tree, ...words].join('\n'))
    .digest('hex')
  const folder = join(cache, `image-${key.slice(0, 16)}`)
  const [bootstrap, blobs] = [join(folder, 'bootstrap'), join(folder, 'blobs')]
  if (existsSync(bootstrap)) return { bootstrap, blobs }
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(blobs, { recursive: true })
  execFileSync('dist/bin/nydus-image', ['create', ...words, '-B', bootstrap, '-D', blobs, tree], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return { bootstrap, blobs }
}
