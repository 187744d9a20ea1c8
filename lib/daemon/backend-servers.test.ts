/**
 * The whole daemon on real servers: images whose blobs lie in a registry (passwords, tokens, TLS, redirects, a mirror, a
 * forward proxy), in an object store, behind a socket or on a disk show a guest exactly what they must.
 */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { BlobServer } from '../backend/testing/blob-server.js'
import { makeCerts } from '../backend/testing/certs.js'
import { FaultProxy } from '../backend/testing/fault-proxy.js'
import { OssStore } from '../backend/testing/oss-store.js'
import { BASIC_AUTH, redirectingRegistry, registryWithPassword } from '../backend/testing/registries.js'
import { S3_KEYS, S3_REGION, s3Missing, startS3 } from '../backend/testing/s3-server.js'
import { dockerRegistry, nginx, squid } from '../backend/testing/servers.js'
import { TokenServer } from '../backend/testing/token-server.js'
import { connectGuest, startDaemon } from './testing/daemon.js'
import { blobsOf, mountRemote, pushImages, showsImages } from './testing/remote.js'
import { guestTree } from './testing/guest-tree.js'
import {
  expectedRecords,
  fixtureNamed,
  fixtureNamed as imageNamed,
  FIXTURES,
} from '../../vm-tests/fixtures.js'
import { tempDir } from './testing/temp-dir.js'

const REPO = 'library/nydus'
const ALL = FIXTURES.map(({ name }) => name)
/** One of each way to find chunks: records in the bootstrap, a table in the blob, a table in another blob. */
const SOME = ['v5-lz4-blake3', 'v6-zstd-blake3', 'v6-zran']

const certs = await makeCerts(t.testdir({}))
const daemon = await startDaemon(t)
const guest = { daemon, fuse: await connectGuest(t, daemon) }
const base64 = (text: string) => Buffer.from(text).toString('base64')

t.test('docker-registry with htpasswd, over TLS with a private CA: every image, cold and warm', async t => {
  const dir = tempDir(t)
  const registry = await registryWithPassword(t, dir, certs)
  pushImages(dir, REPO, ALL)
  const config = {
    scheme: 'https',
    host: registry.host,
    repo: REPO,
    ca_cert_files: [certs.ca],
    auth: BASIC_AUTH,
  }
  const backend = { type: 'registry', config }
  const workDir = join(dir, 'cache')
  await showsImages(t, guest, '/htpasswd', ALL, backend, { workDir })
  await registry.stop()
  await showsImages(t, guest, '/warm', ALL, backend, { workDir })
})

t.test('a wrong password is EIO for a reader, and the right one heals it without a new mount', async t => {
  const dir = tempDir(t)
  const file = join(dir, 'htpasswd')
  writeFileSync(file, execFileSync('htpasswd', ['-Bbn', 'user', 'password']))
  const registry = await dockerRegistry({ dir, extra: `auth:\n  htpasswd: { realm: test, path: ${file} }` })
  t.teardown(() => registry.stop())
  pushImages(dir, REPO, ['v6-lz4-64k'])
  const config = { scheme: 'http', host: registry.host, repo: REPO, auth: base64('user:guess') }
  await mountRemote(daemon, '/wrong', 'v6-lz4-64k', { type: 'registry', config })
  await t.rejects(guestTree(guest.fuse, '/wrong'), { message: /EIO/ })
  await daemon.api('PUT', `config?id=${encodeURIComponent('/wrong')}`, {
    registry_auth: base64('user:password'),
  })
  t.strictSame(await guestTree(guest.fuse, '/wrong'), expectedRecords(fixtureNamed('v6-lz4-64k')))
  await daemon.umount('/wrong')
})

t.test('docker-registry with a token server: one token for all reads of a mount', async t => {
  const dir = tempDir(t)
  const tokens = await TokenServer.start(certs)
  t.teardown(() => tokens.stop())
  tokens.user = 'user:password'
  const registry = await dockerRegistry({ dir, certs, extra: tokens.config })
  t.teardown(() => registry.stop())
  pushImages(dir, REPO, SOME)
  const config = {
    scheme: 'https',
    host: registry.host,
    repo: REPO,
    ca_cert_files: [certs.ca],
    auth: base64('user:password'),
  }
  await showsImages(t, guest, '/tokens', SOME, { type: 'registry', config }, { workDir: join(dir, 'cache') })
  t.equal(tokens.requests.length, SOME.length)
})

t.test('blobs behind a redirect to nginx, which must see no credentials', async t => {
  const dir = tempDir(t)
  const { registry, folder, accessLog } = await redirectingRegistry(t, dir, certs)
  pushImages(folder, REPO, SOME)
  const config = { scheme: 'https', host: registry.host, repo: REPO, ca_cert_files: [certs.ca] }
  await showsImages(
    t,
    guest,
    '/redirect',
    SOME,
    { type: 'registry', config },
    { workDir: join(dir, 'cache') },
  )
  const asked = readFileSync(accessLog, 'utf8').trim().split('\n')
  t.ok(asked.length > SOME.length && asked.every(line => line.includes(' 206 ')), `${asked.length} ranges`)
})

t.test('nginx as a mirror: it serves; it dies in the middle of a walk and nobody notices', async t => {
  const dir = tempDir(t)
  const mirrorDir = join(dir, 'mirror')
  mkdirSync(mirrorDir)
  const registry = await dockerRegistry({ dir })
  t.teardown(() => registry.stop())
  pushImages(dir, REPO, SOME)
  // Counts what comes past the mirror.
  const straight = await FaultProxy.start(`http://${registry.host}`)
  t.teardown(() => straight.stop())
  const mirror = await nginx(
    mirrorDir,
    `server { listen 127.0.0.1:$PORT; location / { proxy_pass http://${registry.host}; proxy_buffering off; } }`,
  )
  t.teardown(() => mirror.stop())
  const config = {
    scheme: 'http',
    host: straight.host,
    repo: REPO,
    mirrors: [{ host: `http://${mirror.host}`, health_check_interval: 60, failure_limit: 2 }],
  }
  const backend = { type: 'registry', config }
  await showsImages(t, guest, '/mirror', SOME, backend, { workDir: join(dir, 'cache') })
  t.equal(straight.requests.length, 0, 'the registry itself was not asked')
  pushImages(dir, REPO, ['v6-none'])
  await mountRemote(daemon, '/dying', 'v6-none', backend)
  const walk = guestTree(guest.fuse, '/dying')
  const log = () => readFileSync(join(mirrorDir, 'access.log'), 'utf8').split('\n').length
  const before = log()
  while (log() < before + 10) await new Promise(resolve => setTimeout(resolve, 1))
  await mirror.stop()
  t.strictSame(await walk, expectedRecords(fixtureNamed('v6-none')))
  t.ok(straight.requests.length > 0)
  t.match(await daemon.api('GET', 'metrics/backend?id=/dying'), { read_errors: 0 })
  await daemon.umount('/dying')
})

for (const kind of ['squid', 'nginx'] as const)
  t.test(`${kind} as forward proxy: killed in the middle of reads, the guest notices nothing`, async t => {
    const dir = tempDir(t)
    // squid gives up root, and needs its way to its folder.
    chmodSync(dir, 0o755)
    const proxyDir = join(dir, 'proxy')
    mkdirSync(proxyDir)
    const registry = await dockerRegistry({ dir })
    t.teardown(() => registry.stop())
    pushImages(dir, REPO, ['v6-none'])
    // Slow, so that many reads are under way when the proxy dies.
    const far = await FaultProxy.start(`http://${registry.host}`)
    far.delayMs = 20
    t.teardown(() => far.stop())
    const proxy =
      kind === 'squid'
        ? await squid(proxyDir, true)
        : await nginx(
            proxyDir,
            'server { listen 127.0.0.1:$PORT; location / { proxy_pass http://$http_host$request_uri; } }',
          )
    t.teardown(() => proxy.stop())
    const config = {
      scheme: 'http',
      host: far.host,
      repo: REPO,
      proxy: { url: `http://${proxy.host}`, check_interval: 60 },
    }
    const mountpoint = `/${kind}`
    // Without a cache and read-ahead every file is a request.
    await mountRemote(
      daemon,
      mountpoint,
      'v6-none',
      { type: 'registry', config },
      { more: { amplify_io: 0 } },
    )
    const walk = guestTree(guest.fuse, mountpoint)
    while (far.requests.length < 20) await new Promise(resolve => setTimeout(resolve, 1))
    t.ok(far.requests.every(({ headers }) => kind === 'nginx' || headers.via !== undefined))
    await proxy.stop()
    t.strictSame(await walk, expectedRecords(fixtureNamed('v6-none')))
    t.match(await daemon.api('GET', `metrics/backend?id=${mountpoint}`), { read_errors: 0 })
    await daemon.umount(mountpoint)
  })

t.test('s3: versitygw over TLS', { skip: s3Missing }, async t => {
  const dir = tempDir(t)
  const { server, put } = await startS3(dir, certs)
  t.teardown(() => server.stop())
  await put('/images', Buffer.alloc(0))
  for (const name of SOME)
    for (const [id, blob] of blobsOf(name)) t.equal(await put(`/images/a%20b/${id}`, blob), 200)
  const config = {
    endpoint: server.host,
    region: S3_REGION,
    bucket_name: 'images',
    object_prefix: 'a b/',
    access_key_id: S3_KEYS.accessKeyId,
    access_key_secret: S3_KEYS.secretAccessKey,
    ca_cert_files: [certs.ca],
  }
  await showsImages(t, guest, '/s3', SOME, { type: 's3', config }, { workDir: join(dir, 'cache') })
})

t.test('oss: the stand-in that verifies signatures', async t => {
  const server = await BlobServer.start(Buffer.alloc(0))
  // Host names of buckets do not resolve here; a forward proxy brings them all to the stand-in.
  const proxy = await FaultProxy.start(server.url)
  t.teardown(() => Promise.all([proxy.stop(), server.stop()]))
  const objects = new Map(SOME.flatMap(name => [...blobsOf(name)]))
  const store = new OssStore({ name: 'nydus', keyId: 'LTAI5t', secret: 'secret/+=', objects })
  server.hook = store.hook
  const config = {
    scheme: 'http',
    endpoint: 'oss-cn-hangzhou.aliyuncs.com',
    bucket_name: 'nydus',
    access_key_id: 'LTAI5t',
    access_key_secret: 'secret/+=',
    proxy: { url: proxy.url, fallback: false },
  }
  await showsImages(t, guest, '/oss', SOME, { type: 'oss', config }, { workDir: join(tempDir(t), 'cache') })
  t.ok(
    store.used.length > SOME.length && store.used.every(form => form === 'v4'),
    `${store.used.length} requests`,
  )
})

t.test('http-proxy: nginx behind a UNIX socket', async t => {
  const dir = tempDir(t)
  const blobs = join(dir, 'blobs')
  for (const name of SOME) cpSync(imageNamed(name).blobs, join(blobs, 'v1'), { recursive: true })
  const addr = join(dir, 'proxy.sock')
  const server = await nginx(dir, `server { listen 127.0.0.1:$PORT; listen unix:${addr}; root ${blobs}; }`)
  t.teardown(() => server.stop())
  const backend = { type: 'http-proxy', config: { addr, path: 'v1' } }
  await showsImages(t, guest, '/http-proxy', SOME, backend, { workDir: join(dir, 'cache') })
})

t.test('localdisk: partitions named by their blobs', async t => {
  const dir = tempDir(t)
  const MIB = 1 << 20
  const blobs = SOME.flatMap(name => [...blobsOf(name)])
  const disk = join(dir, 'disk.img')
  writeFileSync(disk, '')
  truncateSync(disk, (blobs.length * 16 + 2) * MIB)
  const guid = (id: string) => id.slice(32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
  const sectors = (bytes: number) => Math.ceil(bytes / 512)
  const start = (i: number) => (1 + i * 16) * MIB
  const type = '0FC63DAF-8483-4772-8E79-3D69D8477DE4'
  const script = blobs.map(
    ([id, blob], i) =>
      `start=${sectors(start(i))}, size=${sectors(blob.length)}, type=${type}, name=${id.slice(0, 32)}, uuid=${guid(id)}\n`,
  )
  execFileSync('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', disk], {
    input: `label: gpt\n${script.join('')}`,
  })
  const file = openSync(disk, 'r+')
  blobs.forEach(([, blob], i) => writeSync(file, blob, 0, blob.length, start(i)))
  const backend = { type: 'localdisk', config: { device_path: disk } }
  await showsImages(t, guest, '/localdisk', SOME, backend, { workDir: join(dir, 'cache') })
})
