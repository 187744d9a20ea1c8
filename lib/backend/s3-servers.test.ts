/** The s3 backend against a real server, versitygw. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { S3Options } from './backend.js'
import { openS3 } from './s3.js'
import { BlobServer } from './testing/blob-server.js'
import { makeCerts } from './testing/certs.js'
import { context, httpDefaults, testSeams } from './testing/fixtures.js'
import { checkWhole } from './testing/opened.js'
import { S3_KEYS, S3_REGION, s3Missing, startS3 } from './testing/s3-server.js'

const fixture = join(import.meta.dirname, '../../vm-tests/fixtures/v6-zstd-blake3/blobs')
const [id = ''] = readdirSync(fixture)
const blob = readFileSync(join(fixture, id))

const s3Defaults: S3Options = {
  ...httpDefaults,
  scheme: 'https',
  endpoint: '',
  region: S3_REGION,
  bucket_name: 'images',
  object_prefix: '',
  access_key_id: S3_KEYS.accessKeyId,
  access_key_secret: S3_KEYS.secretAccessKey,
}

function open(t: Test, options: Partial<S3Options>) {
  const seams = testSeams()
  // Signatures carry the date, and the server knows what day it is.
  seams.clock.wall = () => Date.now()
  const backend = openS3({ type: 's3', s3: { ...s3Defaults, ...options } }, context, seams)
  t.teardown(() => backend.close())
  return { backend, seams }
}

t.test('versitygw over TLS with a private CA', { skip: s3Missing }, async t => {
  const dir = t.testdir({ certs: {} })
  const certs = await makeCerts(join(dir, 'certs'))
  const { server, put } = await startS3(dir, certs)
  t.teardown(() => server.stop())
  const prefix = "team a/it's (new)+ü=1/"
  const encoded = 'team%20a/it%27s%20%28new%29%2B%C3%BC%3D1/'
  t.equal(await put('/images', Buffer.alloc(0)), 200)
  t.equal(await put(`/images/${id}`, blob), 200)
  t.equal(await put(`/images/${encoded}${id}`, blob), 200)
  const options = { endpoint: server.host, ca_cert_files: [certs.ca] }

  for (const object_prefix of ['', prefix]) {
    const { backend } = open(t, { ...options, object_prefix })
    const reads = await checkWhole(t, backend.open(id))
    t.equal(backend.counters['requests'], reads + 1, `one request a read of '${object_prefix}'`)
  }

  for (const wrong of [{ access_key_secret: 'guess' }, { access_key_id: 'nobody' }]) {
    const { backend, seams } = open(t, { ...options, ...wrong })
    await t.rejects(backend.open(id).read(Buffer.alloc(1), 0), {
      // This server says 404 to a user that it does not know.
      code: /^BACKEND_(DENIED|NOT_FOUND)$/,
      message: /<Code>\w+</,
    })
    t.equal(seams.clock.naps.length, 0)
  }
  const { backend } = open(t, options)
  await t.rejects(backend.open('00'.repeat(32)).read(Buffer.alloc(1), 0), {
    code: 'BACKEND_NOT_FOUND',
    message: /NoSuchKey/,
  })
  await t.rejects(backend.open(id).read(Buffer.alloc(10), blob.length - 5), { code: 'BACKEND_TOO_SHORT' })
  const stranger = open(t, { ...options, bucket_name: 'other' }).backend
  await t.rejects(stranger.open(id).read(Buffer.alloc(1), 0), {
    code: 'BACKEND_NOT_FOUND',
    message: /NoSuchBucket/,
  })

  t.comment('a clock that is a day off: what the server says is taken')
  const late = open(t, options)
  late.seams.clock.wall = () => Date.now() - 24 * 3600_000
  const into = Buffer.alloc(100)
  await late.backend.open(id).read(into, 500)
  t.ok(into.equals(blob.subarray(500, 600)))
})

t.test('path-style URLs and signed headers', async t => {
  const server = await BlobServer.start(blob)
  t.teardown(() => server.stop())
  const { backend } = open(t, { scheme: 'http', endpoint: `${server.host}/`, object_prefix: 'a b/' })
  await backend.open(id).read(Buffer.alloc(10), 5)
  t.equal(server.requests[0]?.url, `/images/a%20b/${id}`)
  const { authorization, range } = server.requests[0]?.headers ?? {}
  t.match(authorization, /^AWS4-HMAC-SHA256 Credential=nydus-key\/\d{8}\/eu-test-1\/s3\/aws4_request, /)
  t.match(authorization, /SignedHeaders=host;x-amz-content-sha256;x-amz-date,/)
  t.equal(range, 'bytes=5-14')
  const anonymous = open(t, {
    ...{ scheme: 'http', endpoint: server.host, access_key_id: '', access_key_secret: '' },
  })
  await anonymous.backend.open(id).read(Buffer.alloc(10), 5)
  t.equal(server.requests[1]?.headers.authorization, undefined)
})

t.test('configurations that cannot work', async t => {
  t.throws(() => open(t, { endpoint: 'x', access_key_secret: '' }), {
    code: 'BACKEND_CONFIG',
    message: /access_key/,
  })
  t.throws(() => open(t, { endpoint: 'bad host' }), { code: 'BACKEND_CONFIG', message: /s3\.endpoint/ })
})
