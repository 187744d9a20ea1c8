/** A thousand readers at once, a daemon that is killed, a disk that is full: few requests, bounded memory, right bytes. */
import { mkdtempSync, readFileSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { FuseClient } from '../../addon/test/fuse-client.js'
import { BlobServer } from '../backend/testing/blob-server.js'
import { FaultProxy } from '../backend/testing/fault-proxy.js'
import { native } from '../native.js'
import { expectedRecords, fixtureNamed } from '../../vm-tests/fixtures.js'
import { connectGuest, startDaemon } from './testing/daemon.js'
import { guestFiles, inParallel, readFile } from './testing/guest-tree.js'
import { blobsOf, mountRemote } from './testing/remote.js'
import { tempDir } from './testing/temp-dir.js'

const IMAGE = 'v6-none'
const [[, blob]] = [...blobsOf(IMAGE)] as [[string, Buffer]]
const manifest = expectedRecords(fixtureNamed(IMAGE))
const MIB = 1 << 20
const MNT_DETACH = 2
/** Kills of the daemon; more of them are for people with time. */
const KILLS = Number(process.env['NYDUS_TEST_KILLS'] ?? 4)

const server = await BlobServer.start(blob)
t.teardown(() => server.stop())

async function farBackend(t: Test, delayMs: number) {
  const proxy = await FaultProxy.start(server.url)
  proxy.delayMs = delayMs
  t.teardown(() => proxy.stop())
  return { proxy, backend: { type: 'http-proxy', config: { addr: proxy.url } } }
}

async function outcomes(fuse: FuseClient, readers: number, times = 1): Promise<Record<string, number>> {
  const files = await guestFiles(fuse, '/a', manifest)
  const all = Array.from({ length: times }, () => files).flat()
  const counts: Record<string, number> = {}
  for (const outcome of await inParallel(all, file => readFile(fuse, file), readers))
    counts[outcome] = (counts[outcome] ?? 0) + 1
  return counts
}

/** Resident bytes of a process that are its own: not those of mapped files. */
function resident(pid: number): number {
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024
}

/** The most that `resident` gave until `end` was called. */
function peakOf(pid: number): { readonly end: () => number } {
  let most = resident(pid)
  const look = (): void => void (most = Math.max(most, resident(pid)))
  const timer = setInterval(look, 10)
  return {
    end: () => {
      clearInterval(timer)
      look()
      return most
    },
  }
}

t.test('1,000 cold reads of one blob at once: each byte is asked for once, in merged requests', async t => {
  const { proxy, backend } = await farBackend(t, 20)
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  await mountRemote(daemon, '/a', IMAGE, backend, { workDir: tempDir(t), digestValidate: false })
  // The chunk table, which is asked for at the mount.
  while (proxy.requests.length < 1) await new Promise(resolve => setTimeout(resolve, 1))
  const before = resident(daemon.pid)
  const peak = peakOf(daemon.pid)
  const files = 3 * manifest.filter(({ size }) => size).length
  t.ok(files >= 1000, `${files} files, 1,000 of them at once`)
  t.strictSame(await outcomes(fuse, 1000, 3), { right: files })
  const grown = peak.end() - before
  t.ok(grown < 96 * MIB, `the daemon grew by ${(grown / MIB).toFixed(0)} MiB at most`)
  const ranges = proxy.requests.slice(1).map(({ headers }) => {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? []
    return { from: Number(from), to: Number(to) }
  })
  const sorted = ranges.toSorted((a, b) => a.from - b.from)
  t.ok(sorted.length > 0)
  sorted.forEach(({ from }, i) => t.ok(from > (sorted[i - 1]?.to ?? -1), `${from} is asked for once`))
  // Two requests next to each other would have been one, unless they are larger together than one may be.
  const most = 2 * Math.ceil(blob.length / MIB)
  t.ok(ranges.length <= most, `${ranges.length} requests for ${blob.length} bytes, at most ${most}`)
  t.match(await daemon.api('GET', 'metrics/blobcache?id=/a'), { buffered_backend_size: 0 })
})

t.test(`kill -9 of the daemon during cold reads, ${KILLS} times: never a wrong byte afterwards`, async t => {
  const { proxy, backend } = await farBackend(t, 2)
  const workDir = tempDir(t)
  // Nobody checks digests of what is in the cache: what is wrong there would be seen.
  const options = { workDir, digestValidate: false, more: { amplify_io: 0 } }
  let survived = 0
  for (let kill = 0; kill < KILLS; kill++) {
    const daemon = await startDaemon(t)
    const fuse = await connectGuest(t, daemon)
    proxy.always({ status: 404 })
    proxy.delayMs = 0
    await mountRemote(daemon, '/a', IMAGE, backend, options)
    const cached = await outcomes(fuse, 32)
    t.notOk(cached['wrong'], `before kill ${kill + 1}: ${JSON.stringify(cached)}`)
    survived = Math.max(survived, cached['right'] ?? 0)
    proxy.always('pass')
    proxy.delayMs = 5
    const asked = proxy.requests.length
    const reading = outcomes(fuse, 4).catch(() => undefined)
    // At another point each time.
    while (proxy.requests.length < asked + 10 + 15 * (kill % 5) && !(await settled(reading, 1)));
    process.kill(daemon.pid, 'SIGKILL')
    fuse.frontend.close()
    await reading
    await daemon.stop()
  }
  t.ok(survived > 0, `${survived} files were served from what killed daemons left`)
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  await mountRemote(daemon, '/a', IMAGE, backend, options)
  t.strictSame(Object.keys(await outcomes(fuse, 32)), ['right'])
})

/** Whether `promise` has settled after `ms`. */
async function settled(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const open = Symbol('open')
  const later = new Promise(resolve => setTimeout(() => resolve(open), ms))
  return (await Promise.race([promise, later])) !== open
}

t.test('a full disk under the cache: every byte right, cold and warm, with one warning', async t => {
  const workDir = mkdtempSync(join(tmpdir(), 'nydus-test-'))
  native.mount('tmpfs', workDir, 'tmpfs', 0, 'size=2m')
  t.teardown(() => {
    native.umount(workDir, MNT_DETACH)
    rmdirSync(workDir)
  })
  const { backend } = await farBackend(t, 0)
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  await mountRemote(daemon, '/a', IMAGE, backend, { workDir })
  for (const readers of [32, 1]) t.strictSame(Object.keys(await outcomes(fuse, readers)), ['right'])
  t.equal(daemon.log.match(/takes no more data/g)?.length, 1)
  await daemon.umount('/a')
})
