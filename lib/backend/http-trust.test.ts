/**
 * Which servers are believed over TLS, and that a server nobody can believe gets nothing.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { HttpOptions } from './backend.js'
import { systemSeams } from './http.js'
import { BlobServer, patternBlob } from './testing/blob-server.js'
import { makeCerts } from './testing/certs.js'
import { testSeams } from './testing/fixtures.js'
import { openedHttpProxy } from './testing/opened.js'
import { listen } from './testing/ports.js'

const ID = 'ef'.repeat(32)
const blob = patternBlob(10_000)
const dir = t.testdir({})
const certs = await makeCerts(dir)
const signed = await BlobServer.start(blob, certs)
const selfSigned = await BlobServer.start(blob, certs.selfSigned)
t.teardown(() => Promise.all([signed.stop(), selfSigned.stop()]))

function open(t: Test, addr: string, options: Partial<HttpOptions> = {}, env: NodeJS.ProcessEnv = {}) {
  const seams = testSeams(env)
  const backend = openedHttpProxy(t, { ...options, addr }, seams)
  return { blob: backend.open(ID), seams }
}

t.test('a private CA: ca_cert_files, the environment, or the bundle of the machine', async t => {
  const bundle = join(t.testdir({}), 'bundle.pem')
  writeFileSync(
    bundle,
    `# a comment\n${readFileSync(certs.selfSigned.cert, 'utf8')}${readFileSync(certs.ca, 'utf8')}`,
  )
  for (const [options, env] of [
    [{ ca_cert_files: [certs.ca] }, {}],
    [{ ca_cert_files: [certs.selfSigned.cert, bundle] }, {}],
    [{}, { NYDUS_EXTRA_CA_CERTS: certs.ca }],
    [{}, { SSL_CERT_FILE: bundle }],
  ] as const)
    t.equal(await open(t, signed.url, options, env).blob.size(), 10_000)
  t.equal(
    await open(t, signed.url.replace('127.0.0.1', 'localhost'), { ca_cert_files: [certs.ca] }).blob.size(),
    10_000,
  )
})

t.test('an unknown CA: refused for good, with the cure', async t => {
  const { blob, seams } = open(t, signed.url)
  const before = signed.requests.length
  await t.rejects(blob.read(Buffer.alloc(1), 0), {
    code: 'BACKEND_TLS',
    errno: 'EIO',
    message: /ca_cert_files/,
  })
  t.equal(seams.clock.naps.length, 0)
  await t.rejects(open(t, selfSigned.url, { ca_cert_files: [certs.ca] }).blob.size(), { code: 'BACKEND_TLS' })
  t.equal(signed.requests.length, before)
  t.equal(selfSigned.requests.length, 0)
})

t.test('a certificate for another host', async t => {
  const addr = signed.url.replace('127.0.0.1', '127.0.0.2')
  await t.rejects(open(t, addr, { ca_cert_files: [certs.ca] }).blob.size(), {
    code: /^BACKEND_(TLS|REFUSED)$/,
  })
  // The server listens on 127.0.0.1 alone; ask it by a name that its certificate lacks.
  const name = signed.url.replace('127.0.0.1', 'ip6-localhost')
  await t.rejects(open(t, name, { ca_cert_files: [certs.ca] }).blob.size())
})

t.test('skip_verify believes everybody', async t => {
  t.equal(await open(t, selfSigned.url, { skip_verify: true }).blob.size(), 10_000)
})

t.test('a server that accepts and never shakes hands: connect_timeout ends it', async t => {
  const mute = createServer(() => {})
  const port = await listen(mute)
  t.teardown(() => mute.close())
  const options = { connect_timeout: 0.05, addr: `https://127.0.0.1:${port}` }
  const backend = openedHttpProxy(t, options, { ...systemSeams, clock: testSeams().clock })
  await t.rejects(backend.open(ID).size({ priority: 'prefetch' }), { code: 'BACKEND_TIMEOUT' })
})

t.test('a CA file that cannot be used fails the mount', async t => {
  const bad = join(
    t.testdir({ 'bad.pem': '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' }),
    'bad.pem',
  )
  for (const [file, why] of [
    ['/nonexistent.pem', /cannot be read/],
    [join(import.meta.dirname, 'http.ts'), /holds no certificate/],
    [bad, /certificate 1 of 1/],
  ] as const) {
    t.throws(() => open(t, signed.url, { ca_cert_files: [file] }), {
      code: 'BACKEND_CA_INVALID',
      message: why,
    })
    t.throws(() => open(t, signed.url, {}, { NYDUS_EXTRA_CA_CERTS: file }), {
      code: 'BACKEND_CA_INVALID',
      message: why,
    })
  }
})
