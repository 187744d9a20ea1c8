import { mock } from 'node:test'
import t from 'tap'
import type { Log } from '../base/log.js'
import type { ColdRead } from '../vfs/filesystem.js'
import { Lanes, type LanesOptions } from './lanes.js'
import { stopScriptedLanes, type Act, type Script } from './testing/scripted-lane.js'

const entry = new URL(
  import.meta.url.endsWith('.ts') ? './testing/scripted-lane.ts' : './testing/scripted-lane.js',
  import.meta.url,
)
let devices = 0
/** The default of LanesOptions.patienceMs. */
const PATIENCE_MS = 30_000

function start(options: Partial<LanesOptions<Script>> = {}, begin = (lanes: Lanes<Script>) => lanes.start()) {
  const id = ++devices
  const logged: [fields: object, message: string][] = []
  const cold: ColdRead[] = []
  let snapshots = 0
  let current = 0
  const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: (...of) => logged.push(of) }
  const lanes = new Lanes<Script>({
    device: { id, wakeLanes: () => undefined, stop: () => stopScriptedLanes(id) },
    lanes: 2,
    entry,
    fixedMounts: false,
    snapshot: () => {
      snapshots++
      return { version: current, acts: [] }
    },
    onColdReads: reads => cold.push(...reads),
    quit: () => undefined,
    log,
    ...options,
  })
  begin(lanes)
  const send = (...acts: (Act | undefined)[]) => {
    current++
    return lanes.broadcast({ version: current, acts })
  }
  return { lanes, send, logged, cold, snapshots: () => snapshots }
}

t.test('a change is done when all lanes say so', async t => {
  const { lanes, send, logged } = start()
  t.same(await send(), [])
  t.same(await Promise.all([send(), send()]), [[], []])
  const failures = await send(undefined, 'fail')
  t.match(failures, [{ slot: 1, code: 'VFS_OPEN', message: 'no' }])
  t.match(logged, [[{ lane: 1, error: 'no' }, /cannot open/]])
  await lanes.stop()
  t.same(await send(), [], 'after the end there is nobody to tell')
})

t.test('lanes wait for the mounts that a guest shall see first', async t => {
  const { lanes, send, logged, snapshots } = start({}, lanes => lanes.boot())
  t.same(await send(undefined, 'throw'), [], 'there is nobody to tell yet')
  t.equal(snapshots(), 0)
  lanes.start()
  t.equal(snapshots(), 2)
  t.match(await send(undefined, 'fail'), [{ slot: 1 }])
  t.equal(logged.length, 1)
  await lanes.stop()
})

t.test('an end before the mounts are there', async t => {
  const { lanes, logged, snapshots } = start({}, lanes => lanes.boot())
  await lanes.stop()
  t.equal(snapshots(), 0)
  t.same(logged, [])
})

t.test('what lanes report', async t => {
  const { lanes, send, logged, cold } = start({ lanes: 1 })
  await send('cold')
  t.match(cold, [{ ticket: 5, slot: 1, ino: 2, offset: 0, wants: [] }])
  t.same([...(cold[0]?.extents ?? [])], [9, 4096, 100])
  await send('exception')
  t.match(logged, [[{ lane: 0, opcode: 1, count: 2, error: 'bad' }, /EIO/]])
  await lanes.stop()
})

t.test('a lane that dies is replaced, and the change that it died of is not lost', async t => {
  const { lanes, send, logged, snapshots } = start()
  await send()
  t.equal(snapshots(), 2)
  t.same(await send(undefined, 'throw'), [], 'its replacement starts with all mounts')
  t.equal(snapshots(), 3)
  t.match(logged, [[{ lane: 1, error: 'lane 1 was told to' }, /replaced/]])
  t.same(await send('exit'), [])
  t.match(logged.slice(1), [[{ lane: 0, error: 'exit code 3' }, /replaced/]])
  t.same(await send(), [])
  await lanes.stop()
})

/** Waits for something that other threads do, while timers stand still. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(resolve => setImmediate(resolve))
}

t.test('a lane that keeps dying is replaced more and more slowly', async t => {
  const { lanes, send, logged, snapshots } = start({ lanes: 1 })
  await send()
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  for (const [deaths, pause] of [0, 100, 200].entries()) {
    const sent = send('throw')
    await until(() => logged.length === deaths + 1)
    if (pause > 0) mock.timers.tick(pause - 1)
    t.equal(snapshots(), deaths + 1, 'not before the pause is over')
    mock.timers.tick(1)
    t.equal(snapshots(), deaths + 2)
    t.same(await sent, [])
  }
  await lanes.stop()
})

t.test('a lane that does not answer', async t => {
  const { lanes, send, cold } = start()
  await send()
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const sent = send('cold', 'ignore')
  const late = t.rejects(sent, {
    code: 'FUSE_LANE_LATE',
    message: /lane (0, )?1 did not take over .* within 30 s/,
  })
  // Lane 0 says so before it acknowledges, so what it says next is that.
  await until(() => cold.length > 0)
  await new Promise(resolve => setImmediate(resolve))
  mock.timers.tick(PATIENCE_MS)
  await late
  await lanes.stop()
})

t.test('a lane that cannot start', async t => {
  const { lanes, send, logged } = start({ lanes: 1, entry: new URL('file:///nowhere/lane.js') })
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const sent = t.rejects(send(), { code: 'FUSE_LANE_LATE', cause: { message: /nowhere/ } })
  await until(() => logged.length > 0)
  mock.timers.tick(PATIENCE_MS)
  await sent
  await lanes.stop()
})

t.test('an end that is asked for while a lane is being replaced', async t => {
  const { lanes, send } = start({ lanes: 1 })
  await send()
  await send('throw')
  const died = send('throw')
  await lanes.stop()
  t.same(await died, [])
})

t.test('a lane that does not end is cut off', async t => {
  const { lanes, send, logged } = start({
    lanes: 1,
    device: { id: -1, wakeLanes: () => undefined, stop: () => undefined },
  })
  await send()
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const stopped = lanes.stop()
  mock.timers.tick(PATIENCE_MS)
  await stopped
  t.equal(logged.length, 1)
})

t.test('the process can exit while lanes run', async t => {
  const before = new Set(process.listeners('exit'))
  let quits = 0
  const { lanes, send } = start({ lanes: 1, quit: () => quits++ })
  const added = process.listeners('exit').filter(listener => !before.has(listener))
  t.equal(added.length, 1)
  added[0]?.(0)
  t.equal(quits, 1, 'the addon is told to wake the lanes')
  await send()
  await lanes.stop()
  t.same(process.listeners('exit'), [...before])
})
