/**
 * The proxy and mirror modes against Dragonfly's own dfdaemon, in front of docker-registry: what goes through its task
 * manager, credentials, tunnels, `use_http`, and what happens when it or its scheduler is gone.
 *
 * dfdaemon keeps what it has fetched under the blob's digest, whatever registry it came from: every test has a blob
 * of its own.
 */
import { randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { BlobReader, RegistryOptions } from './backend.js'
import { makeCerts } from './testing/certs.js'
import {
  type Dfdaemon,
  dfdaemonMissing,
  PROXIED,
  startDfdaemon,
  TO_SOURCE,
  VIA_P2P,
} from './testing/dfdaemon.js'
import { FaultProxy } from './testing/fault-proxy.js'
import { base64, mirrorDefaults, proxyDefaults, testSeams } from './testing/fixtures.js'
import { checkWhole as checkRanges, openedRegistry } from './testing/opened.js'
import { BASIC_AUTH, redirectingRegistry, registryWithPassword } from './testing/registries.js'
import { dockerRegistry, storeBlob } from './testing/servers.js'
import { TokenServer } from './testing/token-server.js'

const REPO = 'library/nydus'
/** Three of dfdaemon's pieces, 4 MiB each: ranges begin and end in different ones. */
const BLOB_SIZE = 10_000_000
const STEP = 777_777
const READS = Math.ceil(BLOB_SIZE / STEP)

const skip = dfdaemonMissing
const dirs = t.testdir({ own: {}, foreign: {} })
const certs = await makeCerts(join(dirs, 'own'))
/** Of servers whose clients do not know the CA of dfdaemon, which is that of `certs`. */
const foreign = await makeCerts(join(dirs, 'foreign'))

function open(t: Test, options: Partial<RegistryOptions>, env: NodeJS.ProcessEnv = {}) {
  const seams = testSeams(env)
  return { backend: openedRegistry(t, { repo: REPO, ...options }, seams), seams }
}

/** A whole blob, by ranges that end in other pieces than they begin in. */
async function checkWhole(t: Test, reader: BlobReader): Promise<void> {
  t.equal(await checkRanges(t, reader, STEP), READS)
}

/** Only through dfdaemon. */
function only(dfdaemon: Dfdaemon) {
  return { ...proxyDefaults, url: dfdaemon.url, fallback: false }
}

/** Counters of `dfdaemon` from now on. */
async function since(dfdaemon: Dfdaemon): Promise<(name: string) => Promise<number>> {
  const names = [VIA_P2P, PROXIED, TO_SOURCE]
  const before = new Map<string, number>()
  for (const name of names) before.set(name, await dfdaemon.counter(name))
  return async name => (await dfdaemon.counter(name)) - (before.get(name) ?? 0)
}

t.test('one dfdaemon, with rules for some repositories', { skip }, async t => {
  const dfdaemon = await startDfdaemon(t, {
    ca: { cert: certs.ca, key: join(certs.ca, '../ca.key') },
    proxy: `  rules:
    - { regex: secure/nydus/blobs/sha256.*, useTLS: true }
    - { regex: mirrored/nydus/blobs/sha256.* }`,
  })

  await t.test('as proxy: whole pieces are fetched once and served from its disk', async t => {
    const dir = t.testdir({})
    const registry = await dockerRegistry({ dir })
    t.teardown(() => registry.stop())
    const blob = randomBytes(BLOB_SIZE)
    const id = storeBlob(dir, REPO, blob)
    const counted = await since(dfdaemon)
    const { backend } = open(t, { host: registry.host, proxy: only(dfdaemon) })
    await checkWhole(t, backend.open(id))
    t.equal(await counted(VIA_P2P), READS, 'every range went to its task manager')
    t.equal(await counted(PROXIED), READS + 1, 'and HEAD went straight on')
    const fetched = await counted(TO_SOURCE)
    t.ok(fetched < READS, `${fetched} requests to the registry for ${READS} reads`)

    t.comment('a range over two pieces, and one longer than a piece, which is told to the scheduler')
    const long = Buffer.alloc(5_000_000)
    await backend.open(id).read(long, 4_000_000)
    t.ok(long.equals(blob.subarray(4_000_000, 9_000_000)))
    const other = randomBytes(BLOB_SIZE)
    await backend.open(storeBlob(dir, REPO, other)).read(long, 4_000_000)
    t.ok(long.equals(other.subarray(4_000_000, 9_000_000)))
    const announced = () => dfdaemon.scheduler.calls.filter(call => call.endsWith('/AnnouncePeer')).length
    t.equal(announced(), 1)

    t.comment('a short range, which is not, unless a header of the environment says so')
    const always = { 'NYDUS_HEADER_X-Dragonfly-Scheduling-Policy': 'always' }
    const eager = open(t, { host: registry.host, proxy: only(dfdaemon) }, always).backend
    const third = randomBytes(BLOB_SIZE)
    const short = Buffer.alloc(1000)
    await eager.open(storeBlob(dir, REPO, third)).read(short, 5)
    t.ok(short.equals(third.subarray(5, 1005)))
    t.equal(announced(), 2)

    t.comment('a blob that the registry does not have')
    const missing = backend.open('00'.repeat(32))
    await t.rejects(missing.read(Buffer.alloc(10), 0), { code: 'BACKEND_NOT_FOUND', message: /404/ })

    t.comment('the registry dies: dfdaemon serves what it has')
    await registry.stop()
    const again = Buffer.alloc(BLOB_SIZE)
    await open(t, { host: registry.host, proxy: only(dfdaemon) })
      .backend.open(id)
      .read(again, 0)
    t.ok(again.equals(blob))
  })

  await t.test('credentials: challenges and refusals come through it', async t => {
    const dir = t.testdir({})
    const counted = await since(dfdaemon)
    const secure = { scheme: 'https', ca_cert_files: [certs.ca], proxy: only(dfdaemon) }

    t.comment('htpasswd, in a tunnel that dfdaemon opens with a certificate of its CA')
    const passwords = join(dir, 'passwords')
    mkdirSync(passwords)
    const registry = await registryWithPassword(t, passwords, certs)
    const id = storeBlob(passwords, REPO, randomBytes(BLOB_SIZE))
    const wrong = open(t, { ...secure, host: registry.host, auth: base64('user:guess') }).backend
    await t.rejects(wrong.open(id).read(Buffer.alloc(10), 0), { code: 'BACKEND_UNAUTHORIZED' })
    await t.rejects(
      open(t, { ...secure, host: registry.host })
        .backend.open(id)
        .read(Buffer.alloc(10), 0),
      {
        code: 'BACKEND_UNAUTHORIZED',
      },
    )
    const good = open(t, { ...secure, host: registry.host, auth: BASIC_AUTH }).backend
    await checkWhole(t, good.open(id))
    // docs/backends.md warns of it.
    const anybody = open(t, { ...secure, host: registry.host }).backend
    await t.resolves(anybody.open(id).read(Buffer.alloc(10), 0), 'what it has, it gives to anybody')
    t.ok((await counted(VIA_P2P)) >= READS)

    t.comment('tokens, and blobs behind a redirect that dfdaemon follows')
    const redirecting = join(dir, 'redirecting')
    mkdirSync(redirecting)
    const { registry: tokened, tokens, folder } = await redirectingRegistry(t, redirecting, certs)
    const behind = storeBlob(folder, REPO, randomBytes(BLOB_SIZE))
    const before = await counted(VIA_P2P)
    await checkWhole(t, open(t, { ...secure, host: tokened.host }).backend.open(behind))
    t.equal(tokens.requests.length, 1, 'one token')
    t.ok((await counted(VIA_P2P)) >= before + READS)
  })

  await t.test('a tunnel whose certificate is not believed: the origin serves', async t => {
    const dir = t.testdir({})
    const counted = await since(dfdaemon)
    const registry = await dockerRegistry({ dir, certs: foreign })
    t.teardown(() => registry.stop())
    const id = storeBlob(dir, REPO, randomBytes(BLOB_SIZE))
    const options = { scheme: 'https', host: registry.host, ca_cert_files: [foreign.ca] }
    const { backend } = open(t, { ...options, proxy: { ...proxyDefaults, url: dfdaemon.url } })
    await checkWhole(t, backend.open(id))
    t.ok((backend.counters['detours'] ?? 0) > 0)
    t.equal(await counted(VIA_P2P), 0)
    const alone = open(t, { ...options, proxy: only(dfdaemon) }).backend
    await t.rejects(alone.open(id).read(Buffer.alloc(10), 0), { code: 'BACKEND_TLS' })
  })

  await t.test('use_http: it reads plain requests and turns those of its rule into https', async t => {
    const dir = t.testdir({})
    const counted = await since(dfdaemon)
    const tokens = await TokenServer.start(foreign)
    t.teardown(() => tokens.stop())
    tokens.user = 'user:password'
    const registry = await dockerRegistry({ dir, certs: foreign, extra: tokens.config })
    t.teardown(() => registry.stop())
    const id = storeBlob(dir, 'secure/nydus', randomBytes(BLOB_SIZE))
    const { backend } = open(t, {
      scheme: 'https',
      host: registry.host,
      repo: 'secure/nydus',
      ca_cert_files: [foreign.ca],
      auth: base64('user:password'),
      proxy: { ...proxyDefaults, url: dfdaemon.url, use_http: true },
    })
    // The way to the token server is a tunnel, which is not believed here: the origin's token serves both.
    await backend.open(id).read(Buffer.alloc(10), 0)
    const detours = backend.counters['detours'] ?? 0
    const before = await counted(VIA_P2P)
    await checkWhole(t, backend.open(id))
    t.equal((await counted(VIA_P2P)) - before, READS, 'all reads went to its task manager')
    // HEAD falls under no rule, and a TLS port does not take it as it is.
    t.equal(backend.counters['detours'], detours + 1, 'and only HEAD past it')
    t.equal(tokens.requests.length, 1, 'one token')
  })

  await t.test('as mirror of several registries: by its header, pinged at the right one', async t => {
    const dir = t.testdir({})
    const counted = await since(dfdaemon)
    const registry = await dockerRegistry({ dir })
    t.teardown(() => registry.stop())
    // What comes past the mirror would be seen here; dfdaemon is told where this leads.
    const straight = await FaultProxy.start(`http://${registry.host}`)
    t.teardown(() => straight.stop())
    const id = storeBlob(dir, 'mirrored/nydus', randomBytes(BLOB_SIZE))
    const { backend, seams } = open(t, {
      host: straight.host,
      repo: 'mirrored/nydus',
      mirrors: [
        {
          ...mirrorDefaults,
          host: dfdaemon.url,
          headers: { 'X-Dragonfly-Registry': `http://${registry.host}` },
          failure_limit: 1,
        },
      ],
    })
    const reader = backend.open(id)
    await checkWhole(t, reader)
    t.equal(await counted(VIA_P2P), READS)
    // GET /v2/, which belongs to no rule, is a request that does not go to the task manager.
    const before = await counted(PROXIED)
    seams.clock.advance(5000)
    for (let i = 0; i < 200 && (await counted(PROXIED)) === before; i++)
      await new Promise(resolve => setTimeout(resolve, 10))
    await checkWhole(t, backend.open(id))
    t.equal(await counted(VIA_P2P), 2 * READS, 'it is used after the ping as before')
    t.equal(straight.requests.length, 0, 'and the registry itself is never asked')
  })
})

t.test('as proxy: killed under its readers, restarted, used again', { skip }, async t => {
  const dir = t.testdir({})
  const registry = await dockerRegistry({ dir })
  t.teardown(() => registry.stop())
  const id = storeBlob(dir, REPO, randomBytes(BLOB_SIZE))
  const dfdaemon = await startDfdaemon(t)
  const { backend, seams } = open(t, {
    host: registry.host,
    proxy: { ...proxyDefaults, url: dfdaemon.url, ping_url: dfdaemon.pingUrl },
  })
  const reader = backend.open(id)
  const first = reader.read(Buffer.alloc(100_000), 0)
  const reading = checkWhole(t, reader)
  await first
  await dfdaemon.process.stop()
  await reading
  // Whatever was under way when it died: from here on it is refused.
  await checkWhole(t, backend.open(id))
  t.match(backend.metrics, { readErrors: 0 })
  const detours = backend.counters['detours'] ?? 0
  t.ok(detours >= 3, `${detours} detours`)
  await checkWhole(t, backend.open(id))
  t.equal(backend.counters['detours'], detours, 'it is left alone')

  await dfdaemon.process.start()
  const used = async () => (await dfdaemon.counter(VIA_P2P)) > 0
  // A ping is under way, and its answer counts, not the time.
  for (let i = 0; i < 200 && !(await used()); i++) {
    seams.clock.advance(5000)
    await reader.read(Buffer.alloc(10), i)
  }
  t.ok(await used(), 'it is used again')
  await checkWhole(t, backend.open(id))
  t.equal(backend.counters['detours'], detours)
  t.match(backend.metrics, { readErrors: 0 })

  t.comment('its scheduler dies: it fetches from the source')
  await dfdaemon.scheduler.stop()
  const alone = open(t, { host: registry.host, proxy: only(dfdaemon) }).backend
  const late = randomBytes(BLOB_SIZE)
  const whole = alone.open(storeBlob(dir, REPO, late))
  const long = Buffer.alloc(5_000_000)
  await whole.read(long, 4_000_000)
  t.ok(long.equals(late.subarray(4_000_000, 9_000_000)))
  await checkWhole(t, whole)
})
