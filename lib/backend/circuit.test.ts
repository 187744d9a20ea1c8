import t from 'tap'
import { ManualClock } from '../base/manual-clock.js'
import { Circuit } from './circuit.js'

const never = new AbortController().signal

async function opened(): Promise<{ clock: ManualClock; circuit: Circuit }> {
  const clock = new ManualClock()
  const circuit = new Circuit(clock, () => 1)
  for (let i = 0; i < 3; i++) (await circuit.enter(never)).gaveUp(new Error('nobody there'))
  return { clock, circuit }
}

t.test('opens after three reads in a row gave up, not before, and not when one was answered', async t => {
  const circuit = new Circuit(new ManualClock(), () => 1)
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 2; i++) (await circuit.enter(never)).gaveUp(new Error('x'))
    t.notOk(circuit.isOpen)
    ;(await circuit.enter(never)).answered()
  }
  for (let i = 0; i < 3; i++) (await circuit.enter(never)).gaveUp(new Error('x'))
  t.ok(circuit.isOpen)
})

t.test('while open, reads fail at once and are told why and how long', async t => {
  const { circuit } = await opened()
  await t.rejects(circuit.enter(never), { code: 'BACKEND_DOWN', message: /in 1000 ms; last: nobody there/ })
  t.throws(() => circuit.check(), { code: 'BACKEND_DOWN' })
})

t.test('one probes, the others wait for its outcome: back', async t => {
  const { clock, circuit } = await opened()
  clock.advance(1000)
  const probe = await circuit.enter(never)
  t.ok(probe.probe)
  const others = [circuit.enter(never), circuit.enter(never)]
  probe.answered()
  for (const pass of await Promise.all(others)) t.notOk(pass.probe)
})

t.test('one probes, the others wait for its outcome: still down, for longer each time', async t => {
  const { clock, circuit } = await opened()
  for (const rest of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    clock.advance(rest - 1)
    await t.rejects(circuit.enter(never), { code: 'BACKEND_DOWN' })
    clock.advance(1)
    const probe = await circuit.enter(never)
    const other = circuit.enter(never)
    probe.gaveUp(new Error('still'))
    await t.rejects(other, { code: 'BACKEND_DOWN' })
  }
})

t.test('a probe whose reader went away is taken over by the next', async t => {
  const { clock, circuit } = await opened()
  clock.advance(1000)
  const probe = await circuit.enter(never)
  const other = circuit.enter(never)
  probe.dropped()
  t.ok((await other).probe)
  const abort = new AbortController()
  const waiting = circuit.enter(abort.signal)
  abort.abort(new Error('gone'))
  await t.rejects(waiting, { message: 'gone' })
})

t.test('an answer to a read that was under way closes it', async t => {
  const clock = new ManualClock()
  const circuit = new Circuit(clock, () => 1)
  const slow = await circuit.enter(never)
  for (let i = 0; i < 3; i++) (await circuit.enter(never)).gaveUp(new Error('x'))
  t.ok(circuit.isOpen)
  slow.answered()
  t.notOk((await circuit.enter(never)).probe)
})
