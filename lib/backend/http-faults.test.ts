/**
 * Each fault that a network or a server can produce, and what a reader sees of it: the right bytes in the end,
 * or an error with a name. Requests are counted, so that no fault becomes a storm.
 */
import t, { type Test } from 'tap'
import type { BlobReader, HttpOptions } from './backend.js'
import { BlobServer, patternBlob } from './testing/blob-server.js'
import { type Fault, FaultProxy } from './testing/fault-proxy.js'
import { testSeams } from './testing/fixtures.js'
import { systemSeams } from './http.js'
import { openedHttpProxy } from './testing/opened.js'
import { freePort } from './testing/ports.js'

const ID = 'c0'.repeat(32)
const SIZE = 300_000
const blob = patternBlob(SIZE)
const server = await BlobServer.start(blob)
t.teardown(() => server.stop())

interface Rig {
  readonly proxy: FaultProxy
  readonly blob: BlobReader
  readonly seams: ReturnType<typeof testSeams>
  readonly counters: () => Readonly<Record<string, number>>
}

async function rig(t: Test, options: Partial<HttpOptions> = {}, real = false): Promise<Rig> {
  const proxy = await FaultProxy.start(server.url)
  t.teardown(() => proxy.stop())
  const seams = testSeams()
  const given = { ...options, addr: proxy.url, path: 'blobs' }
  const backend = openedHttpProxy(t, given, real ? systemSeams : seams)
  return { proxy, blob: backend.open(ID), seams, counters: () => backend.counters }
}

async function read(blob: BlobReader, offset = 1000, length = 100_000): Promise<Buffer> {
  const into = Buffer.alloc(length)
  await blob.read(into, offset)
  return into
}

const expected = blob.subarray(1000, 101_000)

/** Faults of one request each; the second request is answered well. */
const passing: readonly [name: string, fault: Fault, code: string][] = [
  ['reset before the head', { resetAfter: -1 }, 'BACKEND_RESET'],
  ['reset in the body', { resetAfter: 10_000 }, 'BACKEND_RESET'],
  ['not HTTP', 'garbage', 'BACKEND_BAD_ANSWER'],
  ['short body', { shortBy: 5 }, 'BACKEND_SHORT_BODY'],
  [
    'content-length that contradicts content-range',
    { headers: { 'content-length': '99999' } },
    'BACKEND_BAD_ANSWER',
  ],
  [
    'content-range of other bytes',
    { headers: { 'content-range': `bytes 999-100998/${SIZE}` } },
    'BACKEND_BAD_ANSWER',
  ],
  [
    'content-range beyond the question',
    { headers: { 'content-range': `bytes 1000-101000/${SIZE}` } },
    'BACKEND_BAD_ANSWER',
  ],
  ['no content-range', { headers: { 'content-range': undefined } }, 'BACKEND_BAD_ANSWER'],
  ['compressed', { headers: { 'content-encoding': 'gzip' } }, 'BACKEND_BAD_ANSWER'],
  ['500', { status: 500 }, 'BACKEND_UNAVAILABLE'],
  ['502', { status: 502 }, 'BACKEND_UNAVAILABLE'],
  ['503', { status: 503 }, 'BACKEND_UNAVAILABLE'],
  ['504', { status: 504 }, 'BACKEND_UNAVAILABLE'],
  ['408', { status: 408 }, 'BACKEND_UNAVAILABLE'],
  ['429', { status: 429 }, 'BACKEND_THROTTLED'],
]

for (const [name, fault, code] of passing) {
  t.test(`${name}: once, and the next answer is taken`, async t => {
    const { proxy, blob, seams } = await rig(t)
    proxy.next(fault)
    t.ok((await read(blob)).equals(expected))
    t.equal(proxy.requests.length, 2)
    t.equal(seams.clock.naps.length, 1, 'one pause')
    t.equal(seams.clock.pending, 0, 'no timer is left')
  })
  t.test(`${name}: always, and the read fails after 1 + 3 requests`, async t => {
    const { proxy, blob, seams } = await rig(t)
    proxy.always(fault)
    await t.rejects(read(blob), { code, errno: 'EIO' })
    t.equal(proxy.requests.length, 4)
    t.equal(seams.clock.naps.length, 3)
    t.ok(
      seams.clock.naps.every((ms, i, all) => i === 0 || ms > (all[i - 1] ?? 0)),
      `pauses grow: ${seams.clock.naps.join(', ')}`,
    )
    t.equal(seams.clock.pending, 0, 'no timer is left')
  })
}

const final: readonly [name: string, fault: Fault, code: string][] = [
  ['401 that asks for nothing', { status: 401 }, 'BACKEND_UNAUTHORIZED'],
  ['403', { status: 403, body: '<Code>AccessDenied</Code>' }, 'BACKEND_DENIED'],
  ['404', { status: 404 }, 'BACKEND_NOT_FOUND'],
  ['410', { status: 410 }, 'BACKEND_NOT_FOUND'],
  ['400', { status: 400 }, 'BACKEND_REJECTED'],
  ['501', { status: 501 }, 'BACKEND_REJECTED'],
  ['a redirect without a target', { status: 302 }, 'BACKEND_REDIRECT'],
  [
    'a redirect to another protocol',
    { status: 302, headers: { location: 'file:///etc/passwd' } },
    'BACKEND_REDIRECT',
  ],
  ['a redirect in a circle', { status: 307, headers: { location: '/again' } }, 'BACKEND_REDIRECT'],
  ['416: the blob is shorter than the image says', { status: 416 }, 'BACKEND_TOO_SHORT'],
]

for (const [name, fault, code] of final) {
  t.test(`${name}: is not worth another try`, async t => {
    const { proxy, blob, seams } = await rig(t)
    proxy.always(fault)
    await t.rejects(read(blob), { code, errno: 'EIO' })
    t.equal(proxy.requests.length, code === 'BACKEND_REDIRECT' && name.includes('circle') ? 6 : 1)
    t.equal(seams.clock.naps.length, 0)
  })
}

t.test('an error names blob, range, server and what it said', async t => {
  const { proxy, blob } = await rig(t)
  proxy.always({ status: 403, body: '<Error><Code>AccountSuspended</Code></Error>' })
  await t.rejects(read(blob), {
    message: new RegExp(
      `blob ${ID}, 100000 bytes at 1000: GET ${proxy.url}/blobs/${ID} .*403.*AccountSuspended`,
    ),
  })
})

t.test('a broken answer is continued, not begun anew', async t => {
  const { proxy, blob } = await rig(t)
  proxy.next({ resetAfter: 60_000 }, { shortBy: 10_000 })
  t.ok((await read(blob)).equals(expected))
  const ranges = proxy.requests.map(request => request.headers.range)
  t.equal(ranges[0], 'bytes=1000-100999')
  t.match(ranges[1], /^bytes=\d+-100999$/)
  const second = Number(/\d+/.exec(ranges[1] ?? '')?.[0])
  t.ok(second > 1000 && second <= 61_000, `second request begins at ${second}`)
  t.equal(ranges[2], 'bytes=91000-100999')
})

t.test('progress is told as bytes come, and an interruption takes none of them back', async t => {
  const { proxy, blob } = await rig(t)
  proxy.next({ resetAfter: 40_000 })
  const into = Buffer.alloc(100_000)
  const counts: number[] = []
  const onProgress = (count: number) => {
    counts.push(count)
    t.ok(into.subarray(0, count).equals(expected.subarray(0, count)), `${count} bytes are right`)
  }
  await blob.read(into, 1000, { onProgress })
  t.ok(counts.length > 1)
  t.strictSame(
    counts,
    counts.toSorted((a, b) => a - b),
  )
  t.equal(counts.at(-1), 100_000)
})

t.test('bytes behind the range are not let in', async t => {
  const { proxy, blob } = await rig(t)
  proxy.always({ longBy: 5000 })
  const into = Buffer.alloc(100_010, 0x21)
  await blob.read(into.subarray(5, 100_005), 1000)
  t.ok(into.subarray(5, 100_005).equals(expected))
  t.ok(into.subarray(0, 5).equals(Buffer.alloc(5, 0x21)))
  t.ok(into.subarray(100_005).equals(Buffer.alloc(5, 0x21)))
  t.equal(proxy.requests.length, 1)
})

t.test('a server that ignores Range is read up to the end of the range, then cut', async t => {
  const { proxy, blob } = await rig(t)
  proxy.always('ignore-range')
  t.ok((await read(blob)).equals(expected))
  t.ok((await read(blob, SIZE - 10, 10)).equals(blobEnd(10)), 'also the last bytes')
  t.equal(proxy.requests.length, 2)
  await t.rejects(read(blob, SIZE - 10, 11), { code: 'BACKEND_TOO_SHORT' })
})

function blobEnd(length: number): Buffer {
  return blob.subarray(SIZE - length)
}

t.test('a server that ignores Range is not read through from far away', async t => {
  const { proxy, blob } = await rig(t)
  proxy.always({ status: 200, headers: { 'content-length': String(2 ** 32) }, body: '' })
  await t.rejects(read(blob, 2 ** 31, 10), { code: 'BACKEND_RANGE_IGNORED' })
  t.equal(proxy.requests.length, 1)
})

t.test('a range behind the end of the blob', async t => {
  const { blob, proxy } = await rig(t)
  await t.rejects(read(blob, SIZE - 10, 11), { code: 'BACKEND_TOO_SHORT', message: /only 300000 bytes/ })
  t.equal(proxy.requests.length, 1)
})

t.test('refused: the server is down for a moment', async t => {
  const { proxy, blob, seams } = await rig(t)
  t.ok((await read(blob)).equals(expected))
  await proxy.stop()
  await t.rejects(read(blob), { code: 'BACKEND_REFUSED' })
  t.equal(seams.clock.naps.length, 3)
  await proxy.start()
  t.ok((await read(blob)).equals(expected))
})

t.test('a host name that does not resolve', async t => {
  const seams = testSeams()
  const backend = openedHttpProxy(t, { addr: 'http://no-such-host.invalid' }, seams)
  await t.rejects(read(backend.open(ID)), { code: 'BACKEND_DNS', message: /no-such-host\.invalid/ })
  t.equal(seams.clock.naps.length, 3)
})

t.test('black hole: no answer ends at the timeout, each time', async t => {
  const { proxy, blob } = await rig(t, { timeout: 0.05 }, true)
  proxy.always('hang')
  await t.rejects(read(blob), { code: /^BACKEND_(TIMEOUT|DEADLINE)$/ })
  t.ok(proxy.requests.length <= 4, `${proxy.requests.length} requests`)
})

t.test('black hole in the middle of a body: what came is kept, the rest is asked for', async t => {
  const { proxy, blob } = await rig(t, { timeout: 0.2 }, true)
  proxy.next({ stallAfter: 50_000 })
  t.ok((await read(blob)).equals(expected))
  t.equal(proxy.requests.length, 2)
  t.equal(proxy.requests[1]?.headers.range, 'bytes=51000-100999')
})

t.test('slow trickle: ends within the deadline', async t => {
  const { proxy, blob } = await rig(t, { timeout: 0.1 }, true)
  proxy.always('trickle')
  await t.rejects(read(blob), { code: /^BACKEND_(TIMEOUT|DEADLINE)$/ })
  t.ok(proxy.requests.length <= 4, `${proxy.requests.length} requests`)
})

t.test('prefetch is tried twice, and retry_limit sets the tries of a demand read', async t => {
  const { proxy, blob } = await rig(t, { retry_limit: 6 })
  proxy.always({ status: 500 })
  await t.rejects(blob.read(Buffer.alloc(10), 0, { priority: 'prefetch' }))
  t.equal(proxy.requests.length, 2)
  await t.rejects(blob.read(Buffer.alloc(10), 0))
  t.equal(proxy.requests.length, 2 + 7)
})

t.test('Retry-After is waited for, by all readers of the backend', async t => {
  const { proxy, blob, seams } = await rig(t)
  proxy.next({ status: 429, headers: { 'retry-after': '3' } })
  t.ok((await read(blob)).equals(expected))
  t.ok(seams.clock.now() >= 1000 + 3000, 'three seconds have passed')
  proxy.next({ status: 503, headers: { 'retry-after': new Date(seams.clock.wall() + 4000).toUTCString() } })
  const before = seams.clock.now()
  t.ok((await read(blob)).equals(expected))
  t.ok(seams.clock.now() >= before + 3000, 'a date is understood')
})

t.test('Retry-After beyond the deadline fails at once, and no request goes out until then', async t => {
  const { proxy, blob, seams } = await rig(t)
  proxy.next({ status: 429, headers: { 'retry-after': '50' } })
  await t.rejects(read(blob), { code: 'BACKEND_THROTTLED' })
  await t.rejects(read(blob), { code: 'BACKEND_THROTTLED' })
  t.equal(proxy.requests.length, 1)
  t.equal(seams.clock.naps.length, 0)
  seams.clock.advance(50_000)
  t.ok((await read(blob)).equals(expected))
})

t.test('an aborted read ends at once and writes nothing afterwards', async t => {
  const { proxy, blob, seams } = await rig(t)
  proxy.always({ stallAfter: 50_000 })
  const abort = new AbortController()
  const into = Buffer.alloc(100_000)
  const reading = blob.read(into, 1000, { signal: abort.signal })
  while (into[49_999] !== expected[49_999]) await new Promise(resolve => setImmediate(resolve))
  abort.abort()
  await t.rejects(reading, { code: 'BACKEND_ABORTED' })
  const kept = Buffer.from(into)
  while (proxy.connections > 0) await new Promise(resolve => setImmediate(resolve))
  t.ok(into.equals(kept))
  t.equal(seams.clock.pending, 0)
  await t.rejects(blob.read(into, 0, { signal: abort.signal }), { code: 'BACKEND_ABORTED' })
})

t.test('a closed backend ends its reads', async t => {
  const proxy = await FaultProxy.start(server.url)
  t.teardown(() => proxy.stop())
  const backend = openedHttpProxy(t, { addr: proxy.url })
  proxy.always('hang')
  const reading = backend.open(ID).read(Buffer.alloc(10), 0)
  while (proxy.requests.length === 0) await new Promise(resolve => setImmediate(resolve))
  await Promise.all([t.rejects(reading, { code: 'BACKEND_CLOSED' }), backend.close()])
  await t.rejects(backend.open(ID).read(Buffer.alloc(10), 0), { code: 'BACKEND_CLOSED' })
})

t.test('1,000 reads of a backend that is down: few requests, quick errors, and it heals', async t => {
  const { proxy, blob, seams } = await rig(t)
  t.ok((await read(blob)).equals(expected))
  proxy.requests.length = 0
  proxy.always({ status: 503 })
  const results = await Promise.allSettled(Array.from({ length: 1000 }, () => read(blob, 0, 10)))
  t.ok(results.every(result => result.status === 'rejected'))
  t.ok(proxy.requests.length <= 32 * 4, `${proxy.requests.length} requests for 1,000 reads`)
  // The pauses of those reads may have outlasted the first rest: then this one probes, and the circuit opens anew.
  await t.rejects(read(blob))
  const before = proxy.requests.length
  await t.rejects(read(blob), { code: 'BACKEND_DOWN', message: /asked again in \d+ ms.*503/ })
  t.equal(proxy.requests.length, before, 'nothing is asked while the circuit is open')

  seams.clock.advance(5000)
  const probing = await Promise.allSettled(Array.from({ length: 50 }, () => read(blob, 0, 10)))
  t.ok(probing.every(result => result.status === 'rejected'))
  t.equal(proxy.requests.length, before + 1, 'one request finds out that it is still down')

  proxy.always('pass')
  seams.clock.advance(10_000)
  const healed = await Promise.all(Array.from({ length: 50 }, () => read(blob)))
  t.ok(healed.every(bytes => bytes.equals(expected)))
})

t.test('a restart of the server is survived by all reads in flight', async t => {
  const { proxy, blob, seams } = await rig(t)
  t.ok((await read(blob)).equals(expected))
  for (let i = 0; i < 64; i++) proxy.next({ resetAfter: 100 })
  const results = await Promise.all(Array.from({ length: 64 }, () => read(blob)))
  t.ok(results.every(bytes => bytes.equals(expected)))
  t.ok(proxy.requests.length <= 1 + 128, `${proxy.requests.length} requests`)
  t.equal(seams.clock.pending, 0)
})

t.test('connections are reused, and no more are opened than requests may be in flight', async t => {
  const { proxy, blob, counters } = await rig(t)
  await read(blob)
  t.equal(proxy.connections, 1)
  for (let i = 0; i < 20; i++) await read(blob, i * 1000, 1000)
  // undici rests a connection for a turn of the event loop; the next read may come within it.
  t.ok(proxy.connections <= 2, `one after the other: ${proxy.connections} connections`)
  proxy.delayMs = 5
  await Promise.all(Array.from({ length: 200 }, (_, i) => read(blob, i * 1000, 1000)))
  t.ok(proxy.connections <= 32, `${proxy.connections} connections`)
  t.equal(counters()['in_flight'], 0)
})

t.test('a port where nobody answers', async t => {
  const backend = openedHttpProxy(t, { addr: `http://127.0.0.1:${await freePort()}` })
  await t.rejects(backend.open(ID).size(), { code: 'BACKEND_REFUSED' })
})

t.test('the size is asked once; a failure is not remembered', async t => {
  const { proxy, blob } = await rig(t)
  proxy.next({ status: 404 })
  await t.rejects(blob.size(), { code: 'BACKEND_NOT_FOUND' })
  t.equal(await blob.size(), SIZE)
  t.equal(await blob.size(), SIZE)
  t.strictSame(
    proxy.requests.map(request => request.method),
    ['HEAD', 'HEAD'],
  )
  const other = await rig(t)
  await read(other.blob)
  t.equal(await other.blob.size(), SIZE)
  t.equal(other.proxy.requests.length, 1, 'a read tells the size, too')
})

t.test('a server without HEAD tells the size with a range', async t => {
  const { proxy, blob } = await rig(t)
  proxy.next({ status: 405 })
  t.equal(await blob.size(), SIZE)
  t.equal(proxy.requests[1]?.headers.range, 'bytes=0-0')
})
