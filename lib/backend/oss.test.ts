/** OSS, against the stand-in: there is no server of it to be had. */
import t, { type Test } from 'tap'
import type { OssOptions } from './backend.js'
import { openOss } from './oss.js'
import { regionOf } from './oss-sign.js'
import { BlobServer, patternBlob } from './testing/blob-server.js'
import { FaultProxy } from './testing/fault-proxy.js'
import { context, httpDefaults, proxyDefaults, testSeams } from './testing/fixtures.js'
import { OssStore } from './testing/oss-store.js'

const ID = '34'.repeat(32)
const KEY_ID = 'LTAI5tExample'
const SECRET = 'exampleSecret/with+signs='
const BUCKET = 'nydus-images'
const PREFIX = 'team a/ünï+code/'
const blob = patternBlob(20_000)

async function rig(t: Test, options: Partial<OssOptions> = {}) {
  const server = await BlobServer.start(blob)
  // Host names of buckets do not resolve here; a forward proxy brings them all to the stand-in.
  const proxy = await FaultProxy.start(server.url)
  t.teardown(() => Promise.all([proxy.stop(), server.stop()]))
  const seams = testSeams()
  const objects = new Map([[PREFIX + ID, blob]])
  const setting = new OssStore({ name: BUCKET, keyId: KEY_ID, secret: SECRET, objects })
  setting.now = () => seams.clock.wall()
  server.hook = setting.hook
  const backend = openOss(
    {
      type: 'oss',
      oss: {
        ...httpDefaults,
        scheme: 'http',
        endpoint: 'oss-cn-hangzhou.aliyuncs.com',
        bucket_name: BUCKET,
        object_prefix: PREFIX,
        access_key_id: KEY_ID,
        access_key_secret: SECRET,
        proxy: { ...proxyDefaults, url: proxy.url, fallback: false },
        ...options,
      },
    },
    context,
    seams,
  )
  t.teardown(() => backend.close())
  return { server, proxy, seams, setting, used: setting.used, blob: backend.open(ID) }
}

async function check(t: Test, reader: Awaited<ReturnType<typeof rig>>['blob']): Promise<void> {
  t.equal(await reader.size(), 20_000)
  const into = Buffer.alloc(1000)
  await reader.read(into, 500)
  t.ok(into.equals(blob.subarray(500, 1500)))
}

t.test('version 4 where the endpoint names a region', async t => {
  const { blob, proxy, used } = await rig(t)
  await check(t, blob)
  t.strictSame(used, ['v4', 'v4'])
  t.match(
    proxy.requests[0]?.url,
    /^http:\/\/nydus-images\.oss-cn-hangzhou\.aliyuncs\.com\/team%20a\/%C3%BCn%C3%AF%2Bcode\/34/,
  )
})

t.test('version 1 where it does not', async t => {
  const { blob, used } = await rig(t, { endpoint: 'oss.private.example' })
  await check(t, blob)
  t.strictSame(used, ['v1', 'v1'])
})

t.test('a store that does not know version 4 is given version 1 from then on', async t => {
  const { blob, used, setting } = await rig(t, { endpoint: 'oss-cn-beijing-internal.aliyuncs.com' })
  setting.versions = ['v1']
  await check(t, blob)
  t.strictSame(used, ['v4', 'v1', 'v1'])
})

t.test('a wrong secret is final', async t => {
  const { blob, used, seams } = await rig(t, { access_key_secret: 'wrong' })
  await t.rejects(blob.read(Buffer.alloc(1), 0), { code: 'BACKEND_DENIED', message: /SignatureDoesNotMatch/ })
  t.strictSame(used, ['v4', 'v1'])
  await t.rejects(blob.read(Buffer.alloc(1), 0), { code: 'BACKEND_DENIED' })
  t.equal(used.length, 3)
  t.equal(seams.clock.naps.length, 0)
})

t.test('a clock that is an hour off is corrected by the store', async t => {
  const { blob, setting, seams, used } = await rig(t)
  setting.now = () => seams.clock.wall() + 3600_000
  const into = Buffer.alloc(10)
  await blob.read(into, 0)
  await blob.read(into, 10)
  t.equal(used.length, 3, 'once')
})

t.test('no keys: a public bucket is asked without a signature', async t => {
  const { blob, used } = await rig(t, { access_key_id: '', access_key_secret: '' })
  await t.rejects(blob.read(Buffer.alloc(1), 0), { code: 'BACKEND_DENIED' })
  t.strictSame(used, ['none'])
})

t.test('half a pair of keys', async t => {
  await t.rejects(rig(t, { access_key_secret: '' }), { code: 'BACKEND_CONFIG', message: /access_key/ })
})

t.test('regions in endpoints', async t => {
  for (const [endpoint, region] of [
    ['oss-cn-hangzhou.aliyuncs.com', 'cn-hangzhou'],
    ['oss-us-west-1-internal.aliyuncs.com', 'us-west-1'],
    ['oss-cn-shanghai.localhost:9000', 'cn-shanghai'],
    ['oss.aliyuncs.com', undefined],
    ['oss-accelerate.aliyuncs.com', undefined],
    ['oss-accelerate-overseas.aliyuncs.com', undefined],
    ['127.0.0.1:9000', undefined],
    ['images.example.com', undefined],
  ] as const)
    t.equal(regionOf(endpoint), region, endpoint)
})
