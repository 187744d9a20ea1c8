/** A guest gets its chunk as soon as that is whole: not after the read-ahead behind it, nor after its decoding. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { NydusError } from '../base/errors.js'
import { CacheManager } from './manager.js'
import { Gate, TestBackend } from './testing/backend.js'
import { bytesOf, cacheConfig, expectedDigest, firstBlob, openFixture } from './testing/fixtures.js'
import { digestOf } from '../base/testing/digest.js'

const fixture = await openFixture('v6-lz4-64k')
t.teardown(() => fixture.image.close())

async function rig(t: Test) {
  const { info, wants } = firstBlob(fixture)
  const workDir = t.testdir()
  const backend = new TestBackend(fixture.dir)
  const manager = new CacheManager()
  t.teardown(() => manager.close())
  const blob = await manager.open(info, backend, cacheConfig(workDir), { amplify: 1 << 20 })
  await blob.prepare()
  backend.asked.length = 0
  const [first, second] = wants
  if (first === undefined || second === undefined) throw new Error('too few chunks')
  return { backend, blob, first, second, data: join(workDir, `${info.id}.blob.data`) }
}

t.test('its bytes are there, the rest of the answer is not', async t => {
  const { backend, blob, first, second, data } = await rig(t)
  const gate = new Gate()
  backend.rest = asked => {
    asked.onProgress?.(asked.length >> 1)
    return gate.pass(asked)
  }
  const fetched = await blob.fetch([first])
  t.equal(backend.running, 1, 'the backend is still sending')
  t.equal(backend.asked.length, 1)
  const bytes = bytesOf(fetched, 0, first, data)
  t.ok(digestOf(blob.info.digester, bytes).equals(expectedDigest(first) ?? Buffer.alloc(0)))
  t.notOk(blob.isReady(second.index))
  gate.open()
  await blob.fetch([second])
  t.equal(backend.asked.length, 1, 'the neighbour came along')
})

t.test('an answer that breaks off: what was whole stays, the rest is asked for again', async t => {
  const { backend, blob, first, second } = await rig(t)
  backend.rest = asked => {
    asked.onProgress?.(asked.length >> 1)
    throw new NydusError('BACKEND_RESET', 'EIO', 'reset')
  }
  await blob.fetch([first])
  t.ok(blob.isReady(first.index))
  backend.rest = () => {}
  await blob.fetch([second])
  t.ok(blob.isReady(second.index))
  t.equal(backend.asked.length, 2)
})
