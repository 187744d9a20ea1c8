import t from 'tap'
import type { Priority } from '../backend/backend.js'
import { DEFAULT_LIMITS, FetchQueue, type Queued, type QueuedRiders, type QueueLane } from './fetch-queue.js'

interface Run {
  readonly jobs: readonly Queued[]
  readonly signal: AbortSignal
  /** The backend has answered. */
  readonly read: () => void
  /** Everything is done. */
  readonly end: () => void
}

/** A lane that writes its requests down and leaves it to the test when they end. */
class TestLane implements QueueLane {
  maxGap = 0
  prefetchRequests = Infinity
  readonly runs: Run[] = []
  riderJobs: Queued[] = []
  otherRiders: Queued[][] = []

  riders(_first: Queued, _last: Queued, room: number): QueuedRiders {
    return { along: this.riderJobs, others: room > 0 ? this.otherRiders : [] }
  }

  run(jobs: readonly Queued[], signal: AbortSignal, onRead: () => void): Promise<void> {
    return new Promise(resolve => this.runs.push({ jobs, signal, read: onRead, end: resolve }))
  }

  /** [offset, bytes] of each request so far. */
  get ranges(): [number, number][] {
    return this.runs.map(({ jobs }) => {
      const start = Math.min(...jobs.map(job => job.offset))
      return [start, Math.max(...jobs.map(job => job.offset + job.size)) - start]
    })
  }
}

function job(lane: TestLane, offset: number, size: number, more: Partial<Queued> = {}): Queued {
  return { lane, offset, size, priority: 'demand', mergeSize: 1000, alone: false, waiters: 1, ...more }
}

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

t.test('neighbours become one request, up to the bound and across small gaps', async t => {
  const lane = new TestLane()
  lane.maxGap = 10
  const queue = new FetchQueue()
  for (const [offset, size] of [
    [500, 100],
    [0, 100],
    [110, 100],
    [221, 100],
    [600, 500],
    [1100, 700],
  ] as const)
    queue.submit(job(lane, offset, size))
  t.same(lane.runs, [], 'not before the turn of the event loop is over')
  await turn()
  t.same(lane.ranges, [
    [500, 600],
    [0, 210],
    [221, 100],
    [1100, 700],
  ])
})

t.test('what must be alone is alone', async t => {
  const lane = new TestLane()
  const queue = new FetchQueue()
  queue.submit(job(lane, 0, 10))
  queue.submit(job(lane, 10, 10, { alone: true }))
  queue.submit(job(lane, 20, 10))
  await turn()
  t.same(lane.ranges, [
    [0, 10],
    [10, 10],
    [20, 10],
  ])
})

t.test('two blobs are never one request', async t => {
  const lanes = [new TestLane(), new TestLane()] as const
  const queue = new FetchQueue()
  for (const lane of lanes) queue.submit(job(lane, 0, 10))
  await turn()
  t.same(
    lanes.map(lane => lane.ranges),
    [[[0, 10]], [[0, 10]]],
  )
})

t.test('requests and bytes are bounded; a finished read makes room', async t => {
  const lane = new TestLane()
  const queue = new FetchQueue({ ...DEFAULT_LIMITS, requests: 2, bytes: 250 })
  for (let i = 0; i < 4; i++) queue.submit(job(lane, i * 1000, 100))
  await turn()
  t.same(lane.ranges, [
    [0, 100],
    [1000, 100],
  ])
  lane.runs[0]?.read()
  await turn()
  t.equal(lane.runs.length, 2, 'its bytes are still being decoded')
  t.equal(queue.bytesInFlight, 200)
  lane.runs[0]?.end()
  await turn()
  await turn()
  t.same(lane.ranges.slice(2), [[2000, 100]])
  queue.submit(job(lane, 9000, 999))
  for (const run of lane.runs) run.end()
  for (let i = 0; i < 9; i++) {
    await turn()
    for (const run of lane.runs) run.end()
  }
  t.same(
    lane.ranges.slice(3),
    [
      [3000, 100],
      [9000, 999],
    ],
    'what exceeds the bound by itself goes alone',
  )
  t.equal(queue.bytesInFlight, 0)
  t.equal(queue.requestsInFlight, 0)
})

t.test('more than the queue takes is refused', async t => {
  const lane = new TestLane()
  const queue = new FetchQueue({ ...DEFAULT_LIMITS, waiting: 2 })
  queue.submit(job(lane, 0, 1))
  queue.submit(job(lane, 1000, 1))
  t.throws(() => queue.submit(job(lane, 2000, 1)), { code: 'CACHE_BUSY', errno: 'EIO' })
})

t.test('demand reads overtake prefetch', async t => {
  const lane = new TestLane()
  const queue = new FetchQueue({ ...DEFAULT_LIMITS, requests: 3 })
  const prefetch: Priority = 'prefetch'
  const queued = [0, 1, 2, 3].map(i => job(lane, i * 2000, 10, { priority: prefetch }))
  for (const one of queued) queue.submit(one)
  queue.submit(job(lane, 100_000, 10))
  await turn()
  t.same(
    lane.ranges,
    [
      [100_000, 10],
      [0, 10],
    ],
    'first, and only one prefetch beside it',
  )
  const third = queued[2]
  if (third !== undefined) queue.promote(third)
  await turn()
  t.same(lane.ranges.at(-1), [4000, 10], 'a prefetch that is wanted now goes before the others')
  for (const run of lane.runs) run.end()
  await turn()
  await turn()
  t.same(
    lane.ranges.slice(3),
    [
      [2000, 10],
      [6000, 10],
    ],
    'without demand reads prefetch has the line',
  )
})

t.test('riders fill a demand request, never a prefetch', async t => {
  const lane = new TestLane()
  const queue = new FetchQueue()
  lane.riderJobs = [job(lane, 100, 100, { waiters: 0 })]
  queue.submit(job(lane, 0, 100))
  await turn()
  queue.submit(job(lane, 5000, 100, { priority: 'prefetch' }))
  await turn()
  t.same(lane.ranges, [
    [0, 200],
    [5000, 100],
  ])
})

t.test('riders have requests of their own where one demand read waits, and half of all room', async t => {
  const lane = new TestLane()
  const queue = new FetchQueue({ ...DEFAULT_LIMITS, bytes: 2000 })
  lane.otherRiders = [[job(lane, 100, 300, { waiters: 0 })], [job(lane, 9000, 50, { waiters: 0 })]]
  queue.submit(job(lane, 0, 100))
  await turn()
  t.same(lane.ranges, [
    [0, 100],
    [100, 300],
    [9000, 50],
  ])
  t.equal(queue.requestsInFlight, 3)
  queue.submit(job(lane, 4000, 10, { priority: 'prefetch' }))
  lane.otherRiders = [[job(lane, 9500, 50, { waiters: 0 })]]
  queue.submit(job(lane, 5000, 100))
  await turn()
  t.same(lane.ranges.slice(3), [
    [5000, 100],
    [9500, 50],
    [4000, 10],
  ])
  lane.otherRiders = [[job(lane, 9700, 50, { waiters: 0 })]]
  queue.submit(job(lane, 6000, 100))
  await turn()
  t.same(lane.ranges.slice(6), [[6000, 100]], 'two demand reads are waited for: nothing more')
  for (const run of lane.runs) run.end()
  await turn()
  queue.submit(job(lane, 0, 1000))
  await turn()
  t.same(
    lane.ranges.slice(7),
    [
      [0, 1000],
      [9700, 50],
    ],
    'before it, there was room',
  )
  for (const run of lane.runs) run.end()
  await turn()
  t.equal(queue.requestsInFlight, 0)
})

t.test('requests that nobody waits for end with their user, others do not', async t => {
  const [lane, other] = [new TestLane(), new TestLane()]
  const queue = new FetchQueue()
  lane.otherRiders = [[job(lane, 100, 300, { waiters: 0 })]]
  queue.submit(job(lane, 0, 100))
  queue.submit(job(other, 0, 100, { waiters: 0 }))
  await turn()
  queue.dropUnawaited(lane)
  t.same(
    [...lane.runs, ...other.runs].map(run => run.signal.aborted),
    [false, true, false],
  )
})

t.test('abandoned: taken out of the line, or aborted when nobody of its request waits', async t => {
  const lane = new TestLane()
  const queue = new FetchQueue({ ...DEFAULT_LIMITS, requests: 1 })
  const [first, second, later] = [job(lane, 0, 10), job(lane, 10, 10), job(lane, 5000, 10)]
  for (const one of [first, second, later]) queue.submit(one)
  await turn()
  t.same(queue.abandon(later), [later])
  const run = lane.runs[0]
  t.same(queue.abandon(first), [], 'somebody waits for its neighbour')
  t.notOk(run?.signal.aborted)
  for (const one of [first, second]) Object.assign(one, { waiters: 0 })
  t.same(queue.abandon(second), [first, second])
  t.ok(run?.signal.aborted)
  run?.end()
  await turn()
  t.equal(lane.runs.length, 1)
})
