/** Images built on the spot, of files that are easily told apart: for tests that count what is fetched of them. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FuseClient } from '../../../addon/test/fuse-client.js'
import { patternBlob } from '../../backend/testing/blob-server.js'
import { runToolWith } from '../../build/testing/image-tool.js'
import { nodeAt, type GuestFile } from './guest-tree.js'
import { sha256 } from '../../../vm-tests/manifest.js'

export const FILE_SIZE = 100_000

/** A folder with files `/lib/file-00`, `/lib/file-01` … of FILE_SIZE bytes that compress a little at most. */
export class SourceFiles {
  readonly folder: string
  readonly paths: readonly string[]
  readonly #content: Buffer

  constructor(folder: string, count: number) {
    this.folder = folder
    this.#content = patternBlob(count * FILE_SIZE)
    this.paths = Array.from({ length: count }, (_, i) => `/lib/file-${String(i).padStart(2, '0')}`)
    mkdirSync(join(folder, 'lib'), { recursive: true })
    for (const path of this.paths) writeFileSync(folder + path, this.bytes(path))
  }

  bytes(path: string): Buffer {
    const at = this.paths.indexOf(path) * FILE_SIZE
    return this.#content.subarray(at, at + FILE_SIZE)
  }

  /** The file as a guest finds it below `mountpoint`. */
  async guestFile(fuse: FuseClient, mountpoint: string, path: string): Promise<GuestFile> {
    const node = await nodeAt(fuse, mountpoint + path)
    return { path, node, size: FILE_SIZE, sha256: sha256(this.bytes(path)) }
  }
}

export interface BuiltImage {
  readonly bootstrap: string
  /** Folder of its only blob. */
  readonly blobs: string
  readonly blob: Buffer
}

/** `at`: where it goes. `prefetch`: the list on stdin, for `--prefetch-policy`. */
export async function buildImage(
  source: SourceFiles,
  at: string,
  prefetch: string,
  ...more: readonly string[]
): Promise<BuiltImage> {
  mkdirSync(at)
  const bootstrap = `${at}.boot`
  const args = ['create', '--chunk-size', '0x10000', '-B', bootstrap, '-D', at, ...more, source.folder]
  const { code, stderr } = await runToolWith(prefetch, ...args)
  if (code !== 0) throw new Error(`nydus-image create: ${code}: ${stderr}`)
  const [id = ''] = readdirSync(at)
  return { bootstrap, blobs: at, blob: readFileSync(join(at, id)) }
}

/** The files as a tar and the metadata of a tarfs image over it, which needs no other blob than the tar. */
export async function buildTarfs(source: SourceFiles, at: string): Promise<BuiltImage> {
  mkdirSync(at)
  const tar = join(at, 'tar')
  const bootstrap = `${at}.boot`
  execFileSync('tar', ['-C', source.folder, '--sort=name', '-cf', tar, 'lib'])
  const args = ['create', '--type', 'tar-tarfs', '--chunk-size', '0x10000', '-B', bootstrap, tar]
  const { code, stderr } = await runToolWith('', ...args)
  if (code !== 0) throw new Error(`nydus-image create --type tar-tarfs: ${code}: ${stderr}`)
  const blob = readFileSync(tar)
  renameSync(tar, join(at, sha256(blob)))
  return { bootstrap, blobs: at, blob }
}
