/**
 * A cache that must not grow: every byte that guests get is right while what they read is taken away, with another daemon
 * in the same folder, and with kill -9 in between. Nobody checks digests of what is in the cache: wrong bytes would show.
 */
import { mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { FuseClient } from '../../addon/test/fuse-client.js'
import type { Daemon } from '../../vm-tests/daemon.js'
import { buildImage, SourceFiles } from './testing/built-image.js'
import { CountingServer } from './testing/counting-server.js'
import { connectGuest, startDaemon } from './testing/daemon.js'
import { inParallel, readFile, type GuestFile } from './testing/guest-tree.js'
import { remoteConfig } from './testing/remote.js'
import { tempDir } from './testing/temp-dir.js'

const MIB = 1 << 20
const FILES = 160
const LIMIT = 5 * MIB
/** What may be under way when the limit is reached. */
const SLACK = 8 * MIB
const READERS = 16

const dir = tempDir(t)
const source = new SourceFiles(join(dir, 'source'), FILES)
const images = {
  v6: await buildImage(source, join(dir, 'v6'), '', '--compressor', 'none'),
  v5: await buildImage(source, join(dir, 'v5'), '', '--fs-version', '5', '--compressor', 'lz4_block'),
}

function folderBytes(folder: string): number {
  return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).blocks * 512, 0)
}

/** The same numbers each time. */
function* numbers(seed: number): Generator<number> {
  for (let state = seed; ;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    yield state / 2 ** 32
  }
}

interface Mounted {
  readonly daemon: Daemon
  readonly fuse: FuseClient
  readonly files: readonly GuestFile[]
  evicted(): Promise<number>
}

async function mounted(
  t: Test,
  image: keyof typeof images,
  server: CountingServer,
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
  const body = { fs_type: 'rafs', source: images[image].bootstrap, config: JSON.stringify(config) }
  await daemon.api('POST', 'mount?mountpoint=/a', body)
  const files = await inParallel(source.paths, path => source.guestFile(fuse, '/a', path))
  const evicted = async (): Promise<number> =>
    ((await daemon.api('GET', 'metrics/blobcache?id=/a')) as { evicted_data_amount: number })
      .evicted_data_amount
  return { daemon, fuse, files, evicted }
}

/** `count` reads of files near a place that moves through the image, and of any others; how they ended. */
async function readMany(
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

const server = await CountingServer.start(images.v6.blob)
const serverV5 = await CountingServer.start(images.v5.blob)
t.teardown(() => Promise.all([server.stop(), serverV5.stop()]))

for (const [image, from] of [
  ['v6', server],
  ['v5', serverV5],
] as const)
  t.test(`${image}: readers while eviction runs`, async t => {
    const workDir = tempDir(t)
    const guest = await mounted(t, image, from, workDir)
    let most = 0
    for (let round = 0; round < 3; round++) {
      t.strictSame(await readMany(guest, 300, round + 1), { right: 300 })
      most = Math.max(most, folderBytes(workDir))
    }
    t.ok(most <= LIMIT + SLACK, `at most ${(most / MIB).toFixed(1)} MiB of ${LIMIT / MIB}`)
    const evicted = await guest.evicted()
    t.ok(evicted > 3 * LIMIT, `${(evicted / MIB).toFixed(0)} MiB were evicted`)
  })

t.test('what is used stays, what is not goes', async t => {
  const workDir = tempDir(t)
  const guest = await mounted(t, 'v6', server, workDir)
  const [used, ...others] = guest.files
  if (used === undefined) return
  t.equal(await readFile(guest.fuse, used), 'right')
  for (const file of others) {
    t.equal(await readFile(guest.fuse, file), 'right')
    await readFile(guest.fuse, used)
  }
  t.ok((await guest.evicted()) > 0)
  const asked = server.ranges.filter(({ from }) => from === 0).length
  t.equal(await readFile(guest.fuse, used), 'right')
  t.equal(server.ranges.filter(({ from }) => from === 0).length, asked, 'it was not fetched again')
})

t.test('blobs that nobody has open go first, whole', async t => {
  const workDir = tempDir(t)
  const first = await mounted(t, 'v5', serverV5, workDir, 0)
  t.strictSame(await readMany(first, 200, 1), { right: 200 })
  const other = readdirSync(workDir).filter(name => name.endsWith('.blob.data'))
  await first.daemon.umount('/a')
  const second = await mounted(t, 'v6', server, workDir)
  t.strictSame(await readMany(second, 400, 2), { right: 400 })
  const left = readdirSync(workDir)
  t.ok(!left.some(name => other.some(gone => name.startsWith(gone.slice(0, 64)))), left.join(' '))
  t.ok(folderBytes(workDir) <= LIMIT + SLACK)
})

t.test('what an earlier daemon left is evicted from open blobs, too', async t => {
  for (const [image, from] of [
    ['v6', server],
    ['v5', serverV5],
  ] as const) {
    const workDir = tempDir(t)
    const first = await mounted(t, image, from, workDir, 0)
    await inParallel(first.files, file => readFile(first.fuse, file), READERS)
    await first.daemon.stop()
    t.ok(folderBytes(workDir) > 2 * LIMIT)
    const second = await mounted(t, image, from, workDir)
    while ((await second.evicted()) === 0);
    t.ok(folderBytes(workDir) <= LIMIT, image)
    t.strictSame(await readMany(second, 300, 5), { right: 300 })
  }
})

t.test('two daemons in one folder: neither takes what the other has open; alone, one does', async t => {
  const workDir = tempDir(t)
  const [a, b] = [await mounted(t, 'v6', server, workDir), await mounted(t, 'v6', server, workDir)]
  const [first, second] = await Promise.all([readMany(a, 400, 7), readMany(b, 400, 8)])
  t.strictSame([first, second], [{ right: 400 }, { right: 400 }])
  t.equal((await a.evicted()) + (await b.evicted()), 0)
  t.ok(folderBytes(workDir) > LIMIT)
  t.match(a.daemon.log, /larger than its size_limit/)
  await b.daemon.stop()
  // It looks again a moment after it could not.
  while ((await a.evicted()) === 0) t.strictSame(await readMany(a, 50, 9), { right: 50 })
  t.strictSame(await readMany(a, 400, 10), { right: 400 })
})

t.test('kill -9 while it evicts: nothing wrong afterwards', async t => {
  const workDir = join(tempDir(t), 'cache')
  mkdirSync(workDir)
  for (let kill = 0; kill < 3; kill++) {
    const guest = await mounted(t, 'v6', server, workDir)
    t.notOk((await readMany(guest, 150, 20 + kill))['wrong'], `before kill ${kill + 1}`)
    const asked = server.ranges.length
    const reading = readMany(guest, 2000, kill).catch(() => undefined)
    await server.until(() => server.ranges.length > asked + 40 + 37 * kill)
    process.kill(guest.daemon.pid, 'SIGKILL')
    guest.fuse.frontend.close()
    await reading
    await guest.daemon.stop()
  }
  const last = await mounted(t, 'v6', server, workDir, 0)
  t.strictSame(await readMany(last, 600, 99), { right: 600 })
})
