import t, { type Test } from 'tap'
import type { BlobReader, RegistryOptions } from './backend.js'
import { BlobServer, patternBlob } from './testing/blob-server.js'
import { FakeRegistry } from './testing/fake-registry.js'
import { base64, registryDefaults, testSeams } from './testing/fixtures.js'
import { openedRegistry } from './testing/opened.js'

const ID = 'ab'.repeat(32)
const blob = patternBlob(50_000)
const AUTH = base64('user:password')

async function rig(t: Test, options: Partial<RegistryOptions> = {}) {
  const registry = await FakeRegistry.start(blob)
  const seams = testSeams()
  t.teardown(() => registry.server.stop())
  const backend = openedRegistry(t, { host: registry.host, ...options }, seams)
  return { registry, seams, backend, blob: backend.open(ID) }
}

async function check(t: Test, reader: BlobReader, offset = 100, length = 1000): Promise<void> {
  const into = Buffer.alloc(length)
  await reader.read(into, offset)
  t.ok(into.equals(blob.subarray(offset, offset + length)), `bytes at ${offset}`)
}

t.test('anonymous: no credentials are sent where none are asked for', async t => {
  const { registry, blob } = await rig(t, { auth: AUTH })
  await check(t, blob)
  t.strictSame(registry.blobRequests, [
    { url: `/v2/nydus/test/blobs/sha256:${ID}`, authorization: undefined },
  ])
})

t.test('Basic: asked for once, then sent along', async t => {
  const { registry, blob } = await rig(t, { auth: AUTH })
  registry.auth = 'basic'
  await check(t, blob)
  await check(t, blob, 5000)
  t.strictSame(
    registry.blobRequests.map(request => request.authorization),
    [undefined, `Basic ${AUTH}`, `Basic ${AUTH}`],
  )
})

t.test('Basic with a wrong password: final, two requests', async t => {
  const { registry, blob } = await rig(t, { auth: base64('user:wrong') })
  registry.auth = 'basic'
  await t.rejects(check(t, blob), { code: 'BACKEND_UNAUTHORIZED', errno: 'EIO' })
  t.equal(registry.blobRequests.length, 2)
})

t.test('Basic without credentials: final, one request', async t => {
  const { registry, blob } = await rig(t)
  registry.auth = 'basic'
  await t.rejects(check(t, blob), { code: 'BACKEND_UNAUTHORIZED', message: /credentials/ })
  t.equal(registry.blobRequests.length, 1)
})

t.test('Bearer: POST with the fields of the challenge, the password in the body only', async t => {
  const { registry, blob } = await rig(t, { auth: AUTH })
  registry.auth = 'bearer'
  await check(t, blob)
  await check(t, blob, 5000)
  t.equal(registry.tokenRequests.length, 1)
  const [request] = registry.tokenRequests
  t.equal(request?.method, 'POST')
  t.equal(request?.url, '/token')
  t.equal(request?.authorization, `Basic ${AUTH}`)
  t.strictSame(Object.fromEntries(new URLSearchParams(request?.body)), {
    service: 'fake, the "registry"',
    scope: 'repository:nydus/test:pull',
    client_id: 'nydus-registry-client',
    grant_type: 'password',
    username: 'user',
    password: 'password',
  })
})

t.test('Bearer: a token server that knows GET alone is asked so from then on', async t => {
  const { registry, blob } = await rig(t, { auth: AUTH })
  registry.auth = 'bearer'
  registry.methods = ['GET']
  await check(t, blob)
  registry.revoke()
  await check(t, blob)
  t.strictSame(
    registry.tokenRequests.map(request => request.method),
    ['POST', 'GET', 'GET'],
  )
  t.notMatch(registry.tokenRequests[1]?.url, /password|user/)
  t.match(registry.tokenRequests[1]?.url, /scope=repository%3Anydus%2Ftest%3Apull/)
})

t.test('Bearer, anonymous: no credentials, but a token', async t => {
  const { registry, blob } = await rig(t)
  registry.auth = 'bearer'
  await check(t, blob)
  t.equal(registry.tokenRequests[0]?.authorization, undefined)
  t.notMatch(registry.tokenRequests[0]?.body, /grant_type|password/)
})

t.test('Bearer: 500 readers at start fetch one token, and are not all refused first', async t => {
  const { registry, blob } = await rig(t, { auth: AUTH })
  registry.auth = 'bearer'
  await Promise.all(Array.from({ length: 500 }, (_, i) => check(t, blob, i, 100)))
  t.equal(registry.tokenRequests.length, 1)
  t.equal(registry.blobRequests.length, 501)
})

t.test('Bearer: renewed once before its end, while readers use the old one', async t => {
  const { registry, blob, seams } = await rig(t, { auth: AUTH })
  registry.auth = 'bearer'
  await check(t, blob)
  seams.clock.advance(540_000)
  await Promise.all(Array.from({ length: 100 }, (_, i) => check(t, blob, i, 100)))
  t.equal(registry.tokenRequests.length, 1, 'not yet: 600 s less 20 s and half of 60 s at random')
  seams.clock.advance(15_000)
  await Promise.all(Array.from({ length: 100 }, (_, i) => check(t, blob, i, 100)))
  t.equal(registry.tokenRequests.length, 2)
  registry.good.delete('t1')
  seams.clock.advance(60_000)
  await Promise.all(Array.from({ length: 100 }, (_, i) => check(t, blob, i, 100)))
  t.equal(registry.tokenRequests.length, 2)
  t.equal(registry.blobRequests.length, 302, 'nobody was refused after the first')
})

t.test('Bearer: an idle daemon asks nobody; a token that ended meanwhile is replaced first', async t => {
  const { registry, blob, seams } = await rig(t, { auth: AUTH })
  registry.auth = 'bearer'
  await check(t, blob)
  seams.clock.advance(24 * 3600_000)
  t.equal(registry.tokenRequests.length, 1)
  registry.revoke()
  await check(t, blob)
  t.equal(registry.tokenRequests.length, 2)
  t.equal(registry.blobRequests.length, 3, 'the expired token was not sent')
})

t.test('Bearer: a failing renewal disturbs no reader and is not repeated at once', async t => {
  const { registry, blob, seams } = await rig(t, { auth: AUTH })
  registry.auth = 'bearer'
  await check(t, blob)
  registry.tokenStatus = 503
  seams.clock.advance(555_000)
  for (let i = 0; i < 20; i++) await check(t, blob, i, 100)
  t.equal(registry.tokenRequests.length, 2)
  seams.clock.advance(6000)
  await check(t, blob)
  await check(t, blob)
  t.equal(registry.tokenRequests.length, 3)
  registry.tokenStatus = 200
  seams.clock.advance(11_000)
  await check(t, blob)
  await check(t, blob)
  t.equal(registry.tokenRequests.length, 4)
  seams.clock.advance(100_000)
  await check(t, blob)
  t.equal(registry.blobRequests.length, 27)
})

t.test('401 mid-way: a revoked token is replaced once for all readers', async t => {
  const { registry, blob } = await rig(t, { auth: AUTH })
  registry.auth = 'bearer'
  await check(t, blob)
  registry.revoke()
  await Promise.all(Array.from({ length: 100 }, (_, i) => check(t, blob, i, 100)))
  t.equal(registry.tokenRequests.length, 2)
})

t.test('401 after a fresh token is final, and is not tried again for each reader', async t => {
  const { registry, blob, seams } = await rig(t, { auth: AUTH })
  registry.auth = 'bearer'
  registry.good.add = function () {
    return this
  }
  await t.rejects(check(t, blob), { code: 'BACKEND_UNAUTHORIZED' })
  t.equal(registry.blobRequests.length, 2)
  for (let i = 0; i < 20; i++) await t.rejects(check(t, blob), { code: 'BACKEND_UNAUTHORIZED' })
  t.equal(registry.tokenRequests.length, 1)
  t.equal(registry.blobRequests.length, 22)
  seams.clock.advance(6000)
  await t.rejects(check(t, blob), { code: 'BACKEND_UNAUTHORIZED' })
  t.equal(registry.tokenRequests.length, 2, 'rights may have been granted meanwhile')
})

t.test('a token server that refuses is final, and is left alone for a while', async t => {
  const { registry, blob, seams } = await rig(t, { auth: AUTH })
  registry.auth = 'bearer'
  registry.tokenStatus = 403
  await t.rejects(check(t, blob), { code: 'BACKEND_DENIED', message: /token request to .*403/ })
  t.strictSame(
    registry.tokenRequests.map(request => request.method),
    ['POST', 'GET'],
  )
  await t.rejects(check(t, blob), { code: 'BACKEND_DENIED' })
  t.equal(registry.tokenRequests.length, 2)
  registry.tokenStatus = 200
  seams.clock.advance(6000)
  await check(t, blob)
})

t.test('a token server that is down is tried as often as the read is', async t => {
  const { registry, blob, seams } = await rig(t, { auth: AUTH })
  registry.auth = 'bearer'
  registry.tokenStatus = 503
  await t.rejects(check(t, blob), { code: 'BACKEND_UNAVAILABLE' })
  t.equal(registry.tokenRequests.length, 4)
  t.equal(seams.clock.naps.length, 3)
})

t.test('nonsense from the token server', async t => {
  for (const challenge of ['Bearer realm="not a url"', 'Bearer service="x"', 'Digest realm="x"', '']) {
    const { registry, blob } = await rig(t, { auth: AUTH })
    registry.auth = 'bearer'
    registry.challenge = challenge
    await t.rejects(check(t, blob), { code: 'BACKEND_UNAUTHORIZED' }, JSON.stringify(challenge))
    t.equal(registry.blobRequests.length, 1)
  }
  for (const body of ['{}', '[]', '"x"', 'no json', '{"token":""}', '{"token":"a\\r\\nb: c"}']) {
    const { registry, blob } = await rig(t, { auth: AUTH })
    registry.auth = 'bearer'
    const { hook } = registry.server
    registry.server.hook = (request, response) => {
      if (request.url?.startsWith('/token') !== true) return hook(request, response)
      response.end(body)
      return true
    }
    await t.rejects(
      check(t, blob),
      { code: 'BACKEND_UNAUTHORIZED', message: /token server .* answered 200, but/ },
      body,
    )
  }
})

t.test('registry_token is sent at once, and given up when it is refused', async t => {
  const { registry, blob } = await rig(t, { auth: AUTH, registry_token: 'given' })
  registry.auth = 'bearer'
  registry.good.add('given')
  await check(t, blob)
  t.strictSame(
    registry.blobRequests.map(request => request.authorization),
    ['Bearer given'],
  )
  registry.revoke()
  await check(t, blob)
  await check(t, blob)
  t.strictSame(
    registry.blobRequests.map(request => request.authorization),
    ['Bearer given', 'Bearer given', 'Bearer t1', 'Bearer t1'],
  )
})

t.test('a bare 401 to a token is asked again without it to learn the challenge', async t => {
  const { registry, blob } = await rig(t, { auth: AUTH })
  registry.auth = 'bearer'
  await check(t, blob)
  registry.revoke()
  const { hook } = registry.server
  registry.server.hook = (request, response) => {
    if (request.headers.authorization === 'Bearer t1') {
      response.writeHead(401).end()
      return true
    }
    return hook(request, response)
  }
  await check(t, blob)
  t.strictSame(
    registry.blobRequests.map(request => request.authorization),
    [undefined, 'Bearer t1', 'Bearer t1', undefined, 'Bearer t2'],
  )
})

t.test('registry_auth at run time replaces the credentials and drops the tokens', async t => {
  const { registry, blob, backend } = await rig(t, { auth: base64('old:secret') })
  registry.auth = 'bearer'
  await check(t, blob)
  t.equal(registry.tokenRequests[0]?.authorization, `Basic ${base64('old:secret')}`)
  backend.reconfigure({ registry_auth: AUTH, something_else: 'x' })
  await check(t, blob)
  t.equal(registry.tokenRequests[1]?.authorization, `Basic ${AUTH}`)
})

t.test('a redirect is followed without the credentials, and remembered per blob', async t => {
  const { registry, blob } = await rig(t, { auth: AUTH })
  registry.auth = 'bearer'
  const store = await registry.toStore(t, path => `/store${path}?X-Signature=secret`)
  await check(t, blob)
  await check(t, blob, 5000)
  t.equal(registry.blobRequests.length, 2, 'one without, one with a token')
  t.equal(store.requests.length, 2)
  for (const request of store.requests) t.equal(request.headers.authorization, undefined)
  t.equal(store.requests[0]?.headers.range, 'bytes=100-1099')
})

t.test('an expired redirect: one of 100 readers asks the registry again', async t => {
  const { registry, blob } = await rig(t)
  let signature = 1
  const store = await registry.toStore(t, path => `${path}?sig=${signature}`)
  store.hook = (request, response) => {
    if (request.url?.endsWith(`sig=${signature}`) === true) return false
    response.writeHead(403).end('<Code>AccessDenied</Code><Message>Request has expired</Message>')
    return true
  }
  await check(t, blob)
  signature++
  await Promise.all(Array.from({ length: 100 }, (_, i) => check(t, blob, i, 100)))
  t.equal(registry.blobRequests.length, 2)
})

t.test('a redirect that is refused right away is final', async t => {
  const { registry, blob } = await rig(t)
  const store = await registry.toStore(t)
  store.refuse(403)
  await t.rejects(check(t, blob), { code: 'BACKEND_DENIED' })
  t.equal(store.requests.length, 1)
})

t.test('a signed URL does not show up in messages', async t => {
  const { registry, blob } = await rig(t)
  const store = await registry.toStore(t, path => `${path}?X-Signature=secret`)
  store.refuse(404)
  const failure: unknown = await blob.read(Buffer.alloc(1), 0).catch((error: unknown) => error)
  t.match(failure, { code: 'BACKEND_NOT_FOUND' })
  t.notMatch(JSON.stringify(failure, Object.getOwnPropertyNames(failure)), /secret/)
})

t.test('blob_url_scheme and blob_redirected_host correct the redirect', async t => {
  const store = await BlobServer.start(blob)
  t.teardown(() => store.stop())
  const { registry, blob: reader } = await rig(t, {
    blob_url_scheme: 'http',
    blob_redirected_host: store.host,
  })
  registry.redirect = path => `https://blobs.internal:8443${path}?sig=1`
  await check(t, reader)
  t.match(store.requests[0]?.url, /^\/v2\/.*\?sig=1$/)
})

t.test('headers of the environment go everywhere, but secrets not to a redirect', async t => {
  const registry = await FakeRegistry.start(blob)
  const store = await BlobServer.start(blob)
  registry.redirect = path => store.url + path
  t.teardown(() => Promise.all([store.stop(), registry.server.stop()]))
  const seams = testSeams({
    'NYDUS_HEADER_X-Team': 'blue',
    NYDUS_HEADER_Cookie: 'session=1',
    'NYDUS_HEADER_Bad Name': 'x',
    'NYDUS_HEADER_X-Bad': 'a\nb',
    OTHER: 'x',
  })
  const backend = openedRegistry(t, { host: registry.host }, seams)
  await check(t, backend.open(ID))
  t.match(registry.server.requests[0]?.headers, {
    'x-team': 'blue',
    cookie: 'session=1',
    'user-agent': 'nydusd/1.0.0',
    'accept-encoding': 'identity',
  })
  t.equal(registry.server.requests[0]?.headers['x-bad'], undefined)
  t.equal(store.requests[0]?.headers['x-team'], 'blue')
  t.equal(store.requests[0]?.headers.cookie, undefined)
})

t.test('skip_verify: https where nobody speaks it becomes http for good', async t => {
  const { registry, blob } = await rig(t, { scheme: 'https', skip_verify: true })
  await check(t, blob)
  const first = registry.blobRequests.length
  await check(t, blob, 5000)
  t.equal(first, 1)
  t.equal(registry.blobRequests.length, 2)
})

t.test('without skip_verify, TLS is not given up', async t => {
  const { registry, blob, seams } = await rig(t, { scheme: 'https' })
  await t.rejects(check(t, blob), { code: 'BACKEND_TLS' })
  t.equal(registry.blobRequests.length, 0)
  t.equal(seams.clock.naps.length, 0, 'and not tried again')
})

t.test('skip_verify: a TLS port that answers 400 to http does not count as http', async t => {
  const { registry, blob } = await rig(t, { scheme: 'https', skip_verify: true })
  registry.server.refuse(400, 'Client sent an HTTP request to an HTTPS server.')
  await t.rejects(check(t, blob), { code: 'BACKEND_REJECTED' })
  t.equal(registry.blobRequests.length, 1)
  await t.rejects(check(t, blob))
  t.equal(registry.blobRequests.length, 2, 'https was tried first again')
})

t.test('the scheme is https unless it is the literal http; a host that is none is refused', async t => {
  const open = (options: Partial<RegistryOptions>) => openedRegistry(t, options)
  t.throws(() => open({ host: 'bad host' }), { code: 'BACKEND_CONFIG', message: /registry\.host/ })
  t.throws(() => open({ host: 'r', ca_cert_files: ['/nonexistent.pem'] }), {
    code: 'BACKEND_CA_INVALID',
    message: /\/nonexistent\.pem/,
  })
  t.throws(() => open({ host: 'r', ca_cert_files: [import.meta.filename] }), { code: 'BACKEND_CA_INVALID' })
  t.throws(() => open({ host: 'r', proxy: { ...registryDefaults.proxy, url: 'ftp://x' } }), {
    code: 'BACKEND_CONFIG',
    message: /proxy\.url/,
  })
  t.ok(open({ host: 'r' }))
})

t.test('the size comes with a HEAD, also through a redirect', async t => {
  const { registry, blob } = await rig(t)
  const store = await registry.toStore(t)
  t.equal(await blob.size(), 50_000)
  t.equal(store.requests[0]?.method, 'HEAD')
  t.equal(registry.blobRequests.length, 1)
})

t.test('a store that signs for GET alone still tells the size', async t => {
  const { registry, blob } = await rig(t)
  const store = await registry.toStore(t)
  store.hook = (request, response) => {
    if (request.method === 'GET') return false
    response.writeHead(403).end()
    return true
  }
  t.equal(await blob.size(), 50_000)
})
