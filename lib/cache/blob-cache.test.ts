import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { native } from '../native.js'
import { BitMap } from './bit-map.js'
import type { BlobCache, ChunkWant } from './cache.js'
import { ChunkTable } from './chunk-table.js'
import { CacheManager, type CacheManagerOptions } from './manager.js'
import { Gate, TestBackend } from './testing/backend.js'
import {
  cacheConfig,
  firstBlob,
  fixturePaths,
  openFixture,
  wrongChunks,
  type FixtureName,
} from './testing/fixtures.js'

interface Setup {
  readonly backend: TestBackend
  readonly manager: CacheManager
  readonly blob: BlobCache
  readonly wants: readonly ChunkWant[]
  readonly workDir: string
  readonly blobDir: string
}

async function setUp(
  t: Test,
  name: FixtureName,
  options: CacheManagerOptions & { validate?: boolean; amplify?: number; copyBlobs?: boolean } = {},
): Promise<Setup> {
  const fixture = await openFixture(name)
  const { info, wants } = firstBlob(fixture)
  const root = t.testdir({ work: {}, blobs: {} })
  const blobDir = options.copyBlobs === true ? join(root, 'blobs') : fixture.dir
  if (options.copyBlobs === true) await cp(fixture.dir, blobDir, { recursive: true })
  const backend = new TestBackend(blobDir)
  const workDir = join(root, 'work')
  const manager = new CacheManager({ ...options })
  t.teardown(async () => {
    await manager.close()
    await fixture.image.close()
  })
  const blob = await manager.open(info, backend, cacheConfig(workDir, options.validate), {
    amplify: options.amplify ?? 0,
    digestOf: index => fixture.image.chunkDigest(0, index),
  })
  return { backend, manager, blob, wants, workDir, blobDir }
}

function nth(wants: readonly ChunkWant[], i: number): ChunkWant {
  const want = wants[i]
  if (want === undefined) throw new Error(`the fixture has no chunk ${i}`)
  return want
}

/** Ready bits as a lane sees them. */
function laneBits(blob: BlobCache): BitMap {
  const { mapPath, mapLength, bitsOffset, chunkCount } = blob.handle
  const fd = openSync(mapPath, 'r')
  const bytes = new Uint8Array(native.mapFile(fd, mapLength, 'r'), bitsOffset)
  closeSync(fd)
  return new BitMap(bytes, chunkCount)
}

t.test('opening asks the backend for nothing, and works while it is down', async t => {
  const { backend, blob, wants } = await setUp(t, 'v6-zstd-blake3')
  t.same(backend.asked, [])
  backend.break()
  await t.rejects(blob.fetch(wants.slice(0, 1)), { code: 'BACKEND_DOWN' })
  backend.heal()
  const fetched = await blob.fetch(wants.slice(0, 1))
  t.same(fetched.placements, [undefined], 'a failure to get the chunk table is not remembered')
})

t.test('lanes see a chunk as ready once it was fetched', async t => {
  const { blob, wants } = await setUp(t, 'v6-lz4-64k')
  const bits = laneBits(blob)
  const first = nth(wants, 0)
  const second = nth(wants, 1)
  t.notOk(bits.has(first.index))
  await blob.fetch([first])
  t.ok(bits.has(first.index))
  t.notOk(bits.has(second.index))
  t.ok(blob.isReady(first.index))
})

for (const name of ['v5-lz4-blake3', 'v6-lz4-64k', 'v6-batch', 'v6-zran'] as const)
  t.test(`${name}: a thousand cold reads at once ask for each byte once`, async t => {
    const { backend, blob, wants, workDir } = await setUp(t, name)
    const reads = Array.from({ length: 1000 }, (_, i) => {
      const want = wants[(i * 7919) % wants.length]
      return blob.fetch(want === undefined ? [] : [want])
    })
    await Promise.all(reads)
    const data = backend.asked
      .filter(asked => asked.blobId === blob.info.id)
      .toSorted((a, b) => a.offset - b.offset)
    let end = 0
    let overlaps = 0
    for (const { offset, length } of data) {
      if (offset < end) overlaps++
      end = offset + length
    }
    // Windows of a gzip stream overlap by nature.
    if (name !== 'v6-zran') t.equal(overlaps, 0, 'no byte twice')
    t.ok(data.length < wants.length / 10, `${data.length} requests for ${wants.length} chunks`)
    t.ok(
      data.every(({ length }) => length <= 1 << 20),
      'none above the merge bound',
    )
    t.ok(backend.most <= 32, `at most ${backend.most} at once`)
    t.same(await wrongChunks(blob, wants, workDir), [])
  })

t.test('amplification brings neighbours along, within its bound', async t => {
  const amplify = 256 << 10
  const { backend, blob, wants } = await setUp(t, 'v6-lz4-64k', { amplify })
  const sorted = wants.toSorted((a, b) => a.index - b.index)
  await blob.fetch(sorted.slice(0, 1))
  const { length } = backend.asked.at(-1) ?? { length: 0 }
  t.ok(length <= amplify && length > amplify / 2, `${length} bytes in one request`)
  const asked = backend.asked.length
  await blob.fetch(sorted.slice(0, 4))
  t.equal(backend.asked.length, asked, 'they need no request of their own')
})

t.test('a damaged chunk fails alone, is not kept, and heals with the blob', async t => {
  const { blob, wants, workDir, blobDir } = await setUp(t, 'v6-lz4-64k', { copyBlobs: true })
  const victim = nth(wants, 17)
  const path = join(blobDir, blob.info.id)
  // Through the table of an undamaged copy: where the chunk lies.
  await blob.fetch(wants.slice(0, 1))
  const meta = readFileSync(join(workDir, `${blob.info.id}.blob.meta`))
  const { offset } = new ChunkTable(blob.info, meta).unit(victim.index)
  const flip = (): void => {
    const fd = openSync(path, 'r+')
    const byte = readFileSync(path)[offset] ?? 0
    writeSync(fd, Uint8Array.of(byte ^ 0xff), 0, 1, offset)
    closeSync(fd)
  }
  flip()
  await t.rejects(blob.fetch([victim]), {
    code: 'CACHE_CHUNK_DAMAGED',
    errno: 'EIO',
    message: new RegExp(`blob ${blob.info.id}: chunk ${victim.index} .* at ${offset}\\) is damaged`),
  })
  t.notOk(blob.isReady(victim.index))
  await t.rejects(blob.fetch(wants), { code: 'CACHE_CHUNK_DAMAGED' })
  t.equal(wants.filter(want => !blob.isReady(want.index)).length, 1, 'all others are there')
  flip()
  await blob.fetch([victim])
  t.same(await wrongChunks(blob, wants, workDir), [])
})

t.test('wrong bytes are asked for once more, from a source chosen anew', async t => {
  const { backend, blob, wants } = await setUp(t, 'v6-none', { validate: true })
  let wrong = 0
  backend.tamper = ({ fresh, offset }, bytes) => {
    if (offset < blob.info.ci.offset && fresh !== true) {
      bytes.fill(0xee)
      wrong++
    }
  }
  await blob.fetch(wants.slice(0, 1))
  t.ok(wrong > 0, 'the first answer was wrong, the fresh one right')
})

t.test('validation checks what lies in the cache already, once', async t => {
  const fixture = await openFixture('v6-zstd-blake3')
  const { info, wants } = firstBlob(fixture)
  t.teardown(() => fixture.image.close())
  const workDir = t.testdir()
  const filled = new CacheManager()
  const backend = new TestBackend(fixture.dir)
  const first = await filled.open(info, backend, cacheConfig(workDir))
  await first.fetch(wants)
  await filled.close()
  const asked = backend.asked.length
  const victim = nth(wants, 3)
  const fd = openSync(join(workDir, `${info.id}.blob.data`), 'r+')
  writeSync(fd, Buffer.from('garbage'), 0, 1, victim.uncompressedOffset)
  closeSync(fd)

  const manager = new CacheManager()
  t.teardown(() => manager.close())
  const blob = await manager.open(info, backend, cacheConfig(workDir, true))
  t.notOk(laneBits(blob).has(victim.index), 'lanes believe nothing that was not checked')
  t.same(await wrongChunks(blob, wants, workDir), [])
  t.equal(backend.asked.length, asked + 1, 'only the wrong chunk was fetched again')
  t.ok(laneBits(blob).has(victim.index))
  t.equal(laneBits(blob).count(), wants.length)
})

t.test('an aborted fetch gives its request up; the next one works', async t => {
  const { backend, blob, wants } = await setUp(t, 'v6-lz4-64k')
  await blob.fetch(wants.slice(0, 1))
  const gate = new Gate()
  backend.gate = gate.pass
  const controller = new AbortController()
  const fetch = blob.fetch(wants.slice(100, 101), { signal: controller.signal })
  await gate.arrived(1)
  const request = backend.asked.at(-1)
  controller.abort(new Error('not wanted any more'))
  await t.rejects(fetch, { message: 'not wanted any more' })
  t.ok(request?.signal?.aborted, 'the backend was told')
  backend.heal()
  await blob.fetch(wants.slice(100, 101))
})

t.test('a request goes on while somebody else waits for it', async t => {
  const { backend, blob, wants } = await setUp(t, 'v6-lz4-64k')
  await blob.fetch(wants.slice(0, 1))
  const gate = new Gate()
  backend.gate = gate.pass
  const controller = new AbortController()
  const impatient = blob.fetch(wants.slice(100, 101), { signal: controller.signal })
  const patient = blob.fetch(wants.slice(100, 101))
  await gate.arrived(1)
  controller.abort(new Error('enough'))
  await t.rejects(impatient, { message: 'enough' })
  gate.open()
  await patient
  t.equal(backend.asked.filter(({ offset }) => offset === backend.asked.at(-1)?.offset).length, 1)
})

t.test('closing rejects what is waited for and stops the backend', async t => {
  const { backend, blob, wants } = await setUp(t, 'v6-lz4-64k')
  await blob.fetch(wants.slice(0, 1))
  const gate = new Gate()
  backend.gate = gate.pass
  const fetch = blob.fetch(wants.slice(50, 60))
  await gate.arrived(1)
  const closing = blob.close()
  await t.rejects(fetch, { code: 'CACHE_CLOSED' })
  await closing
  await t.rejects(blob.fetch(wants.slice(0, 1)), { code: 'CACHE_CLOSED' })
  t.equal(backend.running, 0)
})

t.test('two mounts share fetches, and one survives the broken backend of the other', async t => {
  const { backend, manager, blob, wants, workDir } = await setUp(t, 'v6-lz4-64k')
  const second = new TestBackend(fixturePaths('v6-lz4-64k').dir)
  const other = await manager.open(blob.info, second, cacheConfig(workDir))
  await Promise.all([blob.fetch(wants.slice(0, 20)), other.fetch(wants.slice(0, 20))])
  t.equal(second.asked.length, 0, 'one backend was asked for both')
  backend.break()
  const results = await Promise.allSettled([
    blob.fetch(wants.slice(50, 51)),
    other.fetch(wants.slice(50, 51)),
  ])
  t.same(
    results.map(({ status }) => status),
    ['rejected', 'fulfilled'],
  )
  await other.close()
  t.equal(blob.isReady(wants[50]?.index ?? -1), true, 'closing one user leaves the other')
})

t.test('without a cache all reads go through a bounded pool', async t => {
  const fixture = await openFixture('v6-lz4-64k')
  const { info, wants } = firstBlob(fixture)
  const poolBytes = 1 << 20
  const manager = new CacheManager({ poolBytes })
  t.teardown(async () => {
    await manager.close()
    await fixture.image.close()
  })
  const backend = new TestBackend(fixture.dir)
  const blob = await manager.open(info, backend, cacheConfig(undefined))
  t.equal(blob.handle.fileId, 0)
  let most = 0
  const reads = Array.from({ length: 300 }, async (_, i) => {
    const fetched = await blob.fetch(wants.slice(i, i + 3))
    most = Math.max(most, manager.poolBytes)
    fetched.release()
    fetched.release()
  })
  await Promise.all(reads)
  t.ok(most > 0 && most <= poolBytes, `${most} of ${poolBytes} bytes`)
  t.same(await wrongChunks(blob, wants, '/nowhere'), [])
  const asked = backend.asked.length
  ;(await blob.fetch(wants.slice(-2))).release()
  t.equal(backend.asked.length, asked, 'what was read last is still there')
  await t.rejects(blob.fetch(wants), { code: 'CACHE_POOL_SMALL' })
})

t.test('2020 images: chunks without numbers go by their offset', async t => {
  const fixture = await openFixture('v5-lz4-blake3')
  const { info, wants } = firstBlob(fixture)
  const old = { ...info, chunkCount: 0, compressedSize: 0, uncompressedSize: 0, features: 0 }
  const unnumbered = wants.map(want => ({
    ...want,
    index: -1,
    ...(want.record && { record: { ...want.record, index: -1 } }),
  }))
  const workDir = t.testdir()
  const manager = new CacheManager()
  t.teardown(async () => {
    await manager.close()
    await fixture.image.close()
  })
  const backend = new TestBackend(fixture.dir)
  const blob = await manager.open(old, backend, cacheConfig(workDir))
  t.match(blob.handle, { mapPath: '', chunkCount: 0 })
  t.not(blob.handle.fileId, 0)
  t.same(await wrongChunks(blob, unnumbered, workDir), [])
  const asked = backend.asked.length
  await blob.fetch(unnumbered)
  t.equal(backend.asked.length, asked, 'fetched once')
})

t.test('an image that lies about a chunk gets an error, not the bytes of another', async t => {
  const { blob, wants } = await setUp(t, 'v6-lz4-64k')
  const want = nth(wants, 0)
  await t.rejects(blob.fetch([{ ...want, uncompressedOffset: want.uncompressedOffset + 4096 }]), {
    code: 'CACHE_CHUNK_MISMATCH',
  })
  await t.rejects(blob.fetch([{ ...want, index: 1 << 20 }]), { code: 'CACHE_BAD_META' })
  await t.rejects(blob.fetch([{ ...want, index: -1 }]), { code: 'CACHE_BAD_META' })
})

t.test('metrics have the shape of the API', async t => {
  const { manager, blob, wants, workDir } = await setUp(t, 'v6-lz4-64k')
  await blob.fetch(wants.slice(0, 2))
  await blob.fetch(wants.slice(0, 2))
  await blob.fetch(wants.slice(1, 3))
  t.match(manager.metrics('')?.json(5), {
    underlying_files: [blob.info.id],
    store_path: workDir,
    total: 8,
    whole_hits: 6,
    partial_hits: 1,
    data_all_ready: false,
    buffered_backend_size: 0,
  })
  await blob.fetch(wants)
  t.match(manager.metrics()?.json(), { entries_count: wants.length, data_all_ready: true })
  t.equal(manager.metrics('other'), undefined)
})
