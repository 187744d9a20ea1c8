/**
 * A process that fills a cache folder: `filler.ts FIXTURE WORK_DIR SEED`. Prints a line for every few chunks that
 * it got, then how many of all were wrong and how many requests it made. Tests kill it, or run it beside others.
 */
import { CacheManager } from '../manager.js'
import { TestBackend } from './backend.js'
import { cacheConfig, firstBlob, FIXTURES, openFixture, wrongChunks } from './fixtures.js'

const [name, workDir = '', seed = '0'] = process.argv.slice(2)
const fixture = await openFixture(FIXTURES.find(known => known === name) ?? 'v6-lz4-64k')
const { info, wants } = firstBlob(fixture)
const backend = new TestBackend(fixture.dir)
const manager = new CacheManager()
const blob = await manager.open(info, backend, cacheConfig(workDir))
// Another order for each seed: 389 is a prime.
const order = wants
  .map((_, i) => wants[(i * 389 + Number(seed) * 131) % wants.length])
  .filter(want => want !== undefined)
for (let i = 0; i < order.length; i += 5) {
  const fetched = await blob.fetch(order.slice(i, i + 5))
  fetched.release()
  process.stdout.write(`got ${i + 5}\n`)
}
const wrong = await wrongChunks(blob, wants, workDir)
process.stdout.write(`done ${wrong.length} ${backend.asked.length}\n`)
await manager.close()
await fixture.image.close()
