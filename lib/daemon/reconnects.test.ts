/** 100 front-ends, one after the other: nothing of any of them stays. */
import t, { type Test } from 'tap'
import { VhostFrontend } from '../../addon/test/frontend.js'
import { FuseClient } from '../../addon/test/fuse-client.js'
import { fixtureNamed } from '../../vm-tests/fixtures.js'
import { OP } from '../fuse/abi.js'
import { startDaemon } from './testing/daemon.js'
import { nodeAt, readAll } from './testing/guest-tree.js'
import { residentKiB, resourcesOf } from '../../vm-tests/resources.js'

const CONNECTIONS = 100
const WARM_UP = 20
/** What V8 and malloc may keep; one front-end that stays would cost its 64 MiB of guest memory, or its buffers. */
const RSS_BOUND_KIB = 8 << 10

const image = fixtureNamed('v6-zstd-blake3')
const daemon = await startDaemon(t, ['virtiofs', '--request-queues', '4'])
await daemon.mount('/', image.bootstrap, { blobs: image.blobs, workDir: `${daemon.folder}/cache` })

/** A guest that works, and is gone in the middle of requests, without a word. */
async function visit(t: Test, round: number): Promise<void> {
  const options = [
    {},
    { memory: 'table', acks: 'all' },
    { queueSize: 1024, eventIdx: false },
    { requestQueues: 4, indirect: false },
  ] as const
  const frontend = new VhostFrontend({ path: daemon.sock, ...options[round % options.length] })
  await frontend.connect()
  await frontend.start()
  const fuse = new FuseClient(frontend)
  await fuse.init()
  const node = await nodeAt(fuse, '/dedup/copy0')
  t.equal((await readAll(fuse, node, 70_000)).length, 70_000)
  const left = Array.from({ length: 20 }, () => frontend.request(OP.STATFS, 1, [], 80))
  frontend.close()
  await Promise.allSettled(left)
}

/** With one connection to the API, which would else end when it likes. */
async function resources() {
  await daemon.api('GET', 'daemon')
  return resourcesOf(daemon.pid)
}

t.test(`${CONNECTIONS} connections: descriptors, sockets, threads and RSS stay`, async t => {
  for (let round = 0; round < WARM_UP; round++) await visit(t, round)
  // One that is there both times: the end of the last one takes the daemon a moment.
  const probe = async () => {
    const frontend = new VhostFrontend({ path: daemon.sock })
    await frontend.connect()
    await frontend.start()
    await new FuseClient(frontend).init()
    const found = { resources: await resources(), rss: residentKiB(daemon.pid) }
    frontend.close()
    return found
  }
  const before = await probe()
  for (let round = 0; round < CONNECTIONS; round++) await visit(t, round)
  const after = await probe()
  t.comment(`before ${JSON.stringify(before)}, after ${JSON.stringify(after)}`)
  t.strictSame(after.resources, before.resources)
  t.ok(after.rss - before.rss < RSS_BOUND_KIB, `RSS: ${before.rss} KiB, then ${after.rss} KiB`)
})
