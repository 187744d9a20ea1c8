/**
 * The same for blobs whose chunks have no numbers, so that only the process that stored them knows which are there: images
 * of 2020, and tarfs, whose chunks lie anywhere between pages.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { october2020 } from '../rafs/testing/early-v5.js'
import { buildImage, buildTarfs, SourceFiles } from './testing/built-image.js'
import { CountingServer } from './testing/counting-server.js'
import {
  FILES,
  folderBytes,
  LIMIT,
  mounted,
  readMany,
  showsKills,
  showsLeftovers,
  showsReaders,
  SLACK,
} from './testing/limited-cache.js'
import { tempDir } from './testing/temp-dir.js'

const dir = tempDir(t)
const source = new SourceFiles(join(dir, 'source'), FILES)
const v5 = await buildImage(source, join(dir, 'v5'), '', '--fs-version', '5', '--compressor', 'lz4_block')
const early = { ...v5, bootstrap: join(dir, '2020.boot') }
writeFileSync(early.bootstrap, october2020(Uint8Array.from(readFileSync(v5.bootstrap))))
const tarfs = await buildTarfs(source, join(dir, 'tarfs'))
const served = [
  ['2020', { source, image: early, server: await CountingServer.start(v5.blob) }],
  ['tarfs', { source, image: tarfs, server: await CountingServer.start(tarfs.blob) }],
] as const
t.teardown(() => Promise.all(served.map(([, { server }]) => server.stop())))

for (const [image, from] of served)
  t.test(`${image}: readers while eviction runs`, t => showsReaders(t, from, 2))

for (const [image, from] of served)
  t.test(`${image}: what an earlier daemon left is evicted from open blobs, too`, t =>
    showsLeftovers(t, from),
  )

t.test('two daemons in one folder: what the first one leaves, the other takes', async t => {
  for (const [, from] of served) {
    const workDir = tempDir(t)
    const [a, b] = [await mounted(t, from, workDir), await mounted(t, from, workDir)]
    const [first, second] = await Promise.all([readMany(a, 250, 7), readMany(b, 250, 8)])
    t.strictSame([first, second], [{ right: 250 }, { right: 250 }])
    t.equal((await a.evicted()) + (await b.evicted()), 0)
    t.ok(folderBytes(workDir) > LIMIT)
    await b.daemon.stop()
    while ((await a.evicted()) === 0) t.strictSame(await readMany(a, 50, 9), { right: 50 })
    t.strictSame(await readMany(a, 250, 10), { right: 250 })
    t.ok(folderBytes(workDir) <= LIMIT + SLACK)
  }
})

for (const [image, from] of served)
  t.test(`${image}: kill -9 while it evicts: nothing wrong afterwards`, t => showsKills(t, from, 2))
