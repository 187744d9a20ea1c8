/** Mounts that come and go while a guest looks: what it sees at once, what it never sees again, what it never mixes up. */
import t from 'tap'
import { ApiError } from '../daemon.js'
import { fixtureNamed } from '../fixtures.js'
import { GuestError } from '../guest/guest.js'
import { daemonFor, guestFor, kernelIsContent, showsFixture } from '../stage.js'
import { sha256 } from '../manifest.js'

const v5 = fixtureNamed('v5-lz4-blake3')
const v6 = fixtureNamed('v6-zstd-blake3')
const layers = fixtureNamed('layers')

/** A file of every image with a tree of its own; larger than what a guest reads ahead. */
const BIG = 'sizes/f1048577'
const BIG_SIZE = 1048577
const BIG_SHA256 = 'ccea4cb948246de57ffd70753e7da9bbd86f0ef2fbf377cf347b88a6f48d32ea'
/** Guests that hold an unmounted file open may get any of these, never bytes. */
const GONE = [2, 5, 116] // ENOENT, EIO, ESTALE

const daemon = await daemonFor(t)
const guest = await guestFor(t, daemon)

async function errnoOf(work: Promise<unknown>): Promise<number> {
  try {
    await work
    return 0
  } catch (error) {
    if (error instanceof GuestError) return error.errno
    throw error
  }
}

async function list(folder: string): Promise<string[]> {
  const text = await guest.sh(`ls -A ${folder}`)
  return text.split('\n').filter(name => name !== '')
}

t.test('an empty daemon shows an empty root', async t => {
  t.strictSame(await list('/mnt'), [])
  t.match(await guest.sh('stat -c "%F %a" /mnt'), 'directory')
})

t.test('a mount is there at once, also where the guest has just seen nothing', async t => {
  t.equal((await guest.trySh('stat /mnt/a/b/c')).code, 1)
  await daemon.mount('/a/b/c', v6.bootstrap, { blobs: v6.blobs })
  t.strictSame(await list('/mnt'), ['a'])
  t.strictSame(await list('/mnt/a'), ['b'])
  await showsFixture(t, guest, '/mnt/a/b/c', v6)
})

t.test('a second mount beside it leaves the first as it is', async t => {
  await daemon.mount('/a/other', layers.bootstrap, { blobs: layers.blobs })
  t.strictSame(await list('/mnt/a'), ['b', 'other'])
  await showsFixture(t, guest, '/mnt/a/other', layers)
  await showsFixture(t, guest, '/mnt/a/b/c', v6)
})

t.test('an unmounted image is gone at once, its neighbour is not', async t => {
  await daemon.umount('/a/b/c')
  t.equal((await guest.trySh(`stat /mnt/a/b/c/${BIG}`)).code, 1)
  t.equal((await guest.trySh('ls -d /mnt/a/b/c')).code, 1)
  await showsFixture(t, guest, '/mnt/a/other', layers)
})

t.test('another image at the same path is that image, whatever the guest had cached', async t => {
  for (const fixture of [v6, v5, layers, v6]) {
    await daemon.mount('/turn', fixture.bootstrap, { blobs: fixture.blobs })
    await showsFixture(t, guest, '/mnt/turn', fixture)
    await daemon.umount('/turn')
    t.equal((await guest.trySh('ls /mnt/turn/sizes')).code, 1)
  }
})

t.test('files and folders held open over an unmount fail cleanly and never become another file', async t => {
  await daemon.mount('/held', v6.bootstrap, { blobs: v6.blobs })
  const file = await guest.open(`/mnt/held/${BIG}`)
  t.equal((await guest.read(file, 0, 4096)).length, 4096)
  const deep = await guest.open('/mnt/held/deep')
  const throughDeep = `ls /proc/$(pidof agent)/fd/${deep}/level0`
  t.match(await guest.sh(throughDeep), 'level1')
  await daemon.umount('/held')
  t.ok(GONE.includes(await errnoOf(guest.read(file, BIG_SIZE - 4096, 4096))), 'a read of the open file fails')

  await daemon.mount('/held', v5.bootstrap, { blobs: v5.blobs })
  t.ok(GONE.includes(await errnoOf(guest.read(file, BIG_SIZE - 8192, 4096))), 'also with another image there')
  t.equal((await guest.trySh(throughDeep)).code, 1, 'nothing is found through the open folder')
  t.equal(sha256(await guest.readFile(`/mnt/held/${BIG}`)), BIG_SHA256, 'the new image is there')
  await guest.close(file)
  await guest.close(deep)
  await daemon.umount('/held')
})

t.test('mounts below a mount, and a mount over everything', async t => {
  await daemon.mount('/outer', v6.bootstrap, { blobs: v6.blobs })
  await daemon.mount('/outer/inner', layers.bootstrap, { blobs: layers.blobs })
  t.ok((await list('/mnt/outer')).includes('sizes'), 'the outer image is there')
  await showsFixture(t, guest, '/mnt/outer/inner', layers)
  await daemon.umount('/outer/inner')
  await showsFixture(t, guest, '/mnt/outer', v6)
  await daemon.umount('/outer')

  await daemon.mount('/', v5.bootstrap, { blobs: v5.blobs })
  t.ok((await list('/mnt')).includes('sizes'), 'an image at the root')
  await daemon.umount('/')
  t.not((await list('/mnt')).includes('sizes'), 'the root without it')
  await showsFixture(t, guest, '/mnt/a/other', layers)
})

t.test('a mount that fails changes nothing', async t => {
  const before = await list('/mnt')
  await t.rejects(daemon.mount('/bad', '/nowhere/bootstrap', { blobs: v6.blobs }), ApiError)
  await t.rejects(daemon.mount('/a/other', v6.bootstrap, { blobs: v6.blobs }), ApiError)
  await t.rejects(daemon.umount('/nowhere'), ApiError)
  t.strictSame(await list('/mnt'), before)
  await showsFixture(t, guest, '/mnt/a/other', layers)
})

t.test('300 mounts at a time, twice', async t => {
  const paths = Array.from({ length: 300 }, (_, i) => `/many/${i}`)
  for (const fixture of [v5, v6]) {
    for (const path of paths) await daemon.mount(path, fixture.bootstrap, { blobs: fixture.blobs })
    t.equal((await list('/mnt/many')).length, 300)
    const sums = await guest.sh(
      `sha256sum /mnt/many/*/xattr/one /mnt/many/*/dedup/copy0 | cut -d' ' -f1 | sort | uniq -c`,
    )
    t.strictSame(
      sums
        .trim()
        .split('\n')
        .map(line => line.trim().split(' ')[0]),
      ['300', '300'],
    )
    for (const path of paths) await daemon.umount(path)
    t.strictSame(await list('/mnt/many').catch(() => []), [])
  }
})

t.test('nothing can be written', async t => {
  for (const command of [
    'touch /mnt/new',
    'mkdir /mnt/a/new',
    `sh -c 'echo x >> /mnt/a/other/dedup/copy0'`,
    'rm /mnt/a/other/dedup/copy0',
    'mv /mnt/a/other/dedup /mnt/a/other/dedup2',
    'chmod 700 /mnt/a/other/dedup',
    'ln -s x /mnt/a/other/link',
  ]) {
    const { code, output } = await guest.trySh(command)
    t.not(code, 0, command)
    t.match(output, /Read-only file system/, command)
  }
  await showsFixture(t, guest, '/mnt/a/other', layers)
})

t.test('the guest kernel has nothing to complain about', async t => {
  await kernelIsContent(t, guest)
})
