/** What in a configuration has no effect is told in the daemon's log, and stands in nobody's way. */
import t from 'tap'
import { expectedRecords, fixtureNamed } from '../../vm-tests/fixtures.js'
import { connectGuest, startDaemon } from './testing/daemon.js'
import { guestTree } from './testing/guest-tree.js'

t.test('external backends and unknown keys', async t => {
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  const { bootstrap, blobs } = fixtureNamed('v6-zstd-blake3')
  const config = JSON.stringify({
    version: 2,
    backend: { type: 'localfs', localfs: { dir: blobs } },
    external_backends: [{ patch: { root: '/models' }, type: 'local', config: { auth: 'c2VjcmV0' } }],
    rafs: { enable_xattr: true, nonsense: 1 },
  })
  await daemon.api('POST', 'mount?mountpoint=/image', { fs_type: 'rafs', source: bootstrap, config })
  t.strictSame(await guestTree(fuse, '/image'), expectedRecords(fixtureNamed('v6-zstd-blake3')))
  await daemon.stop()
  t.match(
    daemon.log,
    /"level":"warn".*the configuration has external_backends, which have no effect: .* put those blobs there/,
  )
  t.match(
    daemon.log,
    /"level":"warn".*the configuration has keys that are not known and have no effect: rafs\.nonsense/,
  )
  t.notMatch(daemon.log, /c2VjcmV0/)
})
