import t, { type Test } from 'tap'
import { ManualClock } from '../base/manual-clock.js'
import type { BlobCache, ChunkWant, PrefetchConfig } from './cache.js'
import { CacheManager } from './manager.js'
import { BlobCacheMetrics } from './metrics.js'
import { prefetch } from './prefetch.js'
import { Gate, TestBackend } from './testing/backend.js'
import { cacheConfig, firstBlob, openFixture, wrongChunks } from './testing/fixtures.js'

const CONFIG: PrefetchConfig = {
  enable: true,
  threads: 2,
  batch_size: 128 << 10,
  bandwidth_limit: 0,
  prefetch_all: false,
}

interface Setup {
  readonly blob: BlobCache
  readonly backend: TestBackend
  readonly wants: readonly ChunkWant[]
  readonly workDir: string
  /** One request after another at the backend. */
  readonly controller: AbortController
  readonly metrics: BlobCacheMetrics
}

/** `workDir` null: without a cache. */
async function setUp(t: Test, workDir: string | null = t.testdir()): Promise<Setup> {
  const fixture = await openFixture('v6-lz4-64k')
  const { info, wants } = firstBlob(fixture)
  const backend = new TestBackend(fixture.dir)
  const manager = new CacheManager()
  t.teardown(async () => {
    await manager.close()
    await fixture.image.close()
  })
  const blob = await manager.open(info, backend, cacheConfig(workDir ?? undefined))
  const metrics = manager.metrics() ?? new BlobCacheMetrics()
  return { blob, backend, wants, workDir: workDir ?? '', controller: new AbortController(), metrics }
}

function* items({ blob, wants }: Setup) {
  for (const want of wants.toSorted((a, b) => a.index - b.index)) yield { blob, want }
}

t.test('fills the cache in merged requests, and counts what it did', async t => {
  const setup = await setUp(t)
  const { blob, backend, wants, workDir, controller, metrics } = setup
  await prefetch(items(setup), CONFIG, { signal: controller.signal, metrics })
  t.ok(wants.every(want => blob.isReady(want.index)))
  const data = backend.asked.filter(({ priority }) => priority === 'prefetch')
  t.ok(data.length > 0 && data.every(({ length }) => length <= CONFIG.batch_size))
  t.ok(data.length < wants.length / 5, `${data.length} requests for ${wants.length} chunks`)
  t.ok(backend.most <= 4)
  const bytes = data.reduce((sum, { length }) => sum + length, 0)
  // No chunk takes more than it has plain bytes.
  const single = data.filter(({ length }) => length <= blob.info.chunkSize).length
  t.match(metrics, { prefetchBytes: bytes, prefetchRequests: data.length, prefetchWorkers: 0, total: 0 })
  t.ok(metrics.prefetchUnmerged <= single, `${metrics.prefetchUnmerged} requests for one chunk`)
  t.ok(metrics.prefetchBegin > 0 && metrics.prefetchEnd >= metrics.prefetchBegin)
  const asked = backend.asked.length
  await prefetch(items(setup), CONFIG, { signal: controller.signal })
  t.equal(backend.asked.length, asked, 'a second one has nothing to do')
  t.same(await wrongChunks(blob, wants, workDir), [])
})

t.test('stops at once', async t => {
  const setup = await setUp(t)
  const { backend, controller } = setup
  const gate = new Gate()
  backend.gate = asked => (asked.priority === 'prefetch' ? gate.pass(asked) : undefined)
  const running = prefetch(items(setup), CONFIG, { signal: controller.signal })
  await gate.arrived(2)
  controller.abort()
  await running
  const asked = backend.asked.length
  t.ok(backend.asked.filter(({ priority }) => priority === 'prefetch').every(({ signal }) => signal?.aborted))
  await new Promise(resolve => setImmediate(resolve))
  t.equal(backend.asked.length, asked)
})

t.test('stops although its list never ends', async t => {
  const { controller } = await setUp(t)
  const never: AsyncIterable<never> = {
    [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }),
  }
  const running = prefetch(never, CONFIG, { signal: controller.signal })
  controller.abort()
  await running
  t.pass('resolved')
})

t.test('a guest that wants what is being prefetched gets it first', async t => {
  const setup = await setUp(t)
  const { blob, backend, wants, controller } = setup
  const gate = new Gate()
  backend.gate = asked => (asked.priority === 'prefetch' ? gate.pass(asked) : undefined)
  const running = prefetch(items(setup), CONFIG, { signal: controller.signal })
  await gate.arrived(2)
  // Behind what is under way at the backend.
  const far = wants.toSorted((a, b) => a.index - b.index).slice(-3)
  await blob.fetch(far)
  t.ok(
    far.every(want => blob.isReady(want.index)),
    'while prefetch still waits',
  )
  gate.open()
  await running
})

t.test('a broken backend: longer pauses, then an end; no reader hears of it', async t => {
  const setup = await setUp(t)
  const { backend, controller } = setup
  const clock = new ManualClock()
  backend.break()
  await prefetch(items(setup), { ...CONFIG, threads: 1 }, { signal: controller.signal, clock })
  t.equal(backend.asked.length, 10)
  t.same(clock.naps.slice(0, 4), [500, 1000, 2000, 4000])
  t.ok(clock.naps.every(nap => nap <= 30_000))
})

t.test('keeps the rate', async t => {
  const setup = await setUp(t)
  const { backend, controller } = setup
  const clock = new ManualClock()
  const start = clock.now()
  const config = { ...CONFIG, threads: 1, bandwidth_limit: 100_000 }
  await prefetch(items(setup), config, { signal: controller.signal, clock })
  const data = backend.asked.filter(({ priority }) => priority === 'prefetch')
  const bytes = data.reduce((sum, { length }) => sum + length, 0)
  const seconds = (clock.now() - start) / 1000
  // What the last group took is not waited for.
  t.ok(
    seconds <= bytes / 100_000 && seconds > (bytes - 3 * CONFIG.batch_size) / 100_000,
    `${bytes} bytes in ${seconds} s`,
  )
})

t.test('without a cache there is nothing to fill', async t => {
  const { blob, backend, wants, controller } = await setUp(t, null)
  await prefetch(
    wants.map(want => ({ blob, want })),
    CONFIG,
    { signal: controller.signal },
  )
  t.equal(backend.asked.length, 0)
})
