import t from 'tap'
import { LogLimit } from './log-limit.js'

t.test('a burst passes, the rest of the interval is counted', async t => {
  let now = 0
  const limit = new LogLimit(2, 100, () => now)
  t.same([limit.pass(), limit.pass(), limit.pass(), limit.pass()], [0, 0, -1, -1])
  now = 99
  t.equal(limit.pass(), -1)
  now = 100
  t.equal(limit.pass(), 3, 'the first of the next interval says what was held back')
  t.equal(limit.pass(), 0)
})
