import { createServer } from 'node:http'
import { join } from 'node:path'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import t from 'tap'
import { BlobServer, patternBlob, serveBlob } from './testing/blob-server.js'
import { openedHttpProxy } from './testing/opened.js'

const ID = '12'.repeat(32)
const blob = patternBlob(10_000)

t.test('over a UNIX socket, with its path, and redirects out of it', async t => {
  // A path that fits into sockaddr_un.
  const dir = mkdtempSync(join(tmpdir(), 'nydus-'))
  const socket = join(dir, 'proxy.sock')
  const store = await BlobServer.start(blob)
  const seen: string[] = []
  let redirect = false
  const server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`)
    if (redirect) response.writeHead(302, { location: `${store.url}/elsewhere` }).end()
    else serveBlob(blob, request, response)
  })
  await new Promise<void>(resolve => server.listen(socket, resolve))
  t.teardown(async () => {
    server.closeAllConnections()
    server.close()
    await store.stop()
    rmSync(dir, { recursive: true })
  })
  const backend = openedHttpProxy(t, { addr: socket, path: '/blobs/' })
  const reader = backend.open(ID)
  const into = Buffer.alloc(100)
  await reader.read(into, 9900)
  t.ok(into.equals(blob.subarray(9900)))
  t.equal(await backend.open(ID).size(), 10_000)
  t.strictSame(seen, [`GET /blobs/${ID}`, `HEAD /blobs/${ID}`])
  redirect = true
  await backend.open(ID).read(into, 0)
  t.ok(into.equals(blob.subarray(0, 100)))
  t.equal(store.requests.length, 1)
})

t.test('paths and slashes', async t => {
  const server = await BlobServer.start(blob)
  t.teardown(() => server.stop())
  for (const [addr, path, url] of [
    [server.url, '', `/${ID}`],
    [`${server.url}/`, '', `/${ID}`],
    [server.url, 'a/b', `/a/b/${ID}`],
    [`${server.url}/x/`, '/a/', `/x/a/${ID}`],
  ] as const) {
    t.equal(await openedHttpProxy(t, { addr, path }).open(ID).size(), 10_000)
    t.equal(server.requests.at(-1)?.url, url)
  }
})

t.test('a blob id that would leave the folder is refused before anything is asked', async t => {
  const backend = openedHttpProxy(t, { addr: 'http://127.0.0.1:1' })
  for (const id of ['', '..', 'a/b', 'a?b', 'a#b', 'a%2fb', 'a b'])
    t.throws(() => backend.open(id), { code: 'BLOB_BAD_ID' })
})

t.test('metrics: what was read, and what failed', async t => {
  const server = await BlobServer.start(blob)
  t.teardown(() => server.stop())
  const backend = openedHttpProxy(t, { addr: server.url })
  const reader = backend.open(ID)
  await reader.read(Buffer.alloc(5000), 0)
  await reader.read(Buffer.alloc(0), 0)
  await t.rejects(reader.read(Buffer.alloc(1), 10_000))
  server.refuse(500)
  await t.rejects(reader.read(Buffer.alloc(1), 0))
  t.match(backend.metrics, { readCount: 3, readErrors: 2, readAmountTotal: 5000 })
  t.strictSame(backend.counters, {
    requests: 6,
    retries: 3,
    detours: 0,
    given_up: 2,
    in_flight: 0,
    waiting: 0,
    circuit_open: 0,
  })
})
