/** Front-ends of every shape see the same image; what they do to memory and connection loses nothing. */
import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { VhostFrontend, type FrontendOptions, type Region } from '../../addon/test/frontend.js'
import { FuseClient } from '../../addon/test/fuse-client.js'
import { OP } from '../fuse/abi.js'
import { fixtureNamed } from '../../vm-tests/fixtures.js'
import { differences, readManifest } from '../../vm-tests/manifest.js'
import { walkTree } from '../../vm-tests/walk.js'
import { startDaemon } from './testing/daemon.js'

const MIB = 1 << 20
const PAGE = 4096
const image = fixtureNamed('layers')
const manifest = readManifest(image.expected)

/** One daemon for all: what a front-end did must not be seen by the next. */
const daemon = await startDaemon(t, ['virtiofs', '--request-queues', '64'])
await daemon.mount('/', image.bootstrap, { blobs: image.blobs })

async function connect(t: Test, options: Omit<FrontendOptions, 'path'> = {}): Promise<FuseClient> {
  const frontend = new VhostFrontend({ path: daemon.sock, ...options })
  t.teardown(() => {
    frontend.close()
  })
  await frontend.connect()
  await frontend.start()
  const fuse = new FuseClient(frontend)
  await fuse.init()
  return fuse
}

async function seesAll(t: Test, fuse: FuseClient, message: string): Promise<void> {
  const { records, problems } = await walkTree(fuse)
  t.strictSame(differences(manifest, records), [], `${message}: as built`)
  t.strictSame(problems, [], `${message}: no contradictions`)
}

/** 64 MiB in pieces of two files, in reverse: buffers straddle regions all the time. */
function patchwork(): Region[] {
  const size = PAGE * 33
  const pieces = Array.from({ length: 30 }, (_, i) => ({
    gpa: MIB + i * size,
    size,
    file: i % 2,
    offset: (30 - i) * size,
  }))
  return [...pieces.reverse(), { gpa: 4096 * MIB, size: 64 * MIB, file: 2, offset: 0 }]
}

const SHAPES: readonly [name: string, options: Omit<FrontendOptions, 'path'>][] = [
  ['as QEMU does', {}],
  ['one table, every message acknowledged', { memory: 'table', acks: 'all' }],
  ['slots, every message acknowledged', { acks: 'all' }],
  ['nothing acknowledged', { acks: 'none' }],
  ['a ring of 2', { queueSize: 2 }],
  ['a ring of 1024', { queueSize: 1024 }],
  ['no EVENT_IDX', { eventIdx: false }],
  ['no indirect descriptors', { indirect: false, queueSize: 256 }],
  ['neither', { eventIdx: false, indirect: false, queueSize: 64 }],
  ['memory in pieces', { regions: patchwork() }],
  ['fewer rings started than there are', { requestQueues: 8, startQueues: 3 }],
  ['65 queues', { requestQueues: 64, queueSize: 16 }],
]

t.test('one guest after the other, each of another shape', async t => {
  for (const [name, options] of SHAPES)
    await t.test(name, async t => {
      const fuse = await connect(t, options)
      await seesAll(t, fuse, name)
      fuse.frontend.close()
    })
  t.notMatch(daemon.log, /"level":"error"/)
})

t.test('every queue answers, also many at once', async t => {
  const { frontend } = await connect(t, { requestQueues: 64, queueSize: 16 })
  const queues = Array.from({ length: 64 }, (_, i) => i + 1)
  const replies = await Promise.all(
    queues.flatMap(queue =>
      // More than fit into the ring: the rest waits its turn.
      Array.from({ length: 40 }, () => frontend.request(OP.STATFS, 1, [], 80, { queue })),
    ),
  )
  t.ok(replies.every(reply => reply.error === 0 && reply.body.length === 80))
  t.strictSame(
    queues.filter(queue => frontend.native.queue(queue).inFlight > 0),
    [],
  )
})

t.test('a request that blocks this thread is answered too', async t => {
  const { frontend } = await connect(t)
  const errors = Array.from({ length: 300 }, () => frontend.requests.sendSync(OP.STATFS, 1, [], 80).error)
  t.ok(errors.every(error => error === 0))
})

t.test('reboots: rings start anew, the connection stays', async t => {
  const fuse = await connect(t, { requestQueues: 2 })
  for (let boot = 0; boot < 3; boot++) {
    const walking = walkTree(fuse).catch((error: unknown) => error)
    await fuse.frontend.reboot()
    await walking
    await fuse.init()
    await seesAll(t, fuse, `boot ${boot}`)
  }
})

t.test('a VMM that lost the connection goes on where it was, without INIT', async t => {
  const fuse = await connect(t)
  await seesAll(t, fuse, 'before')
  for (let turn = 0; turn < 3; turn++) {
    await fuse.frontend.reconnect()
    await seesAll(t, fuse, `after reconnect ${turn}`)
  }
})

t.test('memory that is added later is used, and taken away again', async t => {
  for (const memory of ['slots', 'table'] as const) {
    const fuse = await connect(t, { memory })
    const { frontend } = fuse
    const more = { gpa: 128 * MIB, size: 32 * MIB, file: 1, offset: 0 }
    // Nothing is left of the old memory, so every buffer comes from the new.
    for (let size = 32 * MIB; size >= 64; size /= 2)
      for (let full = false; !full;)
        try {
          frontend.native.allocate(size, 64)
        } catch {
          full = true
        }
    frontend.mapRegion(more)
    await frontend.announce([more])
    await seesAll(t, fuse, memory)
    await frontend.withdraw(more)
    // The next request lies where no memory is: its ring cannot be believed, which the VMM is told.
    const lost = t.rejects(fuse.statfs(1), { code: 'FRONTEND_CLOSED' })
    while (frontend.native.queue(1).errors === 0) await setImmediate()
    frontend.close()
    await lost
    const next = await connect(t)
    await seesAll(t, next, 'the next guest')
    next.frontend.close()
  }
})
