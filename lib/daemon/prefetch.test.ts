/** Prefetch as a user sets it up, counted at the server: each setting does what it says, guests and unmounts come first. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { buildImage, SourceFiles } from './testing/built-image.js'
import { CountingServer, type SeenRange } from './testing/counting-server.js'
import { connectGuest, startDaemon } from './testing/daemon.js'
import { readFile } from './testing/guest-tree.js'
import { remoteConfig } from './testing/remote.js'
import { tempDir } from './testing/temp-dir.js'

const KIB = 1024
const FILES = 40
/** What the image's own table names. */
const TABLE = ['/lib/file-10', '/lib/file-20'] as const

const dir = tempDir(t)
const source = new SourceFiles(join(dir, 'source'), FILES)
const lines = TABLE.map(path => `${path}\n`).join('')
const image = await buildImage(source, join(dir, 'image'), lines, '--prefetch-policy', 'fs')

interface Settings {
  readonly enable: boolean
  readonly threads_count?: number
  readonly merging_size?: number
  readonly bandwidth_rate?: number
  readonly prefetch_all?: boolean
}

async function setUp(t: Test) {
  const server = await CountingServer.start(image.blob)
  t.teardown(() => server.stop())
  const daemon = await startDaemon(t, ['--log-level', 'info', 'virtiofs'])
  const fuse = await connectGuest(t, daemon)
  /** Requests for the chunk table, which come with every mount, are not among them. */
  const ranges = (): SeenRange[] => server.ranges.filter(({ to }) => to < dataEnd)
  const ended = (): boolean => daemon.log.includes('prefetch ended')
  return {
    ...{ server, daemon, fuse, ranges },
    mount: async (fs_prefetch: Settings, prefetch_files: readonly string[] = []): Promise<void> => {
      const backend = { type: 'http-proxy', config: { addr: server.url, timeout: 60 } }
      const more = { amplify_io: 0, fs_prefetch }
      const config = remoteConfig('/a', backend, { workDir: tempDir(t), more })
      const body = { fs_type: 'rafs', source: image.bootstrap, config, prefetch_files }
      await daemon.api('POST', 'mount?mountpoint=/a', body)
    },
    read: async (path: string): Promise<string> => readFile(fuse, await source.guestFile(fuse, '/a', path)),
    ended: async (): Promise<void> => {
      while (!ended()) await new Promise(resolve => setTimeout(resolve, 5))
    },
  }
}

/** Where the data ends and the chunk table begins: found out by the first test. */
let dataEnd = Infinity
/** Where files lie in the blob. */
const places = new Map<string, SeenRange>()

const bytesOf = (ranges: readonly SeenRange[]): number =>
  ranges.reduce((sum, { from, to }) => sum + to - from + 1, 0)

t.test('enable: false asks for nothing but the chunk table and what is read', async t => {
  const { server, mount, read } = await setUp(t)
  await mount({ enable: false })
  await server.until(() => server.ranges.length === 1 && server.active === 0)
  dataEnd = server.ranges[0]?.from ?? 0
  for (const path of source.paths) {
    t.equal(await read(path), 'right')
    const range = server.ranges.at(-1)
    if (range !== undefined) places.set(path, range)
  }
  t.equal(server.ranges.length, 1 + FILES, 'a request for each file')
  t.ok([...places.values()].every(({ to }) => to < dataEnd))
})

t.test("prefetch_all: false: the image's table, and no more", async t => {
  const { mount, ended, ranges, read, daemon } = await setUp(t)
  await mount({ enable: true, prefetch_all: false })
  await ended()
  const expected = TABLE.map(path => places.get(path))
  t.equal(bytesOf(ranges()), bytesOf(expected.flatMap(range => range ?? [])), 'exactly those two files')
  const asked = ranges().length
  for (const path of TABLE) t.equal(await read(path), 'right')
  t.equal(ranges().length, asked, 'they are there')
  t.match(await daemon.api('GET', 'metrics/blobcache?id=/a'), {
    prefetch_data_amount: bytesOf(ranges()),
    prefetch_requests_count: ranges().length,
    prefetch_workers: 0,
  })
})

t.test(
  "order: the user's files, the image's table, all the rest; each byte once, one request at a time",
  async t => {
    const { server, mount, ended, ranges, read } = await setUp(t)
    const first = '/lib/file-30'
    await mount({ enable: true, threads_count: 1, merging_size: 128 * KIB, prefetch_all: true }, [first])
    await ended()
    const order = [first, ...TABLE].map(path => {
      const from = places.get(path)?.from ?? 0
      return ranges().findIndex(range => range.from <= from && from <= range.to)
    })
    t.same(
      order,
      order.toSorted((a, b) => a - b),
    )
    t.equal(order[0], 0)
    t.ok((order[2] ?? 0) <= 3, `the table comes right behind: ${order.join(', ')}`)
    t.equal(bytesOf(ranges()), dataEnd, 'every byte of data, once')
    t.equal(server.most, 1, 'threads_count')
    const asked = server.ranges.length
    for (const path of source.paths) t.equal(await read(path), 'right')
    t.equal(server.ranges.length, asked)
  },
)

t.test('--prefetch-files: what it lists is asked for once, at the start, and is warm afterwards', async t => {
  const listed = ['/lib/file-31', '/lib/file-05']
  // What the table names lies together, at the front of the blob.
  const requests = listed.length + 1
  const list = join(tempDir(t), 'list')
  writeFileSync(list, listed.map(path => `${path}\n`).join(''))
  // A file that lists paths, as today, and the paths themselves, as in 2020.
  for (const given of [[list], listed]) {
    const server = await CountingServer.start(image.blob)
    t.teardown(() => server.stop())
    const folder = tempDir(t)
    const config = join(folder, 'config.json')
    const backend = { type: 'http-proxy', config: { addr: server.url, timeout: 60 } }
    const more = { amplify_io: 0, fs_prefetch: { enable: true, threads_count: 1, prefetch_all: false } }
    writeFileSync(config, remoteConfig('/a', backend, { workDir: join(folder, 'cache'), more }))
    const start = ['--log-level', 'info', '--config', config, '--bootstrap', image.bootstrap]
    const daemon = await startDaemon(t, [
      ...start,
      '--virtual-mountpoint',
      '/a',
      '--prefetch-files',
      ...given,
    ])
    const fuse = await connectGuest(t, daemon)
    while (!daemon.log.includes('prefetch ended')) await new Promise(resolve => setTimeout(resolve, 5))
    const data = (): SeenRange[] => server.ranges.filter(({ to }) => to < dataEnd)
    const wanted = [...listed, ...TABLE].flatMap(path => places.get(path) ?? [])
    t.equal(bytesOf(data()), bytesOf(wanted), "their bytes and those of the image's own table, once")
    t.equal(data().length, requests, 'one for each of the list, one for the table')
    t.equal(data().at(-1)?.from, places.get(TABLE[0])?.from, 'the table last')
    t.match(await daemon.api('GET', 'metrics/blobcache?id=/a'), {
      prefetch_data_amount: bytesOf(wanted),
      prefetch_requests_count: requests,
    })
    const asked = server.ranges.length
    for (const path of listed)
      t.equal(await readFile(fuse, await source.guestFile(fuse, '/a', path)), 'right')
    t.equal(server.ranges.length, asked, 'what was listed is there')
    t.equal(await readFile(fuse, await source.guestFile(fuse, '/a', '/lib/file-01')), 'right')
    t.ok(server.ranges.length > asked, 'what was not listed is not')
  }
})

t.test('merging_size bounds requests from above, and few are smaller', async t => {
  const { server, mount, ended, ranges } = await setUp(t)
  server.delayMs = 5
  await mount({ enable: true, threads_count: 3, merging_size: 256 * KIB })
  await ended()
  const size = 256 * KIB
  t.ok(ranges().every(({ from, to }) => to - from + 1 <= size))
  t.ok(ranges().length <= 1.5 * Math.ceil(dataEnd / (size - 64 * KIB)), `${ranges().length} requests`)
  t.ok(server.most > 1 && server.most <= 3, `${server.most} at once, threads_count 3`)
})

t.test('bandwidth_rate', async t => {
  const { mount, ended, ranges } = await setUp(t)
  const rate = 8 << 20
  const size = 64 * KIB
  await mount({ enable: true, threads_count: 2, merging_size: size, bandwidth_rate: rate })
  await ended()
  const seen = ranges()
  const seconds = ((seen.at(-1)?.at ?? 0) - (seen[0]?.at ?? 0)) / 1000
  // What the last fetch of each thread takes is not waited for: up to twice merging_size.
  const atLeast = (bytesOf(seen) - 2 * 3 * size) / rate
  t.ok(seconds >= atLeast, `${bytesOf(seen)} bytes in ${seconds} s, not before ${atLeast} s`)
})

t.test('a guest overtakes prefetch, joins what is under way; an unmount ends it all at once', async t => {
  const { server, daemon, mount, ranges, read } = await setUp(t)
  server.hold()
  await mount({ enable: true, threads_count: 4, merging_size: 64 * KIB })
  await server.until(() => server.ranges.length > 0)
  server.release()
  server.hold()
  await server.until(() => server.active === 4)
  const before = ranges().length
  const reading = read('/lib/file-39')
  await server.until(() => ranges().length > before)
  const from = places.get('/lib/file-39')?.from
  t.match(ranges().slice(before), [{ from }], 'though prefetch has four requests and wants more')
  // Prefetch asks for this one already.
  const joined = read(TABLE[0])
  const waiting = async (): Promise<number> =>
    ((await daemon.api('GET', 'metrics/inflight')) as object[] | undefined)?.length ?? 0
  while ((await waiting()) < 2);
  const seen = ranges()
  t.equal(seen.length, before + 1, 'it is waited for, not asked for again')
  const ending = daemon.umount('/a')
  await server.until(() => server.active === 0)
  await ending
  t.match(await Promise.all([reading, joined]), ['ESTALE', 'ESTALE'])
  t.ok(seen.filter(({ dropped }) => dropped).length === seen.length, 'every request was given up')
  const asked = server.ranges.length
  server.release()
  await daemon.api('GET', 'daemon')
  t.equal(server.ranges.length, asked, 'and no other came')
})
