/** A chunk that is damaged in its blob: an error for who reads it, for nobody else, and for no longer than it is damaged. */
import { cp, mkdtemp, open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { fixtureNamed } from '../fixtures.js'
import { daemonFor, guestFor, showsFixture } from '../stage.js'

/** Uncompressed, so that a file's chunk can be found in the blob by the file's own bytes. */
const fixture = fixtureNamed('v6-none')
/** One chunk of 1 MiB and one of a single byte. */
const FILE = 'sizes/f1048577'
const CHUNK = 1 << 20
const EIO = 5

const daemon = await daemonFor(t)
const guest = await guestFor(t, daemon)

async function overwrite(path: string, offset: number, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'r+')
  await file.write(bytes, 0, bytes.length, offset)
  await file.close()
}

const folder = await mkdtemp(join(daemon.folder, 'case-'))
const blobs = join(folder, 'blobs')
await cp(fixture.blobs, blobs, { recursive: true })
const [blobId = ''] = await readdir(blobs)
const blob = join(blobs, blobId)
const workDir = join(folder, 'cache')

await daemon.mount('/intact', fixture.bootstrap, { blobs: fixture.blobs })
const content = await guest.readFile(`/mnt/intact/${FILE}`)
const offset = (await readFile(blob)).indexOf(content.subarray(0, 4096))
const middle = offset + CHUNK / 2

t.test('a damaged chunk is an I/O error for its reader only, and the log names it', async t => {
  t.ok(offset >= 0, 'the chunk is found in the blob')
  await overwrite(blob, middle, Uint8Array.of((content[CHUNK / 2] ?? 0) ^ 1))
  await daemon.mount('/hurt', fixture.bootstrap, { blobs, workDir, digestValidate: true })
  const file = await guest.open(`/mnt/hurt/${FILE}`)
  for (const place of [0, CHUNK / 2, CHUNK - 4096])
    await t.rejects(guest.read(file, place, 4096), { name: 'GuestError', errno: EIO })
  t.same(await guest.read(file, CHUNK, 1), content.subarray(CHUNK), 'the next chunk of the same file')
  await guest.close(file)
  t.same((await guest.readFile('/mnt/hurt/sizes/f1048576')).length, CHUNK, 'another file')

  const line = daemon.log.split('\n').find(text => text.includes(blobId) && /chunk/.test(text)) ?? ''
  t.match(
    line,
    new RegExp(`\\b(${offset}|0x${offset.toString(16)})\\b`),
    'blob, chunk and offset in one line',
  )
})

t.test('after the repair the same read works, and the cache holds what is right', async t => {
  await overwrite(blob, middle, content.subarray(CHUNK / 2, CHUNK / 2 + 1))
  t.ok((await guest.readFile(`/mnt/hurt/${FILE}`)).equals(content), 'repaired')
  await showsFixture(t, guest, '/mnt/hurt', fixture)

  await daemon.umount('/hurt')
  await overwrite(blob, offset, Buffer.alloc(CHUNK))
  await daemon.mount('/hurt', fixture.bootstrap, { blobs, workDir, digestValidate: true })
  t.ok((await guest.readFile(`/mnt/hurt/${FILE}`)).equals(content), 'from the cache')
})

t.test('a blob that is cut short is an I/O error where bytes are missing', async t => {
  const file = await open(blob, 'r+')
  await file.truncate(offset + CHUNK / 2)
  await file.close()
  await daemon.mount('/cut', fixture.bootstrap, {
    blobs,
    workDir: join(folder, 'empty'),
    digestValidate: true,
  })
  await t.rejects(guest.readFile(`/mnt/cut/${FILE}`), { name: 'GuestError', errno: EIO })
  await showsFixture(t, guest, '/mnt/intact', fixture)
})
