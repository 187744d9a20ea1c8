/** Guests of a daemon whose cache must not grow. */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { FuseClient } from '../../../addon/test/fuse-client.js'
import type { Daemon } from '../../../vm-tests/daemon.js'
import type { BuiltImage, SourceFiles } from './built-image.js'
import type { CountingServer } from './counting-server.js'
import { connectGuest, startDaemon } from './daemon.js'
import { inParallel, readFile, type GuestFile } from './guest-tree.js'
import { remoteConfig } from './remote.js'

export const MIB = 1 << 20
/** Files of an image: three times what the cache may hold. */
export const FILES = 160
export const LIMIT = 5 * MIB
/** What may be under way when the limit is reached. */
export const SLACK = 8 * MIB
export const READERS = 16

/** Bytes on the disk. */
export function folderBytes(folder: string): number {
  return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).blocks * 512, 0)
}

/** The same numbers each time. */
function* numbers(seed: number): Generator<number> {
  for (let state = seed; ;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    yield state / 2 ** 32
  }
}

/** An image of some source files, and the server of its blob. */
export interface Served {
  readonly source: SourceFiles
  readonly image: BuiltImage
  readonly server: CountingServer
}

export interface Mounted {
  readonly daemon: Daemon
  readonly fuse: FuseClient
  readonly files: readonly GuestFile[]
  evicted(): Promise<number>
}

/** An image in a daemon of its own, in a cache of at most `size_limit` bytes (0: any). No digests are checked. */
export async function mounted(
  t: Test,
  { source, image, server }: Served,
  workDir: string,
  size_limit = LIMIT,
): Promise<Mounted> {
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  const config = JSON.parse(
    remoteConfig(
      '/a',
      { type: 'http-proxy', config: { addr: server.url } },
      { workDir, digestValidate: false },
    ),
  ) as { device: { cache: { config: object } } }
  Object.assign(config.device.cache.config, { size_limit })
  const body = { fs_type: 'rafs', source: image.bootstrap, config: JSON.stringify(config) }
  await daemon.api('POST', 'mount?mountpoint=/a', body)
  const files = await inParallel(source.paths, path => source.guestFile(fuse, '/a', path))
  const evicted = async (): Promise<number> =>
    ((await daemon.api('GET', 'metrics/blobcache?id=/a')) as { evicted_data_amount: number })
      .evicted_data_amount
  return { daemon, fuse, files, evicted }
}

/** `count` reads of files near a place that moves through the image, and of any others; how they ended. */
export async function readMany(
  { fuse, files }: Mounted,
  count: number,
  seed: number,
): Promise<Record<string, number>> {
  const random = numbers(seed)
  const next = (): number => random.next().value as number
  const picks = Array.from({ length: count }, (_, i) => {
    const near = (i / count) * files.length + next() * 20
    return files[Math.floor(next() < 0.8 ? near : next() * files.length) % files.length]
  })
  const outcomes: Record<string, number> = {}
  await inParallel(
    picks,
    async file => {
      if (file === undefined) return
      const outcome = await readFile(fuse, file)
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
    },
    READERS,
  )
  return outcomes
}
