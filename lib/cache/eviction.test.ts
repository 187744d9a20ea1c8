/** Eviction step by step: what may happen between clearing a chunk's bit and giving its room back. */
import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { digestOf } from '../base/testing/digest.js'
import type { BlobCache, ChunkWant, Readers } from './cache.js'
import { CacheManager } from './manager.js'
import { Gate, TestBackend } from './testing/backend.js'
import { cacheConfig, expectedDigest, firstBlob, openFixture, wrongChunks } from './testing/fixtures.js'
import { asOf2020, tarBlob, type WantedBlob } from './testing/loose.js'
import { tempDir } from '../daemon/testing/temp-dir.js'

/** How a daemon knows which chunks of a blob it has. */
const KINDS = ['chunk map', 'no map', '2020', 'tarfs'] as const
type Kind = (typeof KINDS)[number]

interface Source extends WantedBlob {
  readonly backend: TestBackend
}

function tarSource(t: Test, files: number, size: number): Source {
  const dir = tempDir(t)
  return { ...tarBlob(dir, files, size), backend: new TestBackend(dir) }
}

async function sourceOf(t: Test, kind: Kind): Promise<Source> {
  if (kind === 'tarfs') return tarSource(t, 20, 9000)
  const fixture = await openFixture(kind === '2020' ? 'v5-lz4-blake3' : 'v6-lz4-64k')
  t.teardown(() => fixture.image.close())
  const blob = firstBlob(fixture)
  // Large enough to fill pages; zeros would be there also when they are gone.
  const zeros = (size: number): Buffer => digestOf(blob.info.digester, new Uint8Array(size))
  const wants = blob.wants
    .filter(want => want.uncompressedSize > 8192)
    .filter(want => !zeros(want.uncompressedSize).equals(expectedDigest(want) ?? Buffer.of()))
    .slice(0, 20)
  const small = { info: blob.info, wants }
  return { ...(kind === '2020' ? asOf2020(small) : small), backend: new TestBackend(fixture.dir) }
}

interface Setup extends Source {
  readonly manager: CacheManager
  readonly blob: BlobCache
  /** Path of the data file. */
  readonly data: string
  /** Chunks that the cache says it has. */
  readonly ready: () => number
  /** Bytes evicted so far. */
  readonly evicted: () => number
  /** Resolves when something more was evicted. */
  readonly more: () => Promise<void>
  /** The bytes in the data file are those of the chunk. */
  readonly inFile: (want: ChunkWant) => boolean
  /** Bytes of the data file on the disk. */
  readonly onDisk: () => number
}

interface CacheSettings {
  readonly workDir?: string
  readonly readers?: Readers
  /** Bytes; as little as there is unless told. */
  readonly limit?: number
}

/** A cache with room for next to nothing, for 20 chunks of a blob. */
async function setUp(t: Test, kind: Kind, settings: CacheSettings = {}, source?: Source): Promise<Setup> {
  // The cache's own timers keep no process alive.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  const from = source ?? (await sourceOf(t, kind))
  const { readers = NO_READERS, limit = 1, workDir = tempDir(t) } = settings
  const manager = new CacheManager({ readers })
  t.teardown(() => manager.close())
  const config = {
    ...cacheConfig(workDir),
    filecache: { ...MAP[kind], work_dir: workDir, size_limit: limit },
  }
  const blob = await manager.open(from.info, from.backend, config)
  const data = join(workDir, `${from.info.id}.${kind === 'tarfs' ? 'tar' : 'blob'}.data`)
  const metrics = (name: string): number => manager.metrics()?.json()[name] as number
  const evicted = (): number => metrics('evicted_data_amount')
  return {
    ...{ ...from, manager, blob, data, evicted },
    ready: () => metrics('entries_count'),
    onDisk: () => statSync(data).blocks * 512,
    more: async () => {
      const before = evicted()
      while (evicted() === before) await new Promise(resolve => setTimeout(resolve, 5))
    },
    inFile: want => {
      const bytes = new Uint8Array(want.uncompressedSize)
      const fd = openSync(data, 'r')
      readSync(fd, bytes, 0, bytes.length, want.uncompressedOffset)
      closeSync(fd)
      const digest = expectedDigest(want)
      return digest !== undefined && digestOf(from.info.digester, bytes).equals(digest)
    },
  }
}

const MAP = {
  'chunk map': { disable_indexed_map: false },
  'no map': { disable_indexed_map: true },
  '2020': { disable_indexed_map: false },
  tarfs: { disable_indexed_map: false },
} as const
const NO_READERS: Readers = { settled: async () => {}, holds: () => false }

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

t.jobs = KINDS.length
for (const kind of KINDS)
  void t.test(kind, async t => {
    await t.test(
      'nothing goes before lanes have handed over; what was fetched again meanwhile stays',
      async t => {
        const lanes = slowLanes()
        const { blob, wants, more, inFile, evicted, ready } = await setUp(t, kind, { readers: lanes })
        const [again, ...others] = wants as [ChunkWant, ...ChunkWant[]]
        await fetchAll(blob, wants)
        await lanes.asked
        t.equal(ready(), 0)
        t.ok(wants.every(inFile), 'their bytes are still there: a lane may be copying them')
        await fetchAll(blob, [again])
        t.equal(evicted(), 0)
        lanes.pass()
        await more()
        t.equal(ready(), 1)
        t.ok(inFile(again))
        t.notOk(others.some(inFile))
      },
    )

    await t.test('what a fetch was told of stays until it is released', async t => {
      const { blob, wants, more, inFile, ready } = await setUp(t, kind)
      // Every fourth: neighbours of what goes on both sides.
      const held = wants.filter((_, i) => i % 4 === 1)
      const others = wants.filter(want => !held.includes(want))
      const fetched = await blob.fetch(held)
      await fetchAll(blob, others)
      await more()
      t.equal(ready(), held.length)
      t.ok(held.every(inFile))
      t.notOk(others.some(inFile))
      fetched.release()
      await more()
      t.equal(ready(), 0)
      t.notOk(held.some(inFile), 'then it goes as well')
    })

    await t.test('what a deferred reply points to stays until that was copied', async t => {
      let reply: ChunkWant | undefined
      const holds = (_file: number, offset: number, length: number): boolean =>
        reply !== undefined &&
        offset < reply.uncompressedOffset + reply.uncompressedSize &&
        reply.uncompressedOffset < offset + length
      const readers = { settled: async () => {}, holds }
      const { blob, wants, more, inFile, ready } = await setUp(t, kind, { readers })
      const [pointed, ...others] = wants as [ChunkWant, ...ChunkWant[]]
      reply = pointed
      await fetchAll(blob, wants)
      await more()
      t.equal(ready(), 0, 'nobody else is given it')
      t.ok(inFile(pointed))
      t.notOk(others.some(inFile))
      reply = undefined
      await more()
      t.notOk(inFile(pointed), 'its room is not forgotten')
    })

    await t.test('lanes that do not answer: bits are clear, nothing is taken, reads go on', async t => {
      const lanes = slowLanes()
      const { blob, wants, inFile, ready } = await setUp(t, kind, { readers: lanes })
      await fetchAll(blob, wants)
      await lanes.asked
      await fetchAll(blob, wants)
      t.equal(ready(), wants.length)
      // It ends when lanes are not waited for any more.
      await blob.close()
      t.ok(wants.every(inFile))
    })

    await t.test('what is on its way stays', async t => {
      const { blob, wants, backend, more, inFile, ready } = await setUp(t, kind)
      const [late, ...others] = wants as [ChunkWant, ...ChunkWant[]]
      await fetchAll(blob, [late])
      await more()
      const gate = new Gate()
      backend.gate = gate.pass
      const fetching = blob.fetch([late])
      await gate.arrived(1)
      backend.heal()
      await fetchAll(blob, others)
      await more()
      gate.open()
      const fetched = await fetching
      t.ok(inFile(late))
      t.equal(ready(), 1)
      fetched.release()
    })

    if (kind === 'chunk map') return
    await t.test(
      "what earlier daemons stored and nobody finds goes, as soon as it is nobody else's",
      async t => {
        const workDir = tempDir(t)
        const source = await sourceOf(t, kind)
        const others = await setUp(t, kind, { workDir, limit: 0 }, source)
        await fetchAll(others.blob, source.wants)
        const full = others.onDisk()
        const { blob, wants, more, inFile, onDisk } = await setUp(t, kind, { workDir }, source)
        const held = wants.filter((_, i) => i % 5 === 2)
        const fetched = await blob.fetch(held)
        // Two rounds of eviction: it may take nothing.
        t.equal(onDisk(), full)
        await others.manager.close()
        await more()
        t.ok(held.every(inFile))
        t.notOk(wants.some(want => !held.includes(want) && inFile(want)))
        fetched.release()
        await more()
        t.ok(onDisk() < full / 20, `${onDisk()} of ${full} bytes`)
        const later = await setUp(t, kind, { workDir, limit: 0 }, source)
        await fetchAll(later.blob, wants)
        await later.manager.close()
        await more()
        t.ok(onDisk() < full / 20, 'and what comes later as well')
      },
    )
  })

void t.test('chunks smaller than a page: what nobody needs of a page goes with the last of them', async t => {
  const source = tarSource(t, 400, 700)
  const { blob, wants, more, inFile, onDisk } = await setUp(t, 'tarfs', {}, source)
  const held = wants.filter((_, i) => i % 40 === 5)
  const fetched = await blob.fetch(held)
  await fetchAll(blob, wants)
  await more()
  t.ok(held.every(inFile))
  t.ok(onDisk() <= 2 * 4096 * held.length, `${onDisk()} bytes for ${held.length} chunks`)
  fetched.release()
  await more()
  t.equal(onDisk(), 0)
})

void t.test('tarfs: what was read longest ago goes first', async t => {
  const source = tarSource(t, 80, 100_000)
  const { blob, wants, backend, evicted } = await setUp(t, 'tarfs', { limit: 4 << 20 }, source)
  const [often, ...others] = wants as [ChunkWant, ...ChunkWant[]]
  for (const want of others) {
    await fetchAll(blob, [want])
    await fetchAll(blob, [often])
  }
  t.ok(evicted() > 1 << 20)
  t.equal(backend.asked.filter(({ offset }) => offset === often.uncompressedOffset).length, 1)
})

void t.test('a map of another daemon does not survive eviction by one that keeps none', async t => {
  const workDir = tempDir(t)
  const source = await sourceOf(t, 'chunk map')
  const filled = await setUp(t, 'chunk map', { workDir, limit: 0 }, source)
  await fetchAll(filled.blob, source.wants)
  await filled.manager.close()
  const { blob, wants, manager, more } = await setUp(t, 'no map', { workDir }, source)
  await fetchAll(blob, wants)
  await more()
  await manager.close()
  const last = await setUp(t, 'chunk map', { workDir, limit: 0 }, source)
  t.strictSame(await wrongChunks(last.blob, wants, workDir), [])
})
