/**
 * Proxies and mirrors: who carries the load when all is well, and that nobody notices when they fail.
 */
import t, { type Test } from 'tap'
import type { BlobReader, MirrorOptions, ProxyOptions, RegistryOptions } from './backend.js'
import { BlobServer, patternBlob } from './testing/blob-server.js'
import { makeCerts } from './testing/certs.js'
import { FakeRegistry } from './testing/fake-registry.js'
import { FaultProxy } from './testing/fault-proxy.js'
import { base64, mirrorDefaults, proxyDefaults, testSeams } from './testing/fixtures.js'
import { openedHttpProxy, openedRegistry } from './testing/opened.js'

const ID = 'cd'.repeat(32)
const PATH = `/v2/nydus/test/blobs/sha256:${ID}`
const blob = patternBlob(200_000)
const settle = () => new Promise(resolve => setImmediate(resolve))

async function check(t: Test, reader: BlobReader, offset = 100, length = 1000, fresh = false): Promise<void> {
  const into = Buffer.alloc(length)
  await reader.read(into, offset, { fresh })
  t.ok(into.equals(blob.subarray(offset, offset + length)), `bytes at ${offset}`)
}

async function proxied(t: Test, proxy: Partial<ProxyOptions> = {}, options: Partial<RegistryOptions> = {}) {
  const registry = await FakeRegistry.start(blob)
  const p2p = await FaultProxy.start()
  t.teardown(() => Promise.all([p2p.stop(), registry.server.stop()]))
  const seams = testSeams()
  const given = { host: registry.host, proxy: { ...proxyDefaults, url: p2p.url, ...proxy }, ...options }
  const backend = openedRegistry(t, given, seams)
  return { registry, p2p, seams, backend, blob: backend.open(ID) }
}

t.test('proxy: the peers carry the load, redirects and tokens included', async t => {
  const { registry, p2p, blob } = await proxied(t, {}, { auth: base64('user:password') })
  registry.auth = 'bearer'
  const store = await registry.toStore(t)
  await check(t, blob)
  await check(t, blob, 5000)
  t.strictSame(
    p2p.requests.map(request => `${request.method} ${request.url}`),
    [
      `GET http://${registry.host}${PATH}`,
      `POST http://${registry.host}/token`,
      `GET http://${registry.host}${PATH}`,
      `GET ${store.url}${PATH}`,
      `GET ${store.url}${PATH}`,
    ],
  )
  const blobs = p2p.requests.filter(request => request.method === 'GET')
  t.ok(blobs.every(request => request.headers['x-dragonfly-use-p2p'] === 'true'))
  t.equal(store.requests[0]?.headers.authorization, undefined)
})

t.test('proxy: it dies in the middle of a read, and the origin sends the rest', async t => {
  const { registry, p2p, seams, blob } = await proxied(t)
  p2p.next({ resetAfter: 50_000 })
  await check(t, blob, 0, 100_000)
  t.equal(p2p.requests.length, 1)
  const direct = registry.server.requests[1]?.headers.range
  t.match(direct, /^bytes=[1-9]\d*-99999$/, 'only what was missing')
  t.equal(seams.clock.naps.length, 0, 'without a pause')
})

t.test('proxy: every way to fail leads to the origin', async t => {
  for (const fault of [
    { resetAfter: -1 },
    'garbage',
    { shortBy: 10 },
    { headers: { 'content-range': 'bytes 0-9/10' } },
    { status: 403, body: 'rate limited' },
    { status: 404 },
    { status: 429 },
    { status: 500 },
    { status: 503, headers: { 'retry-after': '3600' } },
    { status: 407 },
  ] as const) {
    const { p2p, seams, blob } = await proxied(t)
    p2p.always(fault)
    await check(t, blob)
    t.equal(p2p.requests.length, 1, JSON.stringify(fault))
    t.equal(seams.clock.naps.length, 0)
  }
})

t.test(
  'proxy: credentials that it cannot bring are fetched without it, and it goes on with them',
  async t => {
    for (const fault of [{ status: 403, body: 'not through me' }, 'garbage', { resetAfter: -1 }] as const) {
      const { registry, p2p, seams, blob } = await proxied(t, {}, { auth: base64('user:password') })
      registry.auth = 'bearer'
      p2p.always(request => (request.url?.includes('/token') === true ? fault : 'pass'))
      await Promise.all([check(t, blob), check(t, blob, 3000)])
      const origin = registry.blobRequests.length
      // A proxy that says 403 is not asked for this blob again at once.
      seams.clock.advance(61_000)
      await check(t, blob, 5000)
      t.equal(registry.blobRequests.length, origin + 1, JSON.stringify(fault))
      t.equal(p2p.requests.at(-1)?.headers.authorization, 'Bearer t1', 'the origin’s token')
      t.equal(registry.tokenRequests.length, 1)
    }
  },
)

t.test('proxy: a HEAD that it refuses does not keep reads from it', async t => {
  for (const status of [400, 403, 404, 405]) {
    const { registry, p2p, blob: reader } = await proxied(t)
    p2p.always(request => (request.method === 'HEAD' ? { status } : 'pass'))
    t.equal(await reader.size(), blob.length, String(status))
    t.equal(registry.server.requests.length, 1)
    await check(t, reader)
    t.strictSame(
      p2p.requests.map(request => request.method),
      ['HEAD', 'GET'],
    )
  }
})

t.test('proxy: killed, left alone, restarted, used again when its ping answers', async t => {
  const health = await BlobServer.start(Buffer.from('ok'))
  t.teardown(() => health.stop())
  let alive = true
  health.hook = (_, response) => {
    response.writeHead(alive ? 200 : 503).end()
    return true
  }
  const { registry, p2p, seams, blob } = await proxied(t, { ping_url: `${health.url}/server/ping` })
  await check(t, blob)
  t.equal(p2p.requests.length, 1)

  await p2p.stop()
  alive = false
  for (let i = 0; i < 20; i++) await check(t, blob, i * 10, 10)
  t.equal(registry.server.requests.length, 21, 'all reads were served by the origin')

  await p2p.start()
  await check(t, blob)
  t.equal(p2p.requests.length, 1, 'not used before it is known to be well')
  alive = true
  seams.clock.advance(5000)
  while (health.requests.length < 1) await settle()
  for (let i = 0; i < 20 && p2p.requests.length === 1; i++) await check(t, blob)
  await check(t, blob)
  t.ok(p2p.requests.length >= 2, 'used again')
  t.equal(health.requests[0]?.url, '/server/ping')
})

t.test('proxy: killed and restarted without a ping_url', async t => {
  const { p2p, seams, blob } = await proxied(t)
  await p2p.stop()
  for (let i = 0; i < 5; i++) await check(t, blob)
  await p2p.start()
  await check(t, blob)
  t.equal(p2p.requests.length, 0)
  seams.clock.advance(5000)
  await check(t, blob)
  t.equal(p2p.requests.length, 1)
  await check(t, blob)
  t.equal(p2p.requests.length, 2)
})

t.test('proxy without fallback: the origin is never asked', async t => {
  const { registry, p2p, seams, blob } = await proxied(t, { fallback: false })
  await check(t, blob)
  p2p.always({ status: 502 })
  await t.rejects(check(t, blob), { code: 'BACKEND_UNAVAILABLE', message: /proxy 127\.0\.0\.1/ })
  await p2p.stop()
  await t.rejects(check(t, blob), { code: 'BACKEND_REFUSED' })
  t.equal(registry.server.requests.length, 1)
  t.equal(seams.clock.naps.length, 6)
})

t.test('proxy: what the origin says in the end is the verdict', async t => {
  const { registry, p2p, blob } = await proxied(t)
  registry.server.refuse(404)
  await t.rejects(check(t, blob), { code: 'BACKEND_NOT_FOUND', message: /over origin/ })
  t.equal(p2p.requests.length, 1)
  t.equal(registry.server.requests.length, 2)
})

t.test('proxy: wrong bytes are read again from the origin', async t => {
  const { p2p, blob, registry } = await proxied(t)
  p2p.always('corrupt')
  const into = Buffer.alloc(1000)
  await blob.read(into, 100)
  t.notOk(into.equals(registry.server.blob.subarray(100, 1100)), 'nothing in HTTP tells')
  await check(t, blob, 100, 1000, true)
  t.equal(p2p.requests.length, 1)
})

t.test('proxy_url at run time: another one, none, nonsense', async t => {
  const { p2p, backend, blob } = await proxied(t)
  const other = await FaultProxy.start()
  t.teardown(() => other.stop())
  backend.reconfigure({ proxy_url: other.url })
  await check(t, blob)
  t.throws(() => backend.reconfigure({ proxy_url: 'ftp://x' }), { code: 'BACKEND_CONFIG' })
  await check(t, blob)
  t.equal(other.requests.length, 2)
  backend.reconfigure({ proxy_url: '' })
  await check(t, blob)
  t.equal(other.requests.length, 2)
  t.equal(p2p.requests.length, 0)
})

t.test('https through a proxy: a tunnel, which the proxy cannot look into', async t => {
  const certs = await makeCerts(t.testdir({}))
  const origin = await BlobServer.start(blob, certs)
  const p2p = await FaultProxy.start()
  t.teardown(() => Promise.all([p2p.stop(), origin.stop()]))
  const backend = openedHttpProxy(t, {
    addr: origin.url,
    ca_cert_files: [certs.ca],
    proxy: { ...proxyDefaults, url: p2p.url },
  })
  const reader = backend.open(ID)
  await check(t, reader)
  await check(t, reader, 5000)
  t.ok(p2p.requests.every(request => request.method === 'CONNECT' && request.url === origin.host))
  t.ok(p2p.requests.length <= 2, `${p2p.requests.length} tunnels`)
  t.equal(origin.requests.length, 2)

  for (const fault of [{ status: 503 }, { status: 403 }, { resetAfter: -1 }] as const) {
    const broken = await FaultProxy.start()
    broken.always(fault)
    backend.reconfigure({ proxy_url: broken.url })
    await check(t, reader)
    t.ok(broken.requests.length >= 1, JSON.stringify(fault))
    await broken.stop()
  }
})

t.test('use_http: the proxy is asked for http where the origin is https', async t => {
  const certs = await makeCerts(t.testdir({}))
  const origin = await BlobServer.start(blob, certs)
  const p2p = await FaultProxy.start()
  p2p.always({ status: 200, body: blob.toString('latin1') })
  t.teardown(() => Promise.all([p2p.stop(), origin.stop()]))
  const backend = openedHttpProxy(t, {
    addr: origin.url,
    path: 'x',
    ca_cert_files: [certs.ca],
    proxy: { ...proxyDefaults, url: p2p.url, use_http: true },
  })
  await backend.open(ID).read(Buffer.alloc(10), 0)
  t.equal(p2p.requests[0]?.url, `http://${origin.host}/x/${ID}`)
  t.equal(origin.requests.length, 0)
  await p2p.stop()
  await check(t, backend.open(ID))
  t.equal(origin.requests.length, 1, 'the origin itself is asked over https')
})

async function mirrored(
  t: Test,
  mirror: Partial<MirrorOptions> = {},
  options: Partial<RegistryOptions> = {},
) {
  const registry = await FakeRegistry.start(blob)
  const mirrors = [await FakeRegistry.start(blob), await FakeRegistry.start(blob)] as const
  t.teardown(() => Promise.all([registry, ...mirrors].map(one => one.server.stop())))
  const seams = testSeams()
  const given = mirrors.map(one => ({ ...mirrorDefaults, host: one.server.url, ...mirror }))
  const backend = openedRegistry(t, { host: registry.host, mirrors: given, ...options }, seams)
  return { registry, first: mirrors[0], second: mirrors[1], seams, backend, blob: backend.open(ID) }
}

t.test('mirrors: the first serves, with its headers; the origin is not asked', async t => {
  const { registry, first, second, blob } = await mirrored(t, { headers: { 'X-Team': 'blue' } })
  await check(t, blob)
  t.equal(first.server.requests.length, 1)
  t.equal(first.server.requests[0]?.url, PATH)
  t.match(first.server.requests[0]?.headers, {
    'x-team': 'blue',
    'x-dragonfly-registry': `http://${registry.host}`,
  })
  t.equal(second.server.requests.length + registry.server.requests.length, 0)
})

t.test('mirrors: the configured X-Dragonfly-Registry counts', async t => {
  const { first, blob } = await mirrored(t, {
    headers: { 'X-Dragonfly-Registry': 'https://index.docker.io' },
  })
  await check(t, blob)
  t.equal(first.server.requests[0]?.headers['x-dragonfly-registry'], 'https://index.docker.io')
})

t.test('mirrors: one after the other, the origin last', async t => {
  const { registry, first, second, blob, seams } = await mirrored(t)
  first.server.refuse(500)
  await check(t, blob)
  second.server.refuse(500)
  await check(t, blob)
  t.strictSame(
    [first, second, registry].map(one => one.server.requests.length),
    [2, 2, 1],
  )
  t.equal(seams.clock.naps.length, 0)
})

t.test('mirrors: after failure_limit failures one is left alone until its ping answers', async t => {
  const { registry, first, second, blob, seams } = await mirrored(t, { failure_limit: 2 })
  first.server.refuse(500)
  second.server.refuse(500)
  for (let i = 0; i < 10; i++) await check(t, blob)
  t.equal(first.server.requests.length, 2)
  t.equal(second.server.requests.length, 2)
  t.equal(registry.server.requests.length, 10)
  first.auth = 'basic'
  first.server.hook = (request, response) => {
    // 401 is how a healthy registry answers a ping.
    if (request.url !== '/v2/') return false
    response.writeHead(401).end()
    return true
  }
  seams.clock.advance(5000)
  while (first.server.requests.length < 3) await settle()
  t.equal(first.server.requests[2]?.url, '/v2/')
  t.equal(first.server.requests[2]?.headers['x-dragonfly-registry'], `http://${registry.host}`)
  for (let i = 0; i < 50 && first.server.requests.length === 3; i++) await check(t, blob)
  t.equal(first.server.requests[3]?.url, PATH)
})

t.test('mirrors: their headers go along with a ping to themselves, and nowhere else', async t => {
  const elsewhere = await BlobServer.start(Buffer.from('ok'))
  t.teardown(() => elsewhere.stop())
  const { blob, seams } = await mirrored(t, {
    headers: { 'X-Key': 'secret' },
    ping_url: `${elsewhere.url}/healthy`,
  })
  await check(t, blob)
  seams.clock.advance(5000)
  while (elsewhere.requests.length < 1) await settle()
  const { 'x-key': key, 'x-dragonfly-registry': told } = elsewhere.requests[0]?.headers ?? {}
  t.strictSame([key, told], [undefined, undefined])
})

t.test('mirrors: one without the blob is not asked for it again and again', async t => {
  const { first, second, blob, seams } = await mirrored(t)
  first.server.refuse(404)
  for (let i = 0; i < 10; i++) await check(t, blob)
  t.equal(first.server.requests.length, 1)
  t.equal(second.server.requests.length, 10)
  seams.clock.advance(61_000)
  first.server.hook = () => false
  await check(t, blob)
  t.equal(first.server.requests.length, 2, 'it may have it by now')
})

t.test('mirrors: credentials are asked for at the registry, not where a mirror says', async t => {
  const { registry, first, second, blob } = await mirrored(t, {}, { auth: base64('user:password') })
  registry.auth = 'bearer'
  first.auth = 'bearer'
  const thief = await BlobServer.start(Buffer.alloc(0))
  t.teardown(() => thief.stop())
  first.challenge = `Bearer realm="${thief.url}/token",service="x"`
  // Good tokens are the registry's.
  first.good.has = token => registry.good.has(token)
  await check(t, blob)
  await check(t, blob, 5000)
  t.equal(thief.requests.length, 0)
  t.equal(registry.tokenRequests.length, 1)
  t.strictSame(
    first.blobRequests.map(request => request.authorization),
    [undefined, 'Bearer t1', 'Bearer t1'],
  )
  t.strictSame(
    registry.server.requests.map(request => request.url),
    ['/v2/', '/token'],
  )
  t.equal(second.server.requests.length, 0)
})

t.test('mirrors: with auth_through the mirror authenticates on its own', async t => {
  const { registry, first, blob } = await mirrored(
    t,
    { auth_through: true },
    { auth: base64('user:password') },
  )
  first.auth = 'bearer'
  await check(t, blob)
  t.equal(first.tokenRequests.length, 1)
  t.equal(registry.server.requests.length, 0)
})

t.test('mirrors: a path in front', async t => {
  const { first, backend, registry } = await mirrored(t)
  const nested = openedRegistry(t, {
    host: registry.host,
    mirrors: [{ ...mirrorDefaults, host: `${first.server.url}/mirror/` }],
  })
  await check(t, nested.open(ID))
  t.equal(first.server.requests[0]?.url, `/mirror${PATH}`)
  await backend.close()
})

t.test('proxy and mirrors: the proxy first, then the mirrors, then the origin', async t => {
  const p2p = await FaultProxy.start()
  t.teardown(() => p2p.stop())
  p2p.always({ status: 502 })
  const { registry, first, second, blob } = await mirrored(
    t,
    {},
    { proxy: { ...proxyDefaults, url: p2p.url } },
  )
  first.server.refuse(500)
  await check(t, blob)
  t.strictSame([p2p.requests.length, first.server.requests.length, second.server.requests.length], [1, 1, 1])
  t.equal(registry.server.requests.length, 0)
})
