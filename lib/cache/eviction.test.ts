/** Eviction step by step: what may happen between clearing a chunk's bit and giving its room back. */
import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { digestOf } from '../base/digest.js'
import type { BlobCache, ChunkWant, Readers } from './cache.js'
import { CacheManager } from './manager.js'
import { TestBackend } from './testing/backend.js'
import { cacheConfig, expectedDigest, firstBlob, openFixture } from './testing/fixtures.js'

interface Setup {
  readonly blob: BlobCache
  readonly wants: readonly ChunkWant[]
  /** Bytes evicted so far. */
  readonly evicted: () => number
  /** Resolves when something more was evicted. */
  readonly more: () => Promise<void>
  /** The bytes in the data file are those of the chunk. */
  readonly inFile: (want: ChunkWant) => boolean
}

/** A cache that may hold next to nothing, with room for 20 chunks in its blob. */
async function setUp(t: Test, readers: Readers): Promise<Setup> {
  // The cache's own timers keep no process alive.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  const fixture = await openFixture('v6-lz4-64k')
  const { info, wants } = firstBlob(fixture)
  const workDir = t.testdir()
  const manager = new CacheManager({ readers })
  t.teardown(async () => {
    await manager.close()
    await fixture.image.close()
  })
  const { filecache, ...config } = cacheConfig(workDir)
  if (filecache === undefined) throw new Error('no cache')
  const blob = await manager.open(info, new TestBackend(fixture.dir), {
    ...config,
    filecache: { ...filecache, size_limit: 1 },
  })
  const evicted = (): number => manager.metrics()?.json()['evicted_data_amount'] as number
  return {
    blob,
    // Large enough to fill pages.
    wants: wants.filter(({ uncompressedSize }) => uncompressedSize > 8192).slice(0, 20),
    evicted,
    more: async () => {
      const before = evicted()
      while (evicted() === before) await new Promise(resolve => setTimeout(resolve, 5))
    },
    inFile: want => {
      const bytes = new Uint8Array(want.uncompressedSize)
      const fd = openSync(join(workDir, `${info.id}.blob.data`), 'r')
      readSync(fd, bytes, 0, bytes.length, want.uncompressedOffset)
      closeSync(fd)
      const digest = expectedDigest(want)
      return digest !== undefined && digestOf(info.digester, bytes).equals(digest)
    },
  }
}

const fetchAll = async (blob: BlobCache, wants: readonly ChunkWant[]): Promise<void> =>
  (await blob.fetch(wants)).release()

/** Lanes that hand over their batch when the test says so. */
function slowLanes(): Readers & { asked: Promise<void>; pass(): void } {
  let ask = (): void => {}
  let pass = (): void => {}
  const asked = new Promise<void>(resolve => (ask = resolve))
  const passed = new Promise<void>(resolve => (pass = resolve))
  return { asked, pass: () => pass(), settled: () => (ask(), passed), holds: () => false }
}

t.test('nothing goes before lanes have handed over; what was fetched again meanwhile stays', async t => {
  const lanes = slowLanes()
  const { blob, wants, more, inFile, evicted } = await setUp(t, lanes)
  const [again, ...others] = wants as [ChunkWant, ...ChunkWant[]]
  await fetchAll(blob, wants)
  await lanes.asked
  t.notOk(wants.some(want => blob.isReady(want.index)))
  t.ok(wants.every(inFile), 'their bytes are still there: a lane may be copying them')
  await fetchAll(blob, [again])
  t.equal(evicted(), 0)
  lanes.pass()
  await more()
  t.ok(blob.isReady(again.index) && inFile(again))
  t.notOk(others.some(want => blob.isReady(want.index) || inFile(want)))
})

t.test('what a fetch was told of stays until it is released', async t => {
  const { blob, wants, more, inFile } = await setUp(t, { settled: async () => {}, holds: () => false })
  const [held, others] = [wants.slice(0, 5), wants.slice(5)]
  const fetched = await blob.fetch(held)
  await fetchAll(blob, others)
  await more()
  t.ok(held.every(want => blob.isReady(want.index) && inFile(want)))
  t.notOk(others.some(want => blob.isReady(want.index)))
  fetched.release()
  await more()
  t.notOk(
    held.some(want => blob.isReady(want.index) || inFile(want)),
    'then it goes as well',
  )
})

t.test('what a deferred reply points to stays until that was copied', async t => {
  let reply: ChunkWant | undefined
  const holds = (_file: number, offset: number, length: number): boolean =>
    reply !== undefined &&
    offset < reply.uncompressedOffset + reply.uncompressedSize &&
    reply.uncompressedOffset < offset + length
  const { blob, wants, more, inFile } = await setUp(t, { settled: async () => {}, holds })
  const [pointed, ...others] = wants as [ChunkWant, ...ChunkWant[]]
  reply = pointed
  await fetchAll(blob, wants)
  await more()
  t.notOk(blob.isReady(pointed.index), 'nobody else is given it')
  t.ok(inFile(pointed))
  t.notOk(others.some(inFile))
  reply = undefined
  await more()
  t.notOk(inFile(pointed), 'its room is not forgotten')
})

t.test('lanes that do not answer: bits are clear, nothing is taken, reads go on', async t => {
  const lanes = slowLanes()
  const { blob, wants, inFile } = await setUp(t, lanes)
  await fetchAll(blob, wants)
  await lanes.asked
  const [want] = wants as [ChunkWant]
  await fetchAll(blob, wants)
  t.ok(blob.isReady(want.index))
  // It ends when lanes are not waited for any more.
  await blob.close()
  t.ok(wants.every(inFile))
})
