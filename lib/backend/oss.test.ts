/**
 * OSS against a stand-in that verifies signatures as Alibaba Cloud publishes them ("Signature version 1" and
 * "Include a V4 signature in the Authorization header" in the OSS API reference), written without the library
 * that signs.
 */
import { createHash, createHmac } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import t, { type Test } from 'tap'
import type { OssOptions } from './backend.js'
import { openOss } from './oss.js'
import { regionOf } from './oss-sign.js'
import { BlobServer, patternBlob } from './testing/blob-server.js'
import { FaultProxy } from './testing/fault-proxy.js'
import { context, httpDefaults, proxyDefaults, testSeams } from './testing/fixtures.js'

const ID = '34'.repeat(32)
const KEY_ID = 'LTAI5tExample'
const SECRET = 'exampleSecret/with+signs='
const BUCKET = 'nydus-images'
const PREFIX = 'team a/ünï+code/'
const blob = patternBlob(20_000)

const hmac = (algorithm: string, key: string | Buffer, text: string) =>
  createHmac(algorithm, key).update(text)

/** Signature version 1: what the Authorization header must be. */
function versionOne(request: IncomingMessage, key: string): string {
  const ossHeaders = Object.entries(request.headers)
    .filter(([name]) => name.startsWith('x-oss-'))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}:${String(value).trim()}\n`)
    .join('')
  const text = [
    request.method,
    request.headers['content-md5'] ?? '',
    request.headers['content-type'] ?? '',
    request.headers['x-oss-date'] ?? request.headers.date,
    `${ossHeaders}/${BUCKET}/${key}`,
  ].join('\n')
  return `OSS ${KEY_ID}:${hmac('sha1', SECRET, text).digest('base64')}`
}

/** Percent-encoding of the V4 canonical URI: all but unreserved characters and `/`. */
function canonical(text: string): string {
  return [...Buffer.from(text)]
    .map(byte => {
      const c = String.fromCharCode(byte)
      return /[A-Za-z0-9\-._~/]/.test(c) ? c : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
    })
    .join('')
}

/** Signature version 4: what the Signature in the header must be. */
function versionFour(request: IncomingMessage, key: string, region: string): string {
  const date = String(request.headers['x-oss-date'])
  const day = date.slice(0, 8)
  const signed = Object.keys(request.headers)
    .filter(name => name === 'content-type' || name === 'content-md5' || name.startsWith('x-oss-'))
    .sort()
  const canonicalRequest = [
    request.method,
    canonical(`/${BUCKET}/${key}`),
    '',
    ...signed.map(name => `${name}:${String(request.headers[name]).trim()}`),
    '',
    '',
    request.headers['x-oss-content-sha256'],
  ].join('\n')
  const scope = `${day}/${region}/oss/aliyun_v4_request`
  const digest = createHash('sha256').update(canonicalRequest).digest('hex')
  let signing = hmac('sha256', `aliyun_v4${SECRET}`, day).digest()
  for (const part of [region, 'oss', 'aliyun_v4_request']) signing = hmac('sha256', signing, part).digest()
  const signature = hmac('sha256', signing, `OSS4-HMAC-SHA256\n${date}\n${scope}\n${digest}`).digest('hex')
  return `OSS4-HMAC-SHA256 Credential=${KEY_ID}/${scope},Signature=${signature}`
}

interface Server {
  /** What it accepts. */
  versions: readonly ('v1' | 'v4')[]
  /** Its clock, in milliseconds since 1970. */
  now: () => number
}

function refuse(response: ServerResponse, status: number, code: string, now: number, head: boolean): true {
  response.writeHead(status, { date: new Date(now).toUTCString(), 'content-type': 'application/xml' })
  response.end(head ? undefined : `<?xml version="1.0"?><Error><Code>${code}</Code></Error>`)
  return true
}

async function rig(t: Test, options: Partial<OssOptions> = {}) {
  const server = await BlobServer.start(blob)
  // Host names of buckets do not resolve here; a forward proxy brings them all to the stand-in.
  const proxy = await FaultProxy.start(server.url)
  t.teardown(() => Promise.all([proxy.stop(), server.stop()]))
  const seams = testSeams()
  const setting: Server = { versions: ['v1', 'v4'], now: () => seams.clock.wall() }
  const used: string[] = []
  server.hook = (request, response) => {
    const { authorization = '', host } = request.headers
    const head = request.method === 'HEAD'
    const now = setting.now()
    const region = /^nydus-images\.oss-([a-z0-9-]+?)(-internal)?\./.exec(host ?? '')?.[1] ?? 'none'
    const key = decodeURIComponent(new URL(request.url ?? '', 'http://x').pathname.slice(1))
    if (key !== PREFIX + ID) return refuse(response, 404, 'NoSuchKey', now, head)
    const version = authorization.startsWith('OSS4-') ? 'v4' : 'v1'
    used.push(authorization === '' ? 'none' : version)
    if (authorization === '') return refuse(response, 403, 'AccessDenied', now, head)
    if (!setting.versions.includes(version)) return refuse(response, 400, 'InvalidArgument', now, head)
    const text = String(request.headers['x-oss-date'])
    const date = Date.parse(
      version === 'v1' ? text : text.replace(/^(....)(..)(..T..)(..)(..Z)$/, '$1-$2-$3:$4:$5'),
    )
    if (!(Math.abs(date - now) < 900_000)) return refuse(response, 403, 'RequestTimeTooSkewed', now, head)
    const expected = version === 'v1' ? versionOne(request, key) : versionFour(request, key, region)
    if (authorization !== expected) return refuse(response, 403, 'SignatureDoesNotMatch', now, head)
    return false
  }
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
  return { server, proxy, seams, setting, used, blob: backend.open(ID) }
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
