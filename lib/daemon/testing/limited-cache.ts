/** Guests of a daemon whose cache must not grow. */
import { mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import type { FuseClient } from '../../../addon/test/fuse-client.js'
import type { Daemon } from '../../../vm-tests/daemon.js'
import type { BuiltImage, SourceFiles } from './built-image.js'
import type { CountingServer } from './counting-server.js'
import { connectGuest, startDaemon } from './daemon.js'
import { inParallel, readFile, type GuestFile } from './guest-tree.js'
import { remoteConfig } from './remote.js'
import { tempDir } from './temp-dir.js'

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

/** Bytes of the folder, once they are within the limit or it took too long: it is soft while much comes at once. */
async function settledBytes(folder: string): Promise<number> {
  for (let tries = 0; tries < 200; tries++) {
    if (folderBytes(folder) <= LIMIT) break
    await sleep(50)
  }
  return folderBytes(folder)
}

/** Asserts that readers get right bytes while chunks are evicted, and that the folder comes back within its limit. */
export async function showsReaders(t: Test, from: Served, rounds: number): Promise<void> {
  const workDir = tempDir(t)
  const guest = await mounted(t, from, workDir)
  for (let round = 0; round < rounds; round++) {
    t.strictSame(await readMany(guest, 300, round + 1), { right: 300 })
    const bytes = await settledBytes(workDir)
    t.ok(bytes <= LIMIT, `${(bytes / MIB).toFixed(1)} MiB of ${LIMIT / MIB}`)
  }
  const evicted = await guest.evicted()
  t.ok(evicted > rounds * LIMIT, `${(evicted / MIB).toFixed(0)} MiB were evicted`)
}

/** Asserts that what an earlier daemon left in the folder is evicted by the next one, which has the blob open. */
export async function showsLeftovers(t: Test, from: Served): Promise<void> {
  const workDir = tempDir(t)
  const first = await mounted(t, from, workDir, 0)
  await inParallel(first.files, file => readFile(first.fuse, file), READERS)
  await first.daemon.stop()
  t.ok(folderBytes(workDir) > 2 * LIMIT)
  const second = await mounted(t, from, workDir)
  while ((await second.evicted()) === 0);
  t.ok(folderBytes(workDir) <= LIMIT)
  t.strictSame(await readMany(second, 300, 5), { right: 300 })
}

/** Asserts that of two daemons in one folder neither evicts what the other has open, and that the one that stays then does. */
export async function showsTwo(t: Test, from: Served, reads: number): Promise<void> {
  const workDir = tempDir(t)
  const [a, b] = [await mounted(t, from, workDir), await mounted(t, from, workDir)]
  const right = { right: reads }
  t.strictSame(await Promise.all([readMany(a, reads, 7), readMany(b, reads, 8)]), [right, right])
  t.equal((await a.evicted()) + (await b.evicted()), 0)
  t.ok(folderBytes(workDir) > LIMIT)
  t.match(a.daemon.log, /larger than its size_limit/)
  await b.daemon.stop()
  // It looks again a moment after it could not.
  while ((await a.evicted()) === 0) t.strictSame(await readMany(a, 50, 9), { right: 50 })
  t.strictSame(await readMany(a, reads, 10), right)
  t.ok(folderBytes(workDir) <= LIMIT + SLACK)
}

/** Asserts that no byte is wrong after daemons were killed while they evicted. */
export async function showsKills(t: Test, from: Served, kills: number): Promise<void> {
  const workDir = join(tempDir(t), 'cache')
  mkdirSync(workDir)
  const { server } = from
  for (let kill = 0; kill < kills; kill++) {
    const guest = await mounted(t, from, workDir)
    t.notOk((await readMany(guest, 150, 20 + kill))['wrong'], `before kill ${kill + 1}`)
    const asked = server.ranges.length
    const reading = readMany(guest, 2000, kill).catch(() => undefined)
    await server.until(() => server.ranges.length > asked + 40 + 37 * kill)
    process.kill(guest.daemon.pid, 'SIGKILL')
    guest.fuse.frontend.close()
    await reading
    await guest.daemon.stop()
  }
  const last = await mounted(t, from, workDir, 0)
  t.strictSame(await readMany(last, 600, 99), { right: 600 })
}
