import t from 'tap'
import { Limiter, MAX_IN_FLIGHT, MAX_PREFETCH } from './limiter.js'

const never = new AbortController().signal

/** Lets everything that can happen without I/O happen. */
const settle = () => new Promise(resolve => setImmediate(resolve))

t.test('one place until the first success, then all of them', async t => {
  const limiter = new Limiter()
  const entered: number[] = []
  for (let i = 0; i < 100; i++) void limiter.enter('demand', never).then(() => entered.push(i))
  await settle()
  t.strictSame(entered, [0])
  limiter.open()
  await settle()
  t.equal(limiter.inFlight, MAX_IN_FLIGHT)
  t.strictSame(
    entered,
    Array.from({ length: MAX_IN_FLIGHT }, (_, i) => i),
    'first come, first served',
  )
  t.equal(limiter.waiting, 100 - MAX_IN_FLIGHT)
})

t.test('demand goes ahead of prefetch, and prefetch leaves places free', async t => {
  const limiter = new Limiter()
  limiter.open()
  const order: string[] = []
  const leave: (() => void)[] = []
  const enter = (priority: 'demand' | 'prefetch') =>
    void limiter.enter(priority, never).then(done => {
      order.push(priority)
      leave.push(done)
    })
  for (let i = 0; i < 40; i++) enter('prefetch')
  await settle()
  t.equal(order.length, MAX_PREFETCH)
  for (let i = 0; i < 40; i++) enter('demand')
  await settle()
  t.equal(order.length, MAX_IN_FLIGHT)
  for (const done of leave.splice(0)) done()
  await settle()
  t.ok(
    order.slice(MAX_IN_FLIGHT, MAX_IN_FLIGHT + 24).every(priority => priority === 'demand'),
    'every demand read that waited came before any prefetch',
  )
})

t.test('who gives up leaves the queue, and no listener behind', async t => {
  const limiter = new Limiter()
  const leave = await limiter.enter('demand', never)
  const abort = new AbortController()
  const waiting = limiter.enter('demand', abort.signal)
  const next = limiter.enter('demand', never)
  abort.abort(new Error('gone'))
  await t.rejects(waiting, { message: 'gone' })
  await t.rejects(limiter.enter('prefetch', abort.signal), { message: 'gone' })
  leave()
  await next
  t.equal(limiter.waiting, 0)
  t.equal(limiter.inFlight, 1)
})
