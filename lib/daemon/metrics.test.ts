/** Every field of `/api/v1/metrics…`, against what a server and a guest have counted themselves. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { METRIC } from '../fuse/abi.js'
import { buildImage, FILE_SIZE, SourceFiles } from './testing/built-image.js'
import { CountingServer } from './testing/counting-server.js'
import { connectGuest, startDaemon } from './testing/daemon.js'
import { nodeAt, readFile } from './testing/guest-tree.js'
import { remoteConfig } from './testing/remote.js'
import { tempDir } from './testing/temp-dir.js'

const FILES = 12
const DELAY_MS = 25

const dir = tempDir(t)
const source = new SourceFiles(join(dir, 'source'), FILES)
const image = await buildImage(source, join(dir, 'image'), '')

type Numbers = Readonly<Record<string, number>>
const sum = (list: readonly number[]): number => list.reduce((all, one) => all + one, 0)

async function setUp(t: Test, more: object = {}) {
  const server = await CountingServer.start(image.blob)
  t.teardown(() => server.stop())
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  const workDir = tempDir(t)
  const mount = async (mountpoint: string): Promise<void> => {
    const backend = { type: 'http-proxy', config: { addr: server.url } }
    const config = remoteConfig('/factory', backend, { workDir, more: { amplify_io: 0, ...more } })
    const body = { fs_type: 'rafs', source: image.bootstrap, config }
    await daemon.api('POST', `mount?mountpoint=${mountpoint}`, body)
  }
  await mount('/a')
  // The chunk table.
  await server.until(() => server.ranges.length === 1 && server.active === 0)
  const files = await Promise.all(source.paths.map(path => source.guestFile(fuse, '/a', path)))
  const get = async (path: string): Promise<Record<string, unknown>> =>
    (await daemon.api('GET', `metrics${path}`)) as Record<string, unknown>
  return { server, daemon, fuse, workDir, mount, files, get }
}

t.test('guests that read', async t => {
  const { server, daemon, fuse, workDir, mount, files, get } = await setUp(t)
  server.delayMs = DELAY_MS

  await t.test('before any read', async t => {
    t.strictSame(await get(''), {
      files_account_enabled: false,
      measure_latency: true,
      id: '/a',
      nr_opens: 0,
      data_read: 0,
      block_count_read: Array(8).fill(0),
      fop_hits: Array.from({ length: 15 }, (_, i) => (i === METRIC.LOOKUP ? 3 * FILES : 0)),
      fop_errors: Array(15).fill(0),
      fop_cumulative_latency_total: Array(15).fill(0),
      read_latency_dist: Array(8).fill(0),
      access_pattern_enabled: false,
      record_latest_read_files_enabled: false,
    })
    t.match(await get('/blobcache'), { total: 0, whole_hits: 0, entries_count: 0, data_all_ready: false })
  })

  await t.test('cold reads, then warm ones', async t => {
    const [first, second] = files
    if (first === undefined || second === undefined) return
    for (const file of [first, second, first, first]) t.equal(await readFile(fuse, file), 'right')
    const cold = 2
    const global = await get('?id=/a')
    t.match(global, { data_read: 4 * FILE_SIZE, block_count_read: [0, 0, 0, 0, 4, 0, 0, 0] })
    t.equal((global['fop_hits'] as number[])[METRIC.READ], 4)
    const latency = global['read_latency_dist'] as number[]
    t.equal(sum(latency), 4, 'every read is in one bucket')
    t.equal(latency[0], 4 - cold, 'warm: at most 200 µs')
    t.equal(sum(latency.slice(0, 3)), 4 - cold, 'cold: longer than 20 ms')
    const micros = (global['fop_cumulative_latency_total'] as number[])[METRIC.READ] ?? 0
    t.ok(Number.isInteger(micros) && micros >= cold * DELAY_MS * 1000 && micros < 60e6, `${micros} µs`)

    // The backend: as the server saw it.
    const backend = await get('/backend')
    const sizes = server.ranges.map(({ from, to }) => to - from + 1)
    t.match(backend, {
      backend_type: 'http-proxy',
      read_count: server.ranges.length,
      read_errors: 0,
      read_amount_total: sum(sizes),
      requests: server.ranges.length,
      retries: 0,
      given_up: 0,
      in_flight: 0,
      circuit_open: 0,
    })
    const bucket = (bytes: number): number =>
      [1, 4, 16, 64, 128, 512, 1024].findLastIndex(kib => bytes >= kib * 1024) + 1
    const counts = Array.from({ length: 8 }, (_, i) => sizes.filter(size => bucket(size) === i).length)
    t.same(backend['read_count_block_size_dist'], counts)
    const table = backend['read_latency_sizes_dist'] as number[][]
    t.same(
      table.map(row => sum(row)),
      counts,
      'the same reads, by latency',
    )
    t.ok(table.every(row => row.length === 8))
    t.ok(sum(table.map(row => sum(row.slice(0, 2)))) <= 1, 'all but the chunk table took longer than 20 ms')
    const millis = backend['read_cumulative_latency_millis_dist'] as number[]
    t.ok(millis.every((ms, i) => Number.isInteger(ms) && (ms > 0 || counts[i] === 0)))
    const total = backend['read_cumulative_latency_millis_total'] as number
    t.ok(total >= cold * DELAY_MS && Math.abs(total - sum(millis)) <= 8, `${total} ms`)

    // The cache.
    const cache = (await get('/blobcache?id=/factory')) as Numbers & { underlying_files: string[] }
    t.match(cache, {
      store_path: workDir,
      total: 4,
      whole_hits: 4 - cold,
      partial_hits: 0,
      // 100,000 bytes in chunks of 64 KiB.
      entries_count: 2 * cold,
      prefetch_data_amount: 0,
      prefetch_requests_count: 0,
      prefetch_workers: 0,
      prefetch_unmerged_chunks: 0,
      prefetch_cumulative_time_millis: 0,
      prefetch_begin_time_secs: 0,
      prefetch_begin_time_millis: 0,
      prefetch_end_time_secs: 0,
      prefetch_end_time_millis: 0,
      buffered_backend_size: 0,
      data_all_ready: false,
      demand_requests_count: cold,
      demand_chunks: 2 * cold,
      demand_data_amount: sum(sizes.slice(1)),
      failed_reads: 0,
      damaged_chunks: 0,
    })
    t.equal(cache.underlying_files.length, 1)
  })

  await t.test('a read of which a part is there', async t => {
    const file = files[2]
    if (file === undefined) return
    const before = (await get('/blobcache')) as Numbers
    await fuse.read(file.node, 0, 0, 4096)
    t.equal(await readFile(fuse, file), 'right')
    const after = (await get('/blobcache')) as Numbers
    t.equal((after['partial_hits'] ?? 0) - (before['partial_hits'] ?? 0), 1)
    t.equal((after['total'] ?? 0) - (before['total'] ?? 0), 2)
  })

  await t.test('what is under way', async t => {
    const [, , , file] = files
    if (file === undefined) return
    server.hold()
    const reading = readFile(fuse, file)
    await server.until(() => server.active > 0)
    t.match(await get('/backend'), { in_flight: 1 })
    const { buffered_backend_size: buffered = 0 } = (await get('/blobcache')) as Numbers
    t.ok(buffered > 0 && buffered <= FILE_SIZE + 8192, `${buffered} bytes`)
    t.match(await daemon.api('GET', 'metrics/inflight'), [{ inode: Number, opcode: 15, unique: Number }])
    server.release()
    t.equal(await reading, 'right')
    t.equal(await daemon.api('GET', 'metrics/inflight'), undefined)
  })

  await t.test(
    'two mounts of one configuration id: files and queues are counted once; counters need a name',
    async t => {
      const before = (await get('/blobcache')) as Numbers
      await mount('/b')
      const after = (await get('/blobcache')) as Numbers
      t.equal(after['entries_count'], before['entries_count'])
      const path = source.paths[0] ?? ''
      t.equal(
        await readFile(fuse, { ...(files[0] as (typeof files)[0]), node: await nodeAt(fuse, `/b${path}`) }),
        'right',
      )
      t.equal((await get('?id=/b'))['data_read'], FILE_SIZE)
      for (const what of ['', '/files', '/pattern', '/backend'])
        for (const id of ['', '?id=/nowhere'])
          await t.rejects(get(`${what}${id}`), { status: 404, message: /NoCounter/ }, `metrics${what}${id}`)
      await daemon.umount('/b')
      t.match(await get('/blobcache'), { entries_count: before['entries_count'] })
    },
  )
})

t.test('prefetch, and everything ready', async t => {
  const started = Date.now()
  const { get, server } = await setUp(t, {
    fs_prefetch: { enable: true, threads_count: 2, merging_size: 256 << 10, prefetch_all: true },
  })
  let cache = (await get('/blobcache')) as Numbers
  while (cache['prefetch_workers'] !== 0 || cache['prefetch_requests_count'] === 0)
    cache = (await get('/blobcache')) as Numbers
  const data = server.ranges.slice(1)
  t.match(cache, {
    total: 0,
    prefetch_requests_count: data.length,
    prefetch_data_amount: sum(data.map(({ from, to }) => to - from + 1)),
    demand_requests_count: 0,
    entries_count: 2 * FILES,
    data_all_ready: true,
  })
  const at = (when: string): number =>
    (cache[`prefetch_${when}_time_secs`] ?? 0) * 1000 + (cache[`prefetch_${when}_time_millis`] ?? 0)
  t.ok(at('begin') >= started && at('end') >= at('begin') && at('end') <= Date.now())
})
