/**
 * What a guest sees when its backend misbehaves: the right bytes in the end, or EIO within the configured time; never a
 * hang, never wrong bytes, never a storm of requests.
 */
import t, { type Test } from 'tap'
import { BlobServer } from '../backend/testing/blob-server.js'
import { FakeRegistry } from '../backend/testing/fake-registry.js'
import { type Fault, FaultProxy } from '../backend/testing/fault-proxy.js'
import { freePort } from '../backend/testing/ports.js'
import { expectedRecords, fixtureNamed } from '../../vm-tests/fixtures.js'
import { connectGuest, startDaemon } from './testing/daemon.js'
import { type GuestFile, guestFiles, inParallel, readFile } from './testing/guest-tree.js'
import { blobsOf, mountRemote, type RemoteOptions } from './testing/remote.js'
import { tempDir } from './testing/temp-dir.js'

/** One blob, and no chunk table in it: a read of one chunk is one request. */
const IMAGE = 'v5-zstd-sha256'
const [[, blob]] = [...blobsOf(IMAGE)] as [[string, Buffer]]
const manifest = expectedRecords(fixtureNamed(IMAGE))
const server = await BlobServer.start(blob)
const daemon = await startDaemon(t)
const fuse = await connectGuest(t, daemon)
t.teardown(() => server.stop())
let mounts = 0

/**
 * Seconds for an answer. What never comes is waited for so long; what comes has so much time that a busy machine is not
 * taken for a fault. Two of it and a pause are far less than the front-end waits.
 */
const TIMEOUT = 6

interface Rig {
  readonly proxy: FaultProxy
  readonly mountpoint: string
  readonly files: readonly GuestFile[]
  /** A file of one chunk. */
  readonly small: GuestFile
  /**
   * Outcomes of reading all files, and how often each came. A few readers in no order make a request for each file;
   * many make few, for neighbours that are wanted at once come together.
   */
  readonly readAll: (readers?: number) => Promise<Record<string, number>>
}

const isSmall = ({ size }: GuestFile): boolean => size > 1000 && size < 100_000

async function rig(
  t: Test,
  config: object,
  options: RemoteOptions = {},
  upstream = server.url,
): Promise<Rig> {
  const proxy = await FaultProxy.start(upstream)
  t.teardown(() => proxy.stop())
  const mountpoint = `/${mounts++}`
  const backend = { type: 'registry', config: { scheme: 'http', host: proxy.host, repo: 'a/b', ...config } }
  // A folder of its own: mounts of the same blob without one share what one of them has read.
  await mountRemote(daemon, mountpoint, IMAGE, backend, { workDir: tempDir(t), ...options })
  const files = await guestFiles(fuse, mountpoint, manifest)
  const small = files.find(isSmall)
  if (small === undefined) throw new Error('the fixture has no small file')
  const mixed = files.toSorted((a, b) => (a.sha256 < b.sha256 ? -1 : 1))
  const readAll = async (readers?: number) => {
    const counts: Record<string, number> = {}
    for (const outcome of await inParallel(mixed, file => readFile(fuse, file), readers))
      counts[outcome] = (counts[outcome] ?? 0) + 1
    return counts
  }
  return { proxy, mountpoint, files, small, readAll }
}

const faults: readonly [name: string, fault: Fault][] = [
  ['a black hole', 'hang'],
  ['a reset before the answer', { resetAfter: -1 }],
  ['a reset in the body', { resetAfter: 100 }],
  ['silence in the body', { stallAfter: 100 }],
  ['a short body', { shortBy: 1 }],
  ['not HTTP', 'garbage'],
  ['a range of other bytes', { headers: { 'content-range': `bytes 0-9/${blob.length}` } }],
  ['429', { status: 429 }],
  ['503', { status: 503 }],
]

t.test('faults of one answer: the guest gets its bytes, by the second request', t => {
  t.jobs = faults.length
  for (const [name, fault] of faults)
    void t.test(name, async t => {
      const { proxy, small } = await rig(t, { timeout: TIMEOUT, retry_limit: 1 })
      proxy.next(fault)
      t.equal(await readFile(fuse, small), 'right')
      t.equal(proxy.requests.length, 2)
    })
  t.end()
})

t.test('faults that stay: EIO in time, and no more requests than configured', t => {
  t.jobs = faults.length
  for (const [name, fault] of faults)
    void t.test(name, async t => {
      const { proxy, small } = await rig(t, { timeout: TIMEOUT, retry_limit: 1 })
      proxy.always(fault)
      t.equal(await readFile(fuse, small), 'EIO')
      t.equal(proxy.requests.length, 2)
      proxy.always('pass')
      t.equal(await readFile(fuse, small), 'right', 'and nothing of it is remembered')
    })
  t.end()
})

t.test('wrong bytes never reach the guest, nor the cache', async t => {
  for (const digestValidate of [true, false]) {
    const { proxy, small, readAll, files } = await rig(t, {}, { digestValidate })
    proxy.next('corrupt')
    t.equal(await readFile(fuse, small), 'right', 'once: fetched again')
    t.equal(proxy.requests.length, 2)
    const there = proxy.requests.length
    proxy.always('corrupt')
    const outcomes = await readAll()
    t.strictSame(Object.keys(outcomes).sort(), ['EIO', 'right'], 'what was read before is there')
    const asked = proxy.requests.length - there
    t.ok(asked <= 2 * files.length, `${asked} requests for ${files.length} files`)
    proxy.always('pass')
    t.strictSame(await readAll(), { right: files.length })
  }
})

t.test('a slow trickle: EIO after the configured tries, right when it flows again', async t => {
  const { proxy, small } = await rig(t, { timeout: TIMEOUT, retry_limit: 1 })
  // One byte a millisecond: chunk and read-ahead would take minutes.
  proxy.always('trickle')
  t.equal(await readFile(fuse, small), 'EIO')
  t.equal(proxy.requests.length, 2)
  proxy.always('pass')
  t.equal(await readFile(fuse, small), 'right')
  t.equal(proxy.requests.length, 3)
})

t.test('a backend that is down: all readers fail soon, few requests go out; it heals by itself', async t => {
  const { proxy, readAll, files } = await rig(t, { timeout: TIMEOUT })
  proxy.always({ status: 503 })
  t.strictSame(await readAll(), { EIO: files.length })
  const { length: asked } = proxy.requests
  t.ok(asked <= 3 * 4, `${asked} requests for ${files.length} files: three reads find out for all`)
  proxy.always('pass')
  let healed = await readAll()
  while (healed['right'] !== files.length) {
    t.notOk(healed['wrong'])
    healed = await readAll()
  }
})

/** Requests of a proxy for what was asked for before. */
function repeated({ requests }: FaultProxy): number {
  return requests.length - new Set(requests.map(({ headers }) => headers.range)).size
}

t.test('a server killed and started again under its readers: nobody notices', async t => {
  const { proxy, readAll, files } = await rig(t, {}, { more: { amplify_io: 0 } })
  proxy.delayMs = 10
  const reading = readAll(4)
  for (const count of [10, 60]) {
    while (proxy.requests.length < count) await new Promise(resolve => setTimeout(resolve, 1))
    await proxy.stop()
    await proxy.start()
  }
  t.strictSame(await reading, { right: files.length })
  t.ok(repeated(proxy) <= 2 * 4, `${repeated(proxy)} requests again: those of four readers, at two kills`)
})

t.test('a P2P proxy killed and started again: the origin sends what was under way, once', async t => {
  const peer = await FaultProxy.start()
  t.teardown(() => peer.stop())
  const to = { url: peer.url, ping_url: `${server.url}/ping`, check_interval: 1 }
  const {
    proxy: origin,
    readAll,
    files,
    mountpoint,
  } = await rig(t, { proxy: to }, { more: { amplify_io: 0 } })
  peer.delayMs = 10
  const reading = readAll(4)
  while (peer.requests.length < 20) await new Promise(resolve => setTimeout(resolve, 1))
  await peer.stop()
  t.strictSame(await reading, { right: files.length })
  t.ok(repeated(origin) <= 4, `${repeated(origin)} requests again: those of four readers`)
  t.match(await daemon.api('GET', `metrics/backend?id=${mountpoint}`), { read_errors: 0 })
})

/** Port on which nobody listens, and a name that nobody knows. */
for (const [what, host] of [
  ['refused', `127.0.0.1:${await freePort()}`],
  ['a name that does not resolve', 'registry.invalid'],
] as const)
  t.test(`${what}: EIO after the configured tries`, async t => {
    const { small, mountpoint } = await rig(t, { host, timeout: TIMEOUT, retry_limit: 1 })
    const counted = async () =>
      (await daemon.api('GET', `metrics/backend?id=${mountpoint}`)) as Record<string, number>
    const before = await counted()
    t.equal(await readFile(fuse, small), 'EIO')
    const after = await counted()
    t.equal((after['retries'] ?? 0) - (before['retries'] ?? 0), 1)
    t.equal(after['read_errors'], 1)
  })

t.test('a server that refuses for a while: right as soon as it is there', async t => {
  const { proxy, small } = await rig(t, { timeout: TIMEOUT, retry_limit: 1 })
  await proxy.stop()
  t.equal(await readFile(fuse, small), 'EIO')
  t.equal(proxy.requests.length, 0)
  await proxy.start()
  while ((await readFile(fuse, small)) !== 'right');
  t.equal(proxy.requests.length, 1)
})

t.test('tokens that end in the middle: replaced once each time', async t => {
  const registry = await FakeRegistry.start(blob)
  t.teardown(() => registry.server.stop())
  registry.auth = 'bearer'
  const { proxy, readAll, files } = await rig(t, {}, { more: { amplify_io: 0 } }, registry.server.url)
  proxy.delayMs = 5
  const reading = readAll(4)
  for (const count of [20, 80]) {
    while (proxy.requests.length < count) await new Promise(resolve => setTimeout(resolve, 1))
    registry.revoke()
  }
  t.strictSame(await reading, { right: files.length })
  // POST form first; each time one for all readers.
  t.equal(registry.tokenRequests.length, 3)
  t.ok(repeated(proxy) <= 3 * 4, `${repeated(proxy)} requests again: those of four readers, three times`)
})

t.test('a token that has expired is replaced before anything is asked with it', async t => {
  const registry = await FakeRegistry.start(blob)
  t.teardown(() => registry.server.stop())
  registry.auth = 'bearer'
  registry.expiresIn = 3
  registry.forgets = true
  const { proxy, files } = await rig(t, {}, { more: { amplify_io: 0 } }, registry.server.url)
  const [first, ...others] = files.filter(isSmall) as [GuestFile, ...GuestFile[]]
  // The blob holds equal files once.
  const second = others.find(({ sha256 }) => sha256 !== first.sha256) ?? first
  t.equal(await readFile(fuse, first), 'right')
  t.equal(registry.tokenRequests.length, 1)
  t.equal(proxy.requests.length, 2, 'one without a token, one with it')
  // By the clock that the daemon goes by as well.
  while (registry.good.size > 0) await new Promise(resolve => setTimeout(resolve, 50))
  t.equal(await readFile(fuse, second), 'right')
  t.equal(registry.tokenRequests.length, 2)
  t.equal(proxy.requests.length, 3, 'the expired one was not sent')
})

t.test('429 with Retry-After: nobody asks before that', async t => {
  const { proxy, readAll, files } = await rig(t, { timeout: 5 })
  proxy.next({ status: 429, headers: { 'retry-after': '1' } })
  t.strictSame(await readAll(), { right: files.length })
  t.equal(proxy.requests.filter(({ fault }) => fault !== 'pass').length, 1)
})

t.test('a hanging backend holds up neither the API nor an unmount, which ends its reads', async t => {
  const { proxy, mountpoint, files } = await rig(t, { timeout: 0 })
  proxy.always('hang')
  const reading = inParallel(files.slice(0, 8), file => readFile(fuse, file))
  while (proxy.requests.length < 1) await new Promise(resolve => setTimeout(resolve, 1))
  t.match(await daemon.api('GET', 'daemon'), { state: 'RUNNING' })
  // The first request may go out before the last read has come.
  const reads = async () =>
    ((await daemon.api('GET', `metrics/blobcache?id=${mountpoint}`)) as { total: number }).total
  while ((await reads()) < 8) await new Promise(resolve => setTimeout(resolve, 1))
  t.equal(await reads(), 8)
  await daemon.umount(mountpoint)
  t.strictSame(new Set(await reading), new Set(['ESTALE']))
})

t.test('no read had to wait for the limit that ends every read', async t => {
  t.match(daemon.log, /a read failed/)
  t.notMatch(daemon.log, /no data within/)
})
