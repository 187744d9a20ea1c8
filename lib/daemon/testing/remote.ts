/** Images whose blobs come from a server: mounted in a daemon, and compared with what they must show. */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Test } from 'tap'
import type { FuseClient } from '../../../addon/test/fuse-client.js'
import type { Daemon } from '../../../vm-tests/daemon.js'
import { storeBlob } from '../../backend/testing/servers.js'
import { expectedRecords, fixtureNamed, fixtureNamed as imageNamed } from '../../../vm-tests/fixtures.js'
import { guestTree } from './guest-tree.js'

/** A `backend` section: `config` as a version 1 configuration has it. */
export interface RemoteBackend {
  readonly type: string
  readonly config: Readonly<Record<string, unknown>>
}

export interface RemoteOptions {
  /** Where the cache lives; no cache at all when not given. */
  readonly workDir?: string
  readonly digestValidate?: boolean
  /** More keys of the configuration's top level. */
  readonly more?: Readonly<Record<string, unknown>>
}

/** A version 1 configuration, as text. `id` is that of the cache's metrics. */
export function remoteConfig(id: string, backend: RemoteBackend, options: RemoteOptions = {}): string {
  const { workDir, digestValidate = true, more } = options
  const cache = workDir === undefined ? {} : { type: 'blobcache', config: { work_dir: workDir } }
  return JSON.stringify({
    device: { id, backend, cache },
    mode: 'direct',
    digest_validate: digestValidate,
    enable_xattr: true,
    ...more,
  })
}

/** Mounts the fixture image `name`, whose metadata is local and whose blobs are not. */
export async function mountRemote(
  daemon: Daemon,
  mountpoint: string,
  name: string,
  backend: RemoteBackend,
  options: RemoteOptions = {},
): Promise<void> {
  await daemon.api('POST', `mount?mountpoint=${encodeURIComponent(mountpoint)}`, {
    fs_type: 'rafs',
    source: imageNamed(name).bootstrap,
    config: remoteConfig(mountpoint, backend, options),
  })
}

/** The blobs of a fixture image by their ids. */
export function blobsOf(name: string): Map<string, Buffer> {
  const folder = imageNamed(name).blobs
  return new Map(readdirSync(folder).map(file => [basename(file), readFileSync(join(folder, file))]))
}

/** Puts the blobs of fixture images into the folder of a docker-registry. */
export function pushImages(dir: string, repo: string, names: readonly string[]): void {
  for (const name of names) for (const [id, blob] of blobsOf(name)) storeBlob(dir, repo, blob, id)
}

/** Mounts each image at `where/NAME`, compares all that the guest sees of it, and unmounts it. */
export async function showsImages(
  t: Test,
  guest: { readonly daemon: Daemon; readonly fuse: FuseClient },
  where: string,
  names: readonly string[],
  backend: RemoteBackend,
  options: RemoteOptions = {},
): Promise<void> {
  for (const name of names) {
    const mountpoint = `${where}/${name}`
    await mountRemote(guest.daemon, mountpoint, name, backend, options)
    const tree = await guestTree(guest.fuse, mountpoint)
    t.strictSame(tree, expectedRecords(fixtureNamed(name)), `${name} from ${where.slice(1)}`)
    await guest.daemon.umount(mountpoint)
  }
}
