import t from 'tap'
import { openLocalfs } from '../backend/localfs.js'
import { CacheManager } from './manager.js'
import { cacheConfig, FIXTURES, openFixture, wrongChunks } from './testing/fixtures.js'

for (const name of FIXTURES)
  t.test(`every chunk of ${name} is what its digest says`, async t => {
    const fixture = await openFixture(name)
    const backend = openLocalfs({
      type: 'localfs',
      localfs: { dir: fixture.dir, blob_file: '', alt_dirs: [] },
    })
    const workDir = t.testdir()
    const manager = new CacheManager()
    t.teardown(() => manager.close())
    for (const [i, info] of fixture.image.blobs.entries()) {
      const blob = await manager.open(info, backend, cacheConfig(workDir))
      const wants = fixture.wants[i] ?? []
      t.ok(wants.length > 0, `${wants.length} chunks of blob ${i}`)
      t.same(await wrongChunks(blob, wants, workDir), [])
      await blob.close()
    }
    await fixture.image.close()
  })
