/** Reboots of a busy guest: nothing of any boot stays in the daemon. REBOOTS=20 for the figures of the long run. */
import t from 'tap'
import { fixtureNamed } from '../fixtures.js'
import { anonymousKiB, resourcesOf } from '../resources.js'
import { daemonFor, guestFor, showsFixture } from '../stage.js'

const REBOOTS = Number(process.env['REBOOTS'] ?? 4)
const WARM_UP = 2
/** What V8 and malloc may keep; a boot that stays would cost as much each time. */
const BOUND_KIB = 8 << 10

const fixture = fixtureNamed('v6-zstd-blake3')
const daemon = await daemonFor(t, ['virtiofs', '--request-queues', '2'])
await daemon.mount('/', fixture.bootstrap, { blobs: fixture.blobs, workDir: `${daemon.folder}/cache` })
const guest = await guestFor(t, daemon, {
  fs: [{ socket: daemon.sock, tag: 'nydus', requestQueues: 2 }],
  cpus: 2,
})

/** With one connection to the API, which would else end when it likes. */
async function held() {
  await daemon.api('GET', 'daemon')
  return { ...resourcesOf(daemon.pid), rss: anonymousKiB(daemon.pid) }
}

t.test(`${REBOOTS} reboots: descriptors, sockets, threads and memory stay`, async t => {
  const boot = async () => {
    await guest.reboot()
    await guest.mount('nydus', '/mnt')
    await showsFixture(t, guest, '/mnt', fixture)
  }
  for (let i = 0; i < WARM_UP; i++) await boot()
  const { rss: rssBefore, ...before } = await held()
  for (let i = 0; i < REBOOTS; i++) await boot()
  const { rss, ...after } = await held()
  t.comment(`${JSON.stringify(before)}, RSS ${rssBefore} KiB; then ${JSON.stringify(after)}, RSS ${rss} KiB`)
  t.strictSame(after, before)
  t.ok(rss - rssBefore < BOUND_KIB, `RSS: ${rssBefore} KiB, then ${rss} KiB`)
})
