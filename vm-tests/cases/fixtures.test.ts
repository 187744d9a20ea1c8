/**
 * Every image that ships with the project, mounted through the API and compared with its manifest inside a guest:
 * cold cache, warm cache, no cache; with and without a check of every digest. One boot for all of them.
 */
import { cp, open, readdir } from 'node:fs/promises'
import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { InstanceOptions } from '../daemon.js'
import { FIXTURES, type Fixture } from '../fixtures.js'
import { daemonFor, guestFor, kernelIsContent, showsFixture } from '../stage.js'

const daemon = await daemonFor(t)
const guest = await guestFor(t, daemon)

/** Mounts `fixture`, compares all of it inside the guest, unmounts it. */
async function check(t: Test, fixture: Fixture, options: InstanceOptions): Promise<void> {
  const mountpoint = `/${fixture.name}`
  await daemon.mount(mountpoint, fixture.bootstrap, options)
  await showsFixture(t, guest, `/mnt${mountpoint}`, fixture)
  await daemon.umount(mountpoint)
}

/** Overwrites every blob in `folder` with zeros, its size unchanged: what is read from there is wrong. */
async function wipe(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const file = await open(join(folder, name), 'r+')
    const { size } = await file.stat()
    await file.write(Buffer.alloc(size), 0, size, 0)
    await file.close()
  }
}

for (const fixture of FIXTURES) {
  t.test(`${fixture.name}: ${fixture.about}`, async t => {
    const { blobs } = fixture
    const folder = mkdtempSync(join(daemon.folder, 'case-'))
    const workDir = join(folder, 'cache')

    t.test('no cache', async t => {
      await check(t, fixture, { blobs, digestValidate: false })
    })
    t.test('no cache, digests checked', async t => {
      await check(t, fixture, { blobs, digestValidate: true })
    })
    t.test('cold cache', async t => {
      await check(t, fixture, { blobs, workDir: join(folder, 'unchecked'), digestValidate: false })
    })
    t.test('cold cache, digests checked; then warm, with nothing right in the backend', async t => {
      const copy = join(folder, 'blobs')
      await cp(blobs, copy, { recursive: true })
      await check(t, fixture, { blobs: copy, workDir, digestValidate: true })
      await wipe(copy)
      await check(t, fixture, { blobs: copy, workDir, digestValidate: true })
    })
  })
}

t.test('the guest kernel has nothing to complain about', async t => {
  await kernelIsContent(t, guest)
})
