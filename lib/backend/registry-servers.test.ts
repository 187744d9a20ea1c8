/**
 * The registry backend against real servers: docker-registry with passwords and with tokens, over TLS with a
 * private CA, nginx as blob store and as mirror, squid as the P2P proxy. Blobs are those of the fixture images.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { BlobReader, RegistryOptions } from './backend.js'
import { makeCerts } from './testing/certs.js'
import { base64, mirrorDefaults, proxyDefaults, testSeams } from './testing/fixtures.js'
import { checkWhole, openedRegistry } from './testing/opened.js'
import { BASIC_AUTH, redirectingRegistry, registryWithPassword } from './testing/registries.js'
import { dockerRegistry, nginx, squid, storeBlob, storedPath } from './testing/servers.js'
import { TokenServer } from './testing/token-server.js'

const REPO = 'library/nydus'
const fixture = join(import.meta.dirname, '../../vm-tests/fixtures/v6-zstd-blake3/blobs')
const [name] = readdirSync(fixture)
const blob = readFileSync(join(fixture, name ?? ''))
const certs = await makeCerts(t.testdir({}))

function open(t: Test, options: Partial<RegistryOptions>) {
  const seams = testSeams()
  return { backend: openedRegistry(t, { repo: REPO, ...options }, seams), seams }
}

async function check(t: Test, reader: BlobReader, offset: number): Promise<void> {
  const into = Buffer.alloc(1000)
  await reader.read(into, offset)
  t.ok(into.equals(blob.subarray(offset, offset + 1000)), `bytes at ${offset}`)
}

t.test('docker-registry with htpasswd, over TLS with a private CA', async t => {
  const dir = t.testdir({})
  const registry = await registryWithPassword(t, dir, certs)
  const id = storeBlob(dir, REPO, blob)
  const options = { scheme: 'https', host: registry.host, ca_cert_files: [certs.ca] }

  const good = open(t, { ...options, auth: BASIC_AUTH }).backend
  await checkWhole(t, good.open(id))
  t.match(good.metrics, { readErrors: 0, readAmountTotal: blob.length })

  const wrong = open(t, { ...options, auth: base64('user:guess') })
  await t.rejects(wrong.backend.open(id).size(), { code: 'BACKEND_UNAUTHORIZED', errno: 'EIO' })
  wrong.backend.reconfigure({ registry_auth: BASIC_AUTH })
  await check(t, wrong.backend.open(id), 5000)
  t.equal(wrong.seams.clock.naps.length, 0)

  await t.rejects(open(t, options).backend.open(id).size(), { code: 'BACKEND_UNAUTHORIZED' })
  await t.rejects(good.open('00'.repeat(32)).size(), { code: 'BACKEND_NOT_FOUND', message: /00000000.*404/ })
  const strangers = open(t, { ...options, ca_cert_files: [certs.selfSigned.cert] }).backend
  await t.rejects(strangers.open(id).size(), { code: 'BACKEND_TLS' })
  const careless = open(t, {
    ...options,
    ca_cert_files: [],
    skip_verify: true,
    auth: BASIC_AUTH,
  })
  await check(t, careless.backend.open(id), 0)
})

t.test('docker-registry with tokens, registry and token server over TLS', async t => {
  const dir = t.testdir({})
  const tokens = await TokenServer.start(certs)
  t.teardown(() => tokens.stop())
  tokens.user = 'user:password'
  const registry = await dockerRegistry({ dir, certs, extra: tokens.config })
  t.teardown(() => registry.stop())
  const id = storeBlob(dir, REPO, blob)
  const options = {
    scheme: 'https',
    host: registry.host,
    ca_cert_files: [certs.ca],
    auth: base64('user:password'),
  }

  const posting = open(t, options).backend
  await checkWhole(t, posting.open(id))
  t.equal(tokens.requests.length, 1, 'one token for all reads')
  t.equal(tokens.requests[0]?.method, 'POST')
  t.equal(tokens.requests[0]?.fields.get('scope'), `repository:${REPO}:pull`)
  t.equal(tokens.requests[0]?.fields.get('service'), 'test-registry')

  tokens.post = false
  tokens.requests.length = 0
  await checkWhole(t, open(t, options).backend.open(id))
  t.strictSame(
    tokens.requests.map(request => request.method),
    ['POST', 'GET'],
  )

  tokens.requests.length = 0
  const wrong = open(t, { ...options, auth: base64('user:guess') }).backend
  await t.rejects(wrong.open(id).size(), {
    code: 'BACKEND_UNAUTHORIZED',
    message: /token request to https.*incorrect/,
  })
  t.equal(tokens.requests.length, 2)

  tokens.post = true
  tokens.requests.length = 0
  tokens.lifetime = -3600
  const expired = open(t, options)
  await t.rejects(expired.backend.open(id).size(), { code: 'BACKEND_UNAUTHORIZED' })
  t.equal(tokens.requests.length, 1, 'an expired token that came fresh is not asked for again')
  tokens.lifetime = 600
  expired.seams.clock.advance(10_000)
  await check(t, expired.backend.open(id), 100)

  tokens.user = undefined
  await check(t, open(t, { ...options, auth: null }).backend.open(id), 100)
})

t.test('an anonymous registry over plain http, with a repository of several parts', async t => {
  const dir = t.testdir({})
  const registry = await dockerRegistry({ dir })
  t.teardown(() => registry.stop())
  const id = storeBlob(dir, 'a/b-c/d_e', blob)
  const plain = open(t, { host: registry.host, repo: 'a/b-c/d_e' }).backend
  await checkWhole(t, plain.open(id))
  const lenient = open(t, {
    scheme: 'https',
    skip_verify: true,
    host: registry.host,
    repo: 'a/b-c/d_e',
  }).backend
  await checkWhole(t, lenient.open(id))

  t.comment('and killed and restarted under its readers')
  const reader = open(t, { host: registry.host, repo: 'a/b-c/d_e' })
  await check(t, reader.backend.open(id), 0)
  await registry.stop()
  await t.rejects(reader.backend.open(id).size(), { code: 'BACKEND_REFUSED' })
  await registry.start()
  await checkWhole(t, reader.backend.open(id))
})

t.test('blobs redirected to nginx as the blob store, which must see no credentials', async t => {
  const dir = t.testdir({ other: {} })
  const { registry, folder, store, accessLog } = await redirectingRegistry(t, dir, certs)
  const id = storeBlob(folder, REPO, blob)
  const { backend } = open(t, { scheme: 'https', host: registry.host, ca_cert_files: [certs.ca] })
  const reader = backend.open(id)
  await checkWhole(t, reader)
  const stored = readFileSync(accessLog, 'utf8').trim().split('\n')
  t.ok(stored.every(line => line.includes(storedPath(id)) && / 20[06] /.test(line)))
  const asked = backend.counters['requests'] ?? 0
  t.ok(asked <= stored.length + 5, `${asked} requests, ${stored.length} of them to the store`)

  t.comment('blob_redirected_host leads to another store')
  const other = await nginx(
    join(dir, 'other'),
    `server { listen 127.0.0.1:$PORT; root ${join(folder, 'data')}; }`,
  )
  t.teardown(() => other.stop())
  await store.stop()
  const moved = open(t, {
    scheme: 'https',
    host: registry.host,
    ca_cert_files: [certs.ca],
    blob_redirected_host: other.host,
  })
  await checkWhole(t, moved.backend.open(id))
})

t.test('nginx as a mirror of the registry: it serves, it dies, it comes back', async t => {
  const dir = t.testdir({ mirror: {}, registry: {} })
  const registry = await dockerRegistry({ dir: join(dir, 'registry') })
  t.teardown(() => registry.stop())
  const id = storeBlob(join(dir, 'registry'), REPO, blob)
  const mirror = await nginx(
    join(dir, 'mirror'),
    `server {
      listen 127.0.0.1:$PORT;
      location / { proxy_pass http://${registry.host}; proxy_buffering off; }
    }`,
  )
  t.teardown(() => mirror.stop())
  const { backend, seams } = open(t, {
    host: registry.host,
    mirrors: [{ ...mirrorDefaults, host: `http://${mirror.host}` }],
  })
  const reader = backend.open(id)
  const served = () => readFileSync(join(dir, 'mirror/access.log'), 'utf8').trim().split('\n').length
  await checkWhole(t, reader)
  // nginx writes a request's line once its answer is out, which may be after the answer is here.
  const requests = backend.counters['requests'] ?? 0
  for (let i = 0; i < 5000 && served() < requests; i++) await new Promise(resolve => setTimeout(resolve, 1))
  const before = served()
  t.equal(before, requests, 'all requests went to the mirror')
  await mirror.stop()
  await checkWhole(t, reader)
  t.equal(backend.metrics.readErrors, 0)
  await mirror.start()
  seams.clock.advance(5000)
  // Its health endpoint is /v2/, which nginx hands on to the registry.
  while (!readFileSync(join(dir, 'mirror/access.log'), 'utf8').includes('GET /v2/ '))
    await check(t, reader, 0)
  for (let i = 0; i < 100 && served() <= before + 1; i++) await check(t, reader, i)
  t.ok(served() > before + 1, 'and it is used again')
})

t.test('squid as the proxy: the peers carry the load; killed in between; restarted', async t => {
  const dir = t.testdir({ squid: {}, registry: {} })
  const registry = await dockerRegistry({ dir: join(dir, 'registry') })
  t.teardown(() => registry.stop())
  const id = storeBlob(join(dir, 'registry'), REPO, blob)
  const proxy = await squid(join(dir, 'squid'))
  t.teardown(() => proxy.stop('SIGTERM'))
  const { backend, seams } = open(t, {
    host: registry.host,
    proxy: { ...proxyDefaults, url: `http://${proxy.host}` },
  })
  const reader = backend.open(id)
  await checkWhole(t, reader)
  t.equal(backend.counters['detours'], 0, 'the origin was not asked')
  await proxy.stop()
  await checkWhole(t, reader)
  t.equal(backend.metrics.readErrors, 0)
  const detours = backend.counters['detours'] ?? 0
  t.ok(detours > 0)
  await proxy.start()
  seams.clock.advance(5000)
  await checkWhole(t, backend.open(id))
  t.equal(backend.counters['detours'], detours, 'the proxy serves again')

  t.comment('https through it: a tunnel')
  const secure = await dockerRegistry({ dir: join(dir, 'registry'), certs })
  t.teardown(() => secure.stop())
  const tunnelled = open(t, {
    scheme: 'https',
    host: secure.host,
    ca_cert_files: [certs.ca],
    proxy: { ...proxyDefaults, url: `http://${proxy.host}`, fallback: false },
  })
  await checkWhole(t, tunnelled.backend.open(id))
})
