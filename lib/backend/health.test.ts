import t from 'tap'
import { ManualClock } from '../base/manual-clock.js'
import { Health } from './health.js'

/** Lets a ping's promise settle. */
const settle = () => new Promise(resolve => setImmediate(resolve))

function rig(ping?: () => Promise<boolean>) {
  const clock = new ManualClock()
  const changes: string[] = []
  const health = new Health(clock, {
    failureLimit: 3,
    intervalMs: 5000,
    pauseMs: 60_000,
    ...(ping !== undefined && { ping }),
    onChange: (healthy, why) => changes.push(`${healthy}: ${why}`),
  })
  return { clock, changes, health }
}

t.test('without a ping: left alone after failures in a row, tried by one request per interval', async t => {
  const { clock, changes, health } = rig()
  for (let i = 0; i < 5; i++) {
    health.failed('a')
    health.failed('a')
    health.succeeded()
  }
  t.ok(health.use())
  for (let i = 0; i < 3; i++) health.failed('refused')
  t.notOk(health.use())
  clock.advance(5000)
  t.ok(health.use(), 'one trial')
  t.notOk(health.use(), 'one only')
  health.failed('refused')
  clock.advance(5000)
  t.ok(health.use())
  health.succeeded()
  t.ok(health.use())
  t.ok(health.use())
  t.strictSame(changes, ['false: refused', 'true: it answers again'])
})

t.test('with a ping: it comes back when the ping says so, and requests do not try', async t => {
  let fine = false
  let pings = 0
  const { clock, health } = rig(async () => {
    pings++
    return fine
  })
  t.ok(health.use())
  for (let i = 0; i < 3; i++) health.failed('refused')
  clock.advance(5000)
  await settle()
  t.equal(pings, 1)
  t.notOk(health.use())
  fine = true
  clock.advance(5000)
  await settle()
  t.ok(health.use())
  health.close()
})

t.test('a ping that fails or throws takes it out before a request finds out', async t => {
  const { clock, health } = rig(async () => {
    throw new Error('refused')
  })
  for (let i = 0; i < 3; i++) {
    t.ok(health.use())
    clock.advance(5000)
    await settle()
  }
  t.notOk(health.use())
  health.close()
  t.equal(clock.pending, 0)
})

t.test('an idle daemon does not ping; the next request resumes it', async t => {
  let pings = 0
  const { clock, health } = rig(async () => {
    pings++
    return true
  })
  clock.advance(3600_000)
  t.equal(pings, 0, 'not before the first request')
  health.use()
  for (let i = 0; i < 1000; i++) {
    clock.advance(5000)
    await settle()
  }
  t.equal(pings, 12, '60 s of pings, then silence')
  t.equal(clock.pending, 0)
  health.use()
  clock.advance(5000)
  await settle()
  t.equal(pings, 13)
  health.close()
  clock.advance(3600_000)
  t.equal(pings, 13)
})
