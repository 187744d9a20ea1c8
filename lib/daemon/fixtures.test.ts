/** The whole daemon, as its users run it: the built program, its sockets, a guest played by the test front-end. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { expectedRecords, fixtureNamed, FIXTURES } from '../../vm-tests/fixtures.js'
import { connectGuest, startDaemon } from './testing/daemon.js'
import { guestTree } from './testing/guest-tree.js'
import { tempDir } from './testing/temp-dir.js'

t.test('every fixture: cold, warm and no cache, with and without digests', async t => {
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  const workDir = tempDir(t)
  for (const { name, bootstrap, blobs } of FIXTURES) {
    const manifest = expectedRecords(fixtureNamed(name))
    for (const digestValidate of [false, true]) {
      rmSync(join(workDir, name), { recursive: true, force: true })
      const cached = { blobs, workDir: join(workDir, name), digestValidate }
      for (const [state, options] of [
        ['cold', cached],
        ['warm', cached],
        ['no cache', { blobs, digestValidate }],
      ] as const) {
        await daemon.mount(`/${name}`, bootstrap, options)
        t.strictSame(
          await guestTree(fuse, `/${name}`),
          manifest,
          `${name}: ${state}, digests ${digestValidate}`,
        )
        await daemon.umount(`/${name}`)
      }
    }
  }
})
