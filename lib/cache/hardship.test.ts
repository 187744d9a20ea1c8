/** Processes that are killed or share a folder, disks that are full or read-only. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { silentLog, type Log } from '../base/log.js'
import { ManualClock } from '../base/manual-clock.js'
import { native } from '../native.js'
import type { BlobCache } from './cache.js'
import { CacheManager } from './manager.js'
import { TestBackend } from './testing/backend.js'
import { cacheConfig, firstBlob, openFixture, wrongChunks, type FixtureName } from './testing/fixtures.js'
import { transpileLib } from './testing/transpile.js'

const FILLER = transpileLib(t.testdir(), fileURLToPath(new URL('./testing/filler.ts', import.meta.url)))

function filler(fixture: FixtureName, workDir: string, seed: number): ChildProcess {
  return spawn(process.execPath, [FILLER, fixture, workDir, String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
}

async function* lines(child: ChildProcess): AsyncGenerator<string> {
  if (child.stdout !== null) yield* createInterface({ input: child.stdout })
}

/** Chunks that the cache says are there, but are not what they must be. */
async function wrongReady(
  fixture: Awaited<ReturnType<typeof openFixture>>,
  workDir: string,
): Promise<{ ready: number; wrong: number }> {
  const { info, wants } = firstBlob(fixture)
  const backend = new TestBackend(fixture.dir)
  backend.break()
  const manager = new CacheManager()
  const blob = await manager.open(info, backend, cacheConfig(workDir))
  const ready = wants.filter(want => blob.isReady(want.index))
  const wrong = await wrongChunks(blob, ready, workDir)
  await manager.close()
  return { ready: ready.length, wrong: wrong.length }
}

t.test('kill -9, twenty times, two daemons at once: what the cache says it has is right', async t => {
  const fixtures = [await openFixture('v6-lz4-64k'), await openFixture('v6-batch')]
  t.teardown(() => Promise.all(fixtures.map(fixture => fixture.image.close())))
  const workDir = t.testdir()
  let best = 0
  for (let round = 0; round < 10; round++) {
    const children = fixtures.flatMap(({ name }, i) =>
      i === round % 2 ? [0, 1].map(k => filler(name as FixtureName, workDir, round * 2 + k)) : [],
    )
    await Promise.all(
      children.map(async (child, k) => {
        let count = 0
        // At another point each time, while the next chunks are on their way.
        for await (const line of lines(child))
          if (line.startsWith('got') && ++count > round * 3 + k * 5) break
        child.kill('SIGKILL')
        if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
        t.equal(child.signalCode, 'SIGKILL')
      }),
    )
    for (const fixture of fixtures) {
      const { ready, wrong } = await wrongReady(fixture, workDir)
      t.equal(wrong, 0, `round ${round}: ${ready} chunks of ${fixture.name} are ready and right`)
      best = Math.max(best, ready)
    }
  }
  t.ok(best > 0, 'some of it survived')
})

t.test('two daemons fill one folder at once: both right, and a third asks for nothing', async t => {
  const fixture = await openFixture('v6-lz4-64k')
  t.teardown(() => fixture.image.close())
  const workDir = t.testdir()
  const { info, wants } = firstBlob(fixture)
  const results = await Promise.all(
    [1, 2].map(async seed => {
      const child = filler('v6-lz4-64k', workDir, seed)
      let last = ''
      for await (const line of lines(child)) last = line
      return last
    }),
  )
  for (const result of results) t.match(result, /^done 0 /)
  const backend = new TestBackend(fixture.dir)
  const manager = new CacheManager()
  const blob = await manager.open(info, backend, cacheConfig(workDir))
  t.same(await wrongChunks(blob, wants, workDir), [])
  t.equal(backend.asked.length, 0)
  await manager.close()
})

t.test('what another daemon stores while we run is seen', async t => {
  const fixture = await openFixture('v6-lz4-64k')
  t.teardown(() => fixture.image.close())
  const workDir = t.testdir()
  const { info, wants } = firstBlob(fixture)
  const ours = new TestBackend(fixture.dir)
  const [one, two] = [new CacheManager(), new CacheManager()]
  const blob = await one.open(info, ours, cacheConfig(workDir))
  const other = await two.open(info, new TestBackend(fixture.dir), cacheConfig(workDir))
  await other.fetch(wants)
  await two.close()
  t.same(await wrongChunks(blob, wants, workDir), [])
  t.equal(ours.asked.length, 0)
  await one.close()
})

/** A small file system of its own, in memory. */
function mountSmall(t: Test, size: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'nydus-test-'))
  native.mount('tmpfs', dir, 'tmpfs', 0, `size=${size}`)
  t.teardown(() => {
    native.umount(dir, MNT_DETACH)
    rmdirSync(dir)
  })
  return dir
}
const MNT_DETACH = 2
const MS_RDONLY = 1
const MS_REMOUNT = 32
const MS_BIND = 4096

interface Disk {
  readonly blob: BlobCache
  readonly backend: TestBackend
  readonly warnings: string[]
  readonly clock: ManualClock
  readonly wants: ReturnType<typeof firstBlob>['wants']
}

async function onDisk(t: Test, fixtureName: FixtureName, workDir: string): Promise<Disk> {
  const fixture = await openFixture(fixtureName)
  const { info, wants } = firstBlob(fixture)
  const warnings: string[] = []
  const log: Log = { ...silentLog, warn: (_fields, message) => void warnings.push(message) }
  const clock = new ManualClock()
  const manager = new CacheManager({ log, clock })
  t.teardown(async () => {
    await manager.close()
    await fixture.image.close()
  })
  const backend = new TestBackend(fixture.dir)
  const blob = await manager.open(info, backend, cacheConfig(workDir))
  return { blob, backend, warnings, clock, wants }
}

t.test('a full disk: reads go on, with one warning, and caching resumes when there is room', async t => {
  const workDir = mountSmall(t, '2m')
  const { blob, backend, warnings, clock, wants } = await onDisk(t, 'v6-none', workDir)
  for (let i = 0; i < 3; i++) t.same(await wrongChunks(blob, wants, workDir), [])
  const cold = wants.filter(want => !blob.isReady(want.index))
  t.ok(cold.length > 0 && cold.length < wants.length, `${cold.length} of ${wants.length} are not cached`)
  t.same(warnings, ['the cache folder takes no more data: reads go on without caching'])

  native.mount('tmpfs', workDir, 'tmpfs', MS_REMOUNT, 'size=64m')
  clock.advance(10_000)
  t.same(await wrongChunks(blob, wants, workDir), [])
  t.ok(
    wants.every(want => blob.isReady(want.index)),
    'everything is cached',
  )
  const asked = backend.asked.length
  await blob.fetch(wants)
  t.equal(backend.asked.length, asked)
})

t.test('a read-only folder serves what it has; the rest is read without caching', async t => {
  const workDir = mountSmall(t, '64m')
  const first = await onDisk(t, 'v6-none', workDir)
  await first.blob.fetch(first.wants.slice(0, 100))
  await first.blob.close()
  const readOnly = mountSmall(t, '1m')
  native.mount(workDir, readOnly, '', MS_BIND, '')
  t.teardown(() => native.umount(readOnly, MNT_DETACH))
  native.mount('', readOnly, '', MS_BIND | MS_REMOUNT | MS_RDONLY, '')
  const { blob, backend, wants } = await onDisk(t, 'v6-none', readOnly)
  const fetched = await blob.fetch(wants.slice(0, 100))
  t.ok(fetched.placements.every(place => place === undefined))
  t.equal(backend.asked.length, 0)
  t.same(await wrongChunks(blob, wants, workDir), [])
  t.ok(backend.asked.length > 0)
})

t.test('a folder that vanishes while it is used: reads go on', async t => {
  const workDir = join(t.testdir(), 'cache')
  mkdirSync(workDir)
  const { blob, wants } = await onDisk(t, 'v6-batch', workDir)
  await blob.fetch(wants.slice(0, 50))
  rmSync(workDir, { recursive: true })
  const fetched = await blob.fetch(wants)
  t.equal(fetched.placements.length, wants.length)
  fetched.release()
  await blob.close()
  const again = await onDisk(t, 'v6-batch', workDir)
  t.same(await wrongChunks(again.blob, again.wants, workDir), [], 'the next mount makes the folder again')
})
