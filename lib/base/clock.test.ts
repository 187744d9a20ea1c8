import t from 'tap'
import { systemClock } from './clock.js'
import { ManualClock } from './manual-clock.js'

t.test('a sleep ends early when its signal aborts, and leaves no listener behind', async t => {
  const abort = new AbortController()
  const nap = systemClock.sleep(3_600_000, abort.signal)
  abort.abort(new Error('enough'))
  await t.rejects(nap, { message: 'enough' })
  await t.rejects(systemClock.sleep(3_600_000, abort.signal), { message: 'enough' })
  await systemClock.sleep(0, new AbortController().signal)
})

t.test('a cancelled timer does not fire', async t => {
  const fired: string[] = []
  systemClock.after(0, () => fired.push('cancelled'))()
  systemClock.background(0, () => fired.push('cancelled'))()
  await new Promise<void>(resolve => systemClock.after(1, resolve))
  t.strictSame(fired, [])
})

t.test('the manual clock fires timers in order, also those that timers set', async t => {
  const clock = new ManualClock()
  const fired: number[] = []
  clock.after(30, () => fired.push(30))
  clock.after(10, () => {
    fired.push(10)
    clock.after(5, () => fired.push(15))
  })
  clock.advance(20)
  t.strictSame(fired, [10, 15])
  await clock.sleep(10)
  t.strictSame(fired, [10, 15, 30])
  t.strictSame(clock.naps, [10])
  t.equal(clock.pending, 0)
})
