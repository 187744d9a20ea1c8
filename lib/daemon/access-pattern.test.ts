/**
 * What a mount notes of single files, and what it is for: a real run gives the list, an image is built with it, and the
 * next start finds its files in the cache.
 */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { FuseClient } from '../../addon/test/fuse-client.js'
import { BlobServer } from '../backend/testing/blob-server.js'
import { FaultProxy } from '../backend/testing/fault-proxy.js'
import { runTool } from '../build/testing/image-tool.js'
import { METRIC } from '../fuse/abi.js'
import { buildImage, FILE_SIZE as SIZE, SourceFiles, type BuiltImage } from './testing/built-image.js'
import { connectGuest, startDaemon } from './testing/daemon.js'
import { nodeAt, readAll, readFile } from './testing/guest-tree.js'
import { remoteConfig } from './testing/remote.js'
import { tempDir } from './testing/temp-dir.js'

/** What the run reads, in this order. */
const READ = ['/lib/file-31', '/lib/file-02', '/lib/file-17', '/lib/file-18'] as const

const dir = tempDir(t)
const source = new SourceFiles(join(dir, 'source'), 40)

async function build(name: string, prefetch: string, ...more: string[]): Promise<BuiltImage> {
  return await buildImage(source, join(dir, name), prefetch, ...more)
}

const fileOf = (fuse: FuseClient, path: string) => source.guestFile(fuse, '/a', path)

async function mounted(t: Test, image: BuiltImage, more: object) {
  const server = await BlobServer.start(image.blob)
  const proxy = await FaultProxy.start(server.url)
  t.teardown(() => Promise.all([proxy.stop(), server.stop()]))
  const daemon = await startDaemon(t, ['--log-level', 'info', 'virtiofs'])
  const fuse = await connectGuest(t, daemon)
  const backend = { type: 'http-proxy', config: { addr: proxy.url, retry_limit: 1, timeout: 1 } }
  const config = remoteConfig('/a', backend, {
    workDir: tempDir(t),
    more: { amplify_io: 0, ...more },
  })
  await daemon.api('POST', 'mount?mountpoint=/a', { fs_type: 'rafs', source: image.bootstrap, config })
  return { daemon, fuse, proxy }
}

interface PatternEntry {
  readonly ino: number
  readonly nr_read: number
  readonly first_access_time_secs: number
  readonly first_access_time_nanos: number
  readonly path?: string
}

const plain = await build('plain', '')

t.test('a run is recorded, an image is built with its list, the next start finds it cached', async t => {
  const all = { access_pattern: true, latest_read_files: true, iostats_files: true }
  const { daemon, fuse } = await mounted(t, plain, all)
  t.same(await daemon.api('GET', 'metrics/pattern?id=/a'), [])
  t.same(await daemon.api('GET', 'metrics/files?latest=true'), [])
  const before = Date.now()
  for (const path of READ) t.equal(await readFile(fuse, await fileOf(fuse, path)), 'right')
  await readAll(fuse, await nodeAt(fuse, `/a${READ[1]}`), SIZE)

  const pattern = (await daemon.api('GET', 'metrics/pattern?id=/a')) as PatternEntry[]
  t.same(
    pattern.map(({ nr_read }) => nr_read),
    [1, 2, 1, 1],
  )
  for (const { first_access_time_secs: secs, first_access_time_nanos: nanos } of pattern) {
    t.ok(Number.isInteger(secs) && Number.isInteger(nanos) && nanos >= 0 && nanos < 1e9)
    const ms = secs * 1000 + nanos / 1e6
    t.ok(ms > before - 1000 && ms < Date.now() + 1000, `first read at ${new Date(ms).toISOString()}`)
  }
  const named = (await daemon.api('GET', 'metrics/pattern?id=/a&paths=true')) as PatternEntry[]
  t.same(
    named.map(({ path }) => path),
    READ,
  )
  t.same(
    named.map(({ ino }) => ino),
    pattern.map(({ ino }) => ino),
  )

  const inos = pattern.map(({ ino }) => ino)
  const runs = (await daemon.api('GET', 'metrics/files?latest=true')) as number[][]
  const told = runs.flatMap(([first = 0, last = first]) =>
    Array.from({ length: last - first + 1 }, (_, i) => first + i),
  )
  t.same(
    told,
    inos.toSorted((a, b) => a - b),
  )
  t.same(await daemon.api('GET', 'metrics/files?latest=true'), [], 'told once')
  await readAll(fuse, await nodeAt(fuse, `/a${READ[2]}`), SIZE)
  t.same(await daemon.api('GET', 'metrics/files?latest=true'), [[inos[2]]])

  const files = (await daemon.api('GET', 'metrics/files')) as Record<string, Record<string, number[]>>
  t.match(files[inos[1] ?? 0], { data_read: 2 * SIZE, block_count_read: [0, 0, 0, 0, 2, 0, 0, 0] })
  t.equal(files[inos[1] ?? 0]?.['fop_hits']?.[METRIC.READ], 2)
  t.equal(files[inos[1] ?? 0]?.['fop_hits']?.[METRIC.LOOKUP], 2)
  for (const { total_fops, fop_hits, fop_errors } of Object.values(files)) {
    t.equal(fop_hits?.length, 15)
    t.same(fop_errors, Array(15).fill(0))
    t.equal(
      total_fops,
      fop_hits?.reduce((sum, count) => sum + count, 0),
    )
  }

  const list = join(dir, 'list.json')
  writeFileSync(list, JSON.stringify(named))
  const optimized = { bootstrap: join(dir, 'optimized.boot'), blobs: join(dir, 'prefetch-blob') }
  mkdirSync(optimized.blobs)
  const { code, stderr } = await runTool(
    ...['optimize', '-B', plain.bootstrap, '-p', list, '--blob-dir', plain.blobs],
    ...['--output-blob-dir', optimized.blobs, '-O', optimized.bootstrap],
  )
  t.equal(code, 0, stderr)
  t.equal(readdirSync(optimized.blobs).length, 1, 'optimize takes what the API gave')

  const lines = named.map(({ path }) => `${path}\n`).join('')
  const hinted = await build('hinted', lines, '--prefetch-policy', 'fs')
  const fs_prefetch = { enable: true, prefetch_all: false }
  const next = await mounted(t, hinted, { fs_prefetch })
  while (!next.daemon.log.includes('prefetch ended')) await new Promise(resolve => setTimeout(resolve, 5))
  next.proxy.always({ status: 404 })
  for (const path of READ)
    t.equal(await readFile(next.fuse, await fileOf(next.fuse, path)), 'right', `${path} is there`)
  t.equal(await readFile(next.fuse, await fileOf(next.fuse, '/lib/file-09')), 'EIO', 'this one is not')
})

t.test('what is not asked for is not noted; a read that fails is', async t => {
  const silent = await mounted(t, plain, {})
  t.equal(await readFile(silent.fuse, await fileOf(silent.fuse, READ[0])), 'right')
  t.same(await silent.daemon.api('GET', 'metrics/files'), {})
  t.same(await silent.daemon.api('GET', 'metrics/files?latest=true'), [])
  await t.rejects(silent.daemon.api('GET', 'metrics/pattern?id=/a'), {
    status: 404,
    message: /Pattern\(Metrics\(Stats\(NoCounter\)\)\)/,
  })
  t.equal(await silent.daemon.api('GET', 'metrics/inflight'), undefined, '204')

  const { daemon, fuse, proxy } = await mounted(t, plain, { iostats_files: true })
  const file = await fileOf(fuse, READ[0])
  proxy.always('hang')
  const reading = readFile(fuse, file)
  const started = Date.now() / 1000
  let inflight: unknown
  while (inflight === undefined) inflight = await daemon.api('GET', 'metrics/inflight')
  const [entry] = inflight as { inode: number; timestamp_secs: number; opcode: number; unique: number }[]
  t.match(entry, { opcode: 15, unique: Number })
  t.ok(Math.abs((entry?.timestamp_secs ?? 0) - started) <= 2)
  t.equal(await reading, 'EIO')
  const [ino, counters] = Object.entries(
    (await daemon.api('GET', 'metrics/files')) as Record<string, Record<string, number[]>>,
  ).find(([, { fop_hits }]) => fop_hits?.[METRIC.READ] === 1) ?? ['', {}]
  t.equal(Number(ino), entry?.inode)
  t.match(counters, { data_read: 0, block_count_read: Array(8).fill(0) })
  t.equal(counters['fop_errors']?.[METRIC.READ], 1)
  const global = (await daemon.api('GET', 'metrics')) as Record<string, number[]>
  t.match(global, { data_read: 0, block_count_read: Array(8).fill(0) })
  t.equal(global['fop_errors']?.[METRIC.READ], 1)
})
