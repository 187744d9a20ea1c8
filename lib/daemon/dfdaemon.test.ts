/** The whole daemon behind Dragonfly's own dfdaemon: every image through it, and its death while a guest reads. */
import t from 'tap'
import { dfdaemonMissing, startDfdaemon, TO_SOURCE, VIA_P2P } from '../backend/testing/dfdaemon.js'
import { FaultProxy } from '../backend/testing/fault-proxy.js'
import { dockerRegistry } from '../backend/testing/servers.js'
import { expectedRecords, fixtureNamed, FIXTURES } from '../../vm-tests/fixtures.js'
import { connectGuest, startDaemon } from './testing/daemon.js'
import { guestFiles, inParallel, readFile } from './testing/guest-tree.js'
import { mountRemote, pushImages, showsImages } from './testing/remote.js'
import { tempDir } from './testing/temp-dir.js'

const REPO = 'library/nydus'
const ALL = FIXTURES.map(({ name }) => name)
const IMAGE = 'v6-none'

t.test('a guest behind dfdaemon', { skip: dfdaemonMissing }, async t => {
  const daemon = await startDaemon(t)
  const guest = { daemon, fuse: await connectGuest(t, daemon) }
  const dir = tempDir(t)
  const registry = await dockerRegistry({ dir })
  t.teardown(() => registry.stop())
  pushImages(dir, REPO, ALL)
  const dfdaemon = await startDfdaemon(t)

  await t.test('every image, with and without a cache, and nothing past dfdaemon', async t => {
    const config = {
      ...{ scheme: 'http', host: registry.host, repo: REPO },
      proxy: { url: dfdaemon.url, fallback: false },
    }
    const backend = { type: 'registry', config }
    await showsImages(t, guest, '/cached', ALL, backend, { workDir: tempDir(t) })
    const fetched = await dfdaemon.counter(TO_SOURCE)
    t.ok((await dfdaemon.counter(VIA_P2P)) >= ALL.length)
    await showsImages(t, guest, '/uncached', ALL, backend)
    t.equal(await dfdaemon.counter(TO_SOURCE), fetched, 'it had everything the second time')
  })

  await t.test('killed while files are read: the guest notices nothing; restarted: used again', async t => {
    // All that reaches the registry is seen in the one, and what nydusd knows of dfdaemon's health in the other.
    const straight = await FaultProxy.start(`http://${registry.host}`)
    const pings = await FaultProxy.start(dfdaemon.pingUrl)
    t.teardown(() => Promise.all([straight.stop(), pings.stop()]))
    const config = {
      ...{ scheme: 'http', host: straight.host, repo: REPO },
      proxy: { url: dfdaemon.url, ping_url: `${pings.url}/healthy`, check_interval: 1 },
    }
    // dfdaemon hands on what it was told.
    const past = () =>
      straight.requests.filter(({ headers }) => headers['x-dragonfly-use-p2p'] === undefined).length
    // Without a cache and read-ahead every file is a request.
    const options = { more: { amplify_io: 0 } }
    await mountRemote(daemon, '/dying', IMAGE, { type: 'registry', config }, options)
    const files = await guestFiles(guest.fuse, '/dying', expectedRecords(fixtureNamed(IMAGE)))
    const half = files.length >> 1
    let begun = 0
    let stopped: Promise<void> | undefined
    const outcomes = await inParallel(files.slice(0, half), file => {
      if (++begun === 10) stopped = dfdaemon.process.stop()
      return readFile(guest.fuse, file)
    })
    await stopped
    t.strictSame(new Set(outcomes), new Set(['right']), `${half} files`)
    t.ok(past() > 0, 'the origin served what dfdaemon did not')

    await dfdaemon.process.start()
    // The next but one begins when the first has been answered.
    const enough = pings.requests.length + 2
    while (pings.requests.length < enough) await new Promise(resolve => setTimeout(resolve, 10))
    const before = past()
    const later = await inParallel(files.slice(half), file => readFile(guest.fuse, file))
    t.strictSame(new Set(later), new Set(['right']), `${files.length - half} files`)
    t.equal(past(), before, 'nothing comes past it any more')
    t.ok((await dfdaemon.counter(VIA_P2P)) > 0, 'it is used again')
    t.match(await daemon.api('GET', 'metrics/backend?id=/dying'), { read_errors: 0 })
    await daemon.umount('/dying')
  })
})
