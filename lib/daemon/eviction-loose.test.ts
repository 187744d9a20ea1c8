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
import { FILES, showsKills, showsLeftovers, showsReaders, showsTwo } from './testing/limited-cache.js'
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

for (const [image, from] of served)
  t.test(`${image}: two daemons in one folder: what the first one leaves, the other takes`, t =>
    showsTwo(t, from, 250),
  )

for (const [image, from] of served)
  t.test(`${image}: kill -9 while it evicts: nothing wrong afterwards`, t => showsKills(t, from, 2))
