import t from 'tap'
import type { BlobLane } from './blob-lane.js'
import { Job } from './job.js'
import { riders } from './riders.js'
import type { Unit } from './unit.js'

const SIZE = 10
const COUNT = 1000

/** 1000 units of 10 bytes, one behind the other unless `offsets` says otherwise; `stored` are there. */
function rig(amplify: number, stored: readonly number[] = [], offsets = (index: number) => index * SIZE) {
  const underWay = new Set<Job>()
  const lane = {
    amplify,
    maxGap: 4,
    queue: { isUnderWay: (job: Job) => underWay.has(job) },
  } as unknown as BlobLane
  const jobs = new Map<number, Job>()
  const unit = (index: number, more: Partial<Unit> = {}): Unit => ({
    key: index,
    offset: offsets(index),
    size: SIZE,
    compressed: false,
    encrypted: false,
    outputSize: SIZE,
    members: [{ index, at: 0, size: SIZE, uncompressedOffset: index * SIZE }],
    ...more,
  })
  const table = {
    count: COUNT,
    unit: (index: number) => unit(index),
    unitKey: (index: number) => index,
    after: (of: Unit) => of.key + 1,
    before: (of: Unit) => of.key - 1,
  }
  const job = (index: number, more: Partial<Unit> = {}): Job =>
    new Job(lane, unit(index, more), { priority: 'demand', mergeSize: 1000 })
  const source = { table, jobs, isStored: (index: number) => stored.includes(index) }
  const found = (first: number, last = first): number[] =>
    riders(source, job(first), job(last))
      .map(({ unit: { key } }) => key)
      .toSorted((a, b) => a - b)
  return { found, jobs, job, underWay }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i)
}

t.test('most of the room lies ahead, some behind, and all together stays below amplify', async t => {
  t.same(rig(200).found(500), [499, ...range(501, 516)])
  t.same(rig(200).found(500, 510), [499, ...range(511, 516)], 'room that the request takes itself counts')
  t.same(rig(200).found(500, 530), [], 'a long request needs nothing')
})

t.test('where what lies ahead is there, the room is used behind', async t => {
  t.same(rig(200, [503]).found(500), [...range(486, 500), 501, 502])
  t.same(rig(200, [501, 499]).found(500), [])
})

t.test('the ends of the blob', async t => {
  t.same(rig(200).found(0), range(1, 16))
  t.same(rig(200).found(COUNT - 1), range(COUNT - 17, COUNT - 1))
})

t.test('small gaps are read along and take room, larger ones end it', async t => {
  const spread = rig(200, [], index => index * (SIZE + 4))
  t.same(spread.found(500), [499, ...range(501, 511)])
  const apart = rig(200, [], index => index * SIZE + (index > 502 ? 5 : 0) - (index < 500 ? 5 : 0))
  t.same(apart.found(500), [501, 502])
})

t.test('units on their way: one that waits comes along, one that is fetched ends it', async t => {
  const { found, jobs, job, underWay } = rig(200)
  const [waiting, running] = [job(501), job(504)]
  jobs.set(501, waiting).set(504, running)
  underWay.add(running)
  t.same(found(500), [...range(487, 500), ...range(501, 504)])
})

t.test('a unit that must be read alone stays alone', async t => {
  const { found, jobs, job } = rig(200)
  jobs.set(501, job(501, { open: true }))
  t.same(found(500), range(484, 500))
})
