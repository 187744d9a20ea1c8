/**
 * A cache that must not grow: every byte that guests get is right while what they read is taken away, with another daemon
 * in the same folder, and with kill -9 in between. Nobody checks digests of what is in the cache: wrong bytes would show.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { buildImage, SourceFiles } from './testing/built-image.js'
import { CountingServer } from './testing/counting-server.js'
import { readFile } from './testing/guest-tree.js'
import {
  FILES,
  folderBytes,
  LIMIT,
  mounted,
  readMany,
  showsKills,
  showsLeftovers,
  showsReaders,
  showsTwo,
  SLACK,
} from './testing/limited-cache.js'
import { tempDir } from './testing/temp-dir.js'

const dir = tempDir(t)
const source = new SourceFiles(join(dir, 'source'), FILES)
const images = {
  v6: await buildImage(source, join(dir, 'v6'), '', '--compressor', 'none'),
  v5: await buildImage(source, join(dir, 'v5'), '', '--fs-version', '5', '--compressor', 'lz4_block'),
}
const server = await CountingServer.start(images.v6.blob)
const serverV5 = await CountingServer.start(images.v5.blob)
t.teardown(() => Promise.all([server.stop(), serverV5.stop()]))
const v6 = { source, image: images.v6, server }
const v5 = { source, image: images.v5, server: serverV5 }
const served = Object.entries({ v6, v5 })

for (const [image, from] of served)
  t.test(`${image}: readers while eviction runs`, t => showsReaders(t, from, 3))

t.test('what is used stays, what is not goes', async t => {
  const workDir = tempDir(t)
  const guest = await mounted(t, v6, workDir)
  const [used, ...others] = guest.files
  if (used === undefined) return
  t.equal(await readFile(guest.fuse, used), 'right')
  for (const file of others) {
    t.equal(await readFile(guest.fuse, file), 'right')
    await readFile(guest.fuse, used)
  }
  t.ok((await guest.evicted()) > 0)
  const asked = server.ranges.filter(({ from }) => from === 0).length
  t.equal(await readFile(guest.fuse, used), 'right')
  t.equal(server.ranges.filter(({ from }) => from === 0).length, asked, 'it was not fetched again')
})

t.test('blobs that nobody has open go first, whole', async t => {
  const workDir = tempDir(t)
  const first = await mounted(t, v5, workDir, 0)
  t.strictSame(await readMany(first, 200, 1), { right: 200 })
  const other = readdirSync(workDir).filter(name => name.endsWith('.blob.data'))
  await first.daemon.umount('/a')
  const second = await mounted(t, v6, workDir)
  t.strictSame(await readMany(second, 400, 2), { right: 400 })
  const left = readdirSync(workDir)
  t.ok(!left.some(name => other.some(gone => name.startsWith(gone.slice(0, 64)))), left.join(' '))
  t.ok(folderBytes(workDir) <= LIMIT + SLACK)
})

for (const [image, from] of served)
  t.test(`${image}: what an earlier daemon left is evicted from open blobs, too`, t =>
    showsLeftovers(t, from),
  )

t.test('two daemons in one folder: neither takes what the other has open; alone, one does', t =>
  showsTwo(t, v6, 400),
)

t.test('kill -9 while it evicts: nothing wrong afterwards', t => showsKills(t, v6, 3))
