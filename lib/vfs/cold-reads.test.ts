import t from 'tap'
import { NydusError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { ColdReads, type ColdFetched, type ColdReadsOptions } from './cold-reads.js'
import type { ColdRead } from './filesystem.js'

const ESTALE = -116
const EIO = -5

interface Fetch {
  readonly slot: number
  readonly ref: number
  readonly signal: AbortSignal
  done: (placements?: ColdFetched['placements']) => void
  fail: (error: unknown) => void
}

/** Fetches that end when the test says so. */
function reads(options: Partial<ColdReadsOptions> = {}) {
  const fetches: Fetch[] = []
  const completed: [ticket: number, status: number, extents?: number[]][] = []
  const logged: object[] = []
  let released = 0
  const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: fields => logged.push(fields) }
  const cold = new ColdReads({
    source: {
      fetch: ({ slot, wants }, signal) =>
        new Promise((resolve, reject) => {
          const release = (): void => void released++
          const done = (placements = wants.map(() => undefined) as ColdFetched['placements']): void =>
            resolve({ placements, release })
          fetches.push({ slot, ref: wants[0]?.ref ?? -1, signal, done, fail: reject })
        }),
    },
    complete: (ticket, status, extents) => {
      completed.push(extents === undefined ? [ticket, status] : [ticket, status, [...extents]])
      return ticket >= 0
    },
    log,
    ...options,
  })
  return { cold, fetches, completed, logged, released: () => released }
}

function read(ticket: number, { slot = 1, length = 4096, file = 9 } = {}): ColdRead {
  const extents = Float64Array.of(0, 0, 10, file, 8192, length)
  const wants = [{ extent: 1, blob: 0, ref: ticket, chunkOffset: 100, length }]
  return { ticket, slot, ino: 7, offset: 4000, extents, wants }
}

const settled = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

t.test('data: at its place in the cache, or wherever it was put', async t => {
  const { cold, fetches, completed, released } = reads()
  cold.add([read(1), read(2, { file: 0 })])
  t.match(fetches, [
    { slot: 1, ref: 1 },
    { slot: 1, ref: 2 },
  ])
  fetches[1]?.done([{ fileId: 77, offset: 5000 }])
  await settled()
  fetches[0]?.done()
  await settled()
  t.same(
    completed,
    [
      [2, 0, [0, 0, 10, 77, 5100, 4096]],
      [1, 0],
    ],
    'in the order in which they are ready',
  )
  t.equal(released(), 2)
  t.match(cold.metrics(), { waiting: 0, bytes: 0, completed: 2, failed: 0 })
})

t.test('data that has no place is an error, never zeros', async t => {
  const { cold, fetches, completed, logged, released } = reads()
  cold.add([read(1, { file: 0 })])
  fetches[0]?.done()
  await settled()
  t.same(completed, [[1, EIO]])
  t.match(logged, [{ error: /neither cached nor at hand/ }])
  t.equal(released(), 1)
})

t.test('an error ends its read only, and the log says where', async t => {
  const { cold, fetches, completed, logged } = reads()
  cold.add([read(1), read(2)])
  fetches[0]?.fail(new NydusError('CACHE_DIGEST', 'EIO', 'blob abc, chunk 3: digest differs'))
  await settled()
  t.same(completed, [[1, EIO]])
  t.match(logged, [{ slot: 1, ino: 7, offset: 4000, blob: 0, ref: 1, error: /blob abc, chunk 3/ }])
  fetches[1]?.done()
  await settled()
  t.same(completed, [
    [1, EIO],
    [2, 0],
  ])
})

t.test('a thousand failures are ten lines', async t => {
  const { cold, fetches, completed, logged } = reads()
  cold.add(Array.from({ length: 1000 }, (_, i) => read(i)))
  for (const { fail } of fetches) fail(new Error('backend is down'))
  await settled()
  t.equal(completed.length, 1000)
  t.equal(logged.length, 10)
})

t.test('unmounting ends the reads of that image', async t => {
  const { cold, fetches, completed } = reads()
  cold.add([read(1, { slot: 1 }), read(2, { slot: 2 }), read(3, { slot: 1 })])
  cold.abortSlot(1)
  t.same(completed, [
    [1, ESTALE],
    [3, ESTALE],
  ])
  t.same(
    fetches.map(({ signal }) => signal.aborted),
    [true, false, true],
  )
  fetches[0]?.done()
  fetches[1]?.done()
  fetches[2]?.fail(new Error('aborted'))
  await settled()
  t.same(
    completed,
    [
      [1, ESTALE],
      [3, ESTALE],
      [2, 0],
    ],
    'each is completed once',
  )
})

t.test('the end of the device', async t => {
  const { cold, fetches, completed, logged } = reads({ maxBytes: 4096 })
  cold.add([read(1), read(2), read(-3)])
  t.equal(fetches.length, 1)
  cold.abortAll('the device stops')
  t.same(completed, [
    [1, EIO],
    [2, EIO],
    [-3, EIO],
  ])
  t.equal(logged.length, 2, 'nothing is said of what the guest no longer waits for')
  t.match(cold.metrics(), { waiting: 0, bytes: 0, failed: 2, gone: 1 })
  await settled()
  t.equal(fetches.length, 1)
})

t.test('a deadline for each', t => {
  const { cold, fetches, completed, logged } = reads({ deadlineMs: 20 })
  cold.add([read(1), read(2)])
  fetches[1]?.done()
  const look = setInterval(() => {
    if (completed.length < 2) return
    clearInterval(look)
    t.same(completed, [
      [2, 0],
      [1, EIO],
    ])
    t.match(logged, [{ error: /no data within 0.02 s/ }])
    t.ok(fetches[0]?.signal.aborted)
    t.equal(cold.metrics().bytes, 0, 'what hangs takes no room')
    t.end()
  }, 1)
})

t.test('bounded: bytes under way, and reads that wait', async t => {
  const { cold, fetches, completed } = reads({ maxBytes: 10_000, maxWaiting: 4, deadlineMs: 0 })
  cold.add([read(1), read(2), read(3), read(4), read(5)])
  t.same(
    fetches.map(({ ref }) => ref),
    [1, 2],
  )
  t.same(completed, [[5, EIO]], 'one too many')
  t.match(cold.metrics(), { waiting: 4, bytes: 8192 })
  fetches[0]?.done()
  await settled()
  t.same(
    fetches.map(({ ref }) => ref),
    [1, 2, 3],
  )
  cold.abortSlot(1)
  cold.add([read(6, { length: 1 << 20 })])
  t.equal(fetches.at(-1)?.ref, 6, 'one that is larger than the limit goes alone')
  fetches.at(-1)?.done()
  await settled()
  t.same(completed.at(-1), [6, 0])
})

t.test('how long reads waited', async t => {
  const { cold, fetches } = reads()
  cold.add([read(1)])
  fetches[0]?.done()
  await settled()
  const { latency } = cold.metrics()
  t.equal(latency.length, 7)
  t.equal(
    latency.reduce((sum, count) => sum + count),
    1,
  )
})
