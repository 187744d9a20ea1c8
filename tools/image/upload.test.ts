/** `create --backend-type`: what was uploaded to a real server is mounted from there and shows what went in. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import dns from 'node:dns'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { BlobServer } from '../../lib/backend/testing/blob-server.js'
import { makeCerts } from '../../lib/backend/testing/certs.js'
import { FaultProxy } from '../../lib/backend/testing/fault-proxy.js'
import { OssStore } from '../../lib/backend/testing/oss-store.js'
import { BASIC_AUTH, registryWithPassword } from '../../lib/backend/testing/registries.js'
import { S3_KEYS, S3_REGION, s3Missing, startS3 } from '../../lib/backend/testing/s3-server.js'
import { storeBlob } from '../../lib/backend/testing/servers.js'
import { runTool } from '../../lib/build/testing/image-tool.js'
import { connectGuest, startDaemon } from '../../lib/daemon/testing/daemon.js'
import { guestTree, nodeAt, readAll } from '../../lib/daemon/testing/guest-tree.js'
import { remoteConfig, type RemoteBackend } from '../../lib/daemon/testing/remote.js'
import { tempDir } from '../../lib/daemon/testing/temp-dir.js'
import { expectedRecords, fixtureNamed } from '../../vm-tests/fixtures.js'
import { projectRoot } from '../../vm-tests/project.js'
import { sha256 } from '../../vm-tests/manifest.js'

const LAYER = '738f465d584b2cfbc7ff4474ab857f6977e4f34b193d66fbfea4e91a0f9d9f8c'
const layer = join(projectRoot, 'vm-tests/fixtures/v6-zran/blobs', LAYER)
const manifest = expectedRecords(fixtureNamed('v6-zran'))
const base64 = (text: string) => Buffer.from(text).toString('base64')

const certs = await makeCerts(t.testdir({}))
const daemon = await startDaemon(t)
const fuse = await connectGuest(t, daemon)

/** Mounts `bootstrap` with its blobs in `backend` and an empty cache. */
async function mounted(
  t: Test,
  bootstrap: string,
  backend: RemoteBackend,
  look: () => Promise<unknown>,
): Promise<void> {
  const workDir = tempDir(t)
  await daemon.api('POST', 'mount?mountpoint=/up', {
    fs_type: 'rafs',
    source: bootstrap,
    config: remoteConfig('/up', backend, { workDir }),
  })
  try {
    await look()
  } finally {
    await daemon.umount('/up')
  }
}

/** The command of 2020 (nydus-image.md 4), which names version and compressor nowadays; returns what it said. */
async function create(dir: string, type: string, config: unknown, ...options: readonly string[]) {
  const boot = join(dir, 'boot')
  const argv = ['create', '--blob', join(dir, 'blob'), '--bootstrap', boot, '--repeatable']
  const upload = ['--backend-type', type, '--backend-config', JSON.stringify(config)]
  const { code, stderr } = await runTool(...argv, ...upload, ...options)
  return { code, stderr, boot, blob: join(dir, 'blob') }
}

async function showsLayer(t: Test, boot: string, backend: RemoteBackend, about: string): Promise<void> {
  await mounted(t, boot, backend, async () => t.strictSame(await guestTree(fuse, '/up'), manifest, about))
}

/** A folder with one file of `size` bytes that do not shrink. */
function bigFile(dir: string, size: number): { folder: string; bytes: Buffer } {
  const folder = join(dir, 'tree')
  mkdirSync(folder)
  const bytes = randomBytes(size)
  writeFileSync(join(folder, 'big'), bytes)
  return { folder, bytes }
}

async function showsBig(t: Test, boot: string, backend: RemoteBackend, bytes: Buffer): Promise<void> {
  await mounted(t, boot, backend, async () => {
    const read = await readAll(fuse, await nodeAt(fuse, '/up/big'), bytes.length)
    t.equal(sha256(read), sha256(bytes), `${bytes.length} bytes`)
  })
}

t.test('docker-registry with htpasswd, over TLS with a private CA', async t => {
  const dir = tempDir(t)
  const registry = await registryWithPassword(t, dir, certs)
  const config = {
    ...{ scheme: 'https', host: registry.host, repo: 'team/nydus', ca_cert_files: [certs.ca] },
    auth: BASIC_AUTH,
  }
  const backend = { type: 'registry', config }
  for (const options of [
    ['-v', '5', '--compressor', 'lz4_block'],
    ['-v', '6', '--batch-size', '0x10000'],
  ]) {
    const ran = await create(dir, 'registry', config, ...options, '-t', 'targz-rafs', layer)
    t.equal(ran.code, 0, ran.stderr)
    await showsLayer(t, ran.boot, backend, options.join(' '))
    // What is there already is not sent again.
    t.equal((await create(dir, 'registry', config, ...options, '-t', 'targz-rafs', layer)).code, 0)
  }
  storeBlob(dir, config.repo, readFileSync(layer))
  const index = await create(dir, 'registry', config, '-t', 'targz-ref', layer)
  t.equal(index.code, 0, index.stderr)
  await showsLayer(t, index.boot, backend, 'the index of a layer that the registry has')

  for (const [about, wrong, options, message] of [
    ['a wrong password', { ...config, auth: base64('user:guess') }, [], /could not be uploaded.*status 401/],
    ['no CA', { ...config, ca_cert_files: [] }, [], /could not be uploaded.*certificate/],
    ['a name that is no digest', config, ['--blob-id', 'mine'], /names blobs by the sha256 of their bytes/],
  ] as const) {
    const ran = await create(dir, 'registry', wrong, ...options, '-t', 'targz-rafs', layer)
    t.equal(ran.code, 1, about)
    t.match(ran.stderr, message, about)
    t.match(ran.stderr, /^Error: [^\n]+\n$/, `${about}: one sentence`)
  }
})

t.test('oss: signatures of version 4 and 1, in parts', async t => {
  const dir = tempDir(t)
  const objects = new Map<string, Buffer>()
  const server = await BlobServer.start(Buffer.alloc(0))
  const proxy = await FaultProxy.start(server.url)
  t.teardown(() => Promise.all([proxy.stop(), server.stop()]))
  const store = new OssStore({ name: 'nydus', keyId: 'LTAI5t', secret: 'secret/+=', objects })
  server.hook = store.hook
  // The bucket's host name does not resolve here.
  const { lookup } = dns
  const here = (_: string, options: { all?: boolean }, done: (...answer: unknown[]) => void): void => {
    const address = '127.0.0.1'
    if (options.all === true) done(null, [{ address, family: 4 }])
    else done(null, address, 4)
  }
  dns.lookup = here as typeof lookup
  t.teardown(() => (dns.lookup = lookup))
  const port = server.host.split(':')[1]
  for (const [host, version] of [
    ['oss-cn-hangzhou.aliyuncs.com', 'v4'],
    ['oss.private.cloud', 'v1'],
  ] as const) {
    const config = {
      ...{ scheme: 'http', bucket_name: 'nydus', object_prefix: 'team a/+/' },
      ...{ endpoint: `${host}:${port}`, access_key_id: 'LTAI5t', access_key_secret: 'secret/+=' },
    }
    const backend = { type: 'oss', config: { ...config, proxy: { url: proxy.url, fallback: false } } }
    objects.clear()
    store.used.length = 0
    store.failingParts = 1
    const folder = join(dir, version)
    mkdirSync(folder)
    const { folder: tree, bytes } = bigFile(folder, 20_000_001)
    const ran = await create(folder, 'oss', config, '-v', '5', '--compressor', 'lz4_block', tree)
    t.equal(ran.code, 0, ran.stderr)
    t.strictSame([...objects.keys()], [`team a/+/${sha256(readFileSync(ran.blob))}`])
    t.ok(
      store.used.length === 5 && store.used.every(form => form === version),
      `${store.used.length} requests`,
    )
    await showsBig(t, ran.boot, backend, bytes)

    store.failingParts = 1000
    const failed = await create(folder, 'oss', config, '--blob-id', 'other', tree)
    t.equal(failed.code, 1)
    t.match(failed.stderr, /^Error: blob other could not be uploaded to oss bucket nydus at [^\n]*\n$/)
    t.equal(objects.size, 1)
    t.equal(store.uploads.size, 0, 'no part is left behind')
  }
})

t.test('s3: versitygw over TLS with a private CA', { skip: s3Missing }, async t => {
  const dir = tempDir(t)
  const { server, put } = await startS3(dir, certs)
  t.teardown(() => server.stop())
  t.equal(await put('/images', Buffer.alloc(0)), 200)
  const config = {
    ...{ scheme: 'https', endpoint: server.host, region: S3_REGION, ca_cert_files: [certs.ca] },
    ...{ bucket_name: 'images', object_prefix: "team a/it's +/" },
    ...{ access_key_id: S3_KEYS.accessKeyId, access_key_secret: S3_KEYS.secretAccessKey },
  }
  const backend = { type: 's3', config }
  const small = await create(dir, 's3', config, '-t', 'targz-rafs', layer)
  t.equal(small.code, 0, small.stderr)
  await showsLayer(t, small.boot, backend, 'in one piece')
  const { folder, bytes } = bigFile(dir, 20_000_001)
  const big = await create(dir, 's3', config, '--compressor', 'none', folder)
  t.equal(big.code, 0, big.stderr)
  await showsBig(t, big.boot, backend, bytes)

  const refused = await create(dir, 's3', { ...config, bucket_name: 'none' }, '--compressor', 'none', folder)
  t.equal(refused.code, 1)
  t.match(
    refused.stderr,
    /^Error: blob \w+ could not be uploaded to s3 bucket none at [^\n]*NoSuchBucket[^\n]*\n$/,
  )
})

t.test('localfs, and what cannot be uploaded', async t => {
  const dir = tempDir(t)
  const store = join(dir, 'store')
  mkdirSync(store)
  const ran = await create(dir, 'localfs', { dir: store }, '-t', 'targz-rafs', layer)
  t.equal(ran.code, 0, ran.stderr)
  t.strictSame(readdirSync(store), [sha256(readFileSync(ran.blob))])
  await showsLayer(t, ran.boot, { type: 'localfs', config: { dir: store } }, 'localfs')

  execFileSync('mkfifo', [join(dir, 'fifo')])
  const upload = ['--backend-type', 'registry', '--backend-config', '{"host":"x","repo":"y"}']
  for (const [options, message] of [
    [['--blob-cache-dir', dir], /--blob-cache-dir writes no blob/],
    [['--blob', join(dir, 'fifo')], /fifo is no file/],
    [['--features', 'blob-toc', '-D', dir], /leave it out/],
    [['--backend-config-file', 'x', '-D', dir], /give one of --backend-config and --backend-config-file/],
  ] as const) {
    const { code, stderr } = await runTool('create', '-B', join(dir, 'b'), ...upload, ...options, dir)
    t.equal(code, 2, stderr)
    t.match(stderr, message)
  }
})
