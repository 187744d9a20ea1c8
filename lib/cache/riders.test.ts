import t from 'tap'
import type { BlobLane } from './blob-lane.js'
import { Job } from './job.js'
import { Misses, riders } from './riders.js'
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
  const source = { table, jobs, misses: new Misses(), isStored: (index: number) => stored.includes(index) }
  const keys = (list: readonly Job[]): number[] =>
    list.map(({ unit: { key } }) => key).toSorted((a, b) => a - b)
  /** What comes along in the same request, with `room` in the others. */
  const all = (first: number, last = first, room = 0) => {
    const { along, others } = riders(source, job(first), job(last), room)
    return { along: keys(along), others: others.map(keys) }
  }
  const found = (first: number, last = first): number[] => all(first, last).along
  return { found, all, jobs, job, underWay }
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

t.test('where guests have missed much, more is asked for on both sides', async t => {
  const { all } = rig(200)
  const alone = { along: [499, ...range(501, 512)], others: [] }
  t.same(all(500, 500, 1000), alone, 'fewer come along where there may be others')
  all(600, 600, 1000)
  t.same(all(500, 500, 1000), alone, 'a second miss is not much yet')
  all(400, 400, 1000)
  t.same(all(500, 500, 1000), { ...alone, others: [range(512, 532), range(479, 499)] })
  t.same(
    all(500, 500, 100),
    { ...alone, others: [range(512, 517), range(494, 499)] },
    'no more than there is room for',
  )
  t.same(all(500), { along: [499, ...range(501, 516)], others: [] }, 'without room more comes along')
  t.same(all(800, 800, 1000).others, [], 'far away nothing was missed yet')
  for (let i = 0; i < 16; i++) all(900 + i, 900 + i, 1000)
  t.same(all(500, 500, 1000), alone, 'misses of long ago do not count')
})

t.test(
  'others go on where what comes along ends, and end where something is there or on its way',
  async t => {
    const { all, jobs, job, underWay } = rig(200, [515])
    const running = job(495)
    jobs.set(495, running)
    underWay.add(running)
    for (let i = 0; i < 3; i++) all(500, 500, 1000)
    t.same(all(500, 500, 1000).others, [range(512, 515), range(496, 499)])
    const ends = rig(200)
    for (let i = 0; i < 3; i++) ends.all(0, 0, 1000)
    t.same(ends.all(0, 0, 1000).others, [range(12, 32)], 'nothing lies before the first')
  },
)
