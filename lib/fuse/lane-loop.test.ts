import { MessageChannel } from 'node:worker_threads'
import t from 'tap'
import type { MountChange } from '../vfs/changes.js'
import { MemoryFs, type MemoryImage } from '../vfs/testing/memory-fs.js'
import { Vfs } from '../vfs/vfs.js'
import { OP } from './abi.js'
import { newCounters, stripeOf } from './counters.js'
import { coldReads } from './deferrals.js'
import { Lane } from './lane.js'
import { received, type LaneReport } from './lane-messages.js'
import { FakeRing, type Request } from './testing/fake-ring.js'

const SLOT_1 = 2 ** 37

function mountAt(version: number, root: MemoryImage['root'], unopenable?: string): MountChange<MemoryImage> {
  const image = { root, file: 1, ...(unopenable !== undefined && { unopenable }) }
  const folder = { ino: 2, parent: 1, name: Buffer.from('i'), mtime: 0, mtimeNs: 0, slot: 1 }
  const opened = { slot: 1, generation: 1, volume: 1, folder: 2, image, counters: newCounters(1) }
  return { version, opened: [opened], folders: [folder], gone: [], closed: [] }
}

/** A lane whose turns the test plays: each gets what the lane has reported so far and says what comes next. */
function play(
  turns: ((
    reports: LaneReport[],
    ring: FakeRing,
    post: (change: unknown) => void,
  ) => Request[] | 'mail' | 'end')[],
  first?: MountChange<MemoryImage>,
): void {
  const ring = new FakeRing()
  const { port1, port2 } = new MessageChannel()
  const tree = new Vfs<MemoryImage>(
    image => new MemoryFs(image),
    opened => stripeOf(opened.counters, 0),
    stripeOf(newCounters(1), 0),
  )
  let expected = 0
  const turn = (completed: number): number => {
    t.equal(completed, expected, 'completes exactly what it was given')
    const reports = [...received<LaneReport>(port1)]
    const next = turns.shift()?.(reports, ring, change => port1.postMessage(change)) ?? 'end'
    expected = next === 'mail' || next === 'end' ? 0 : next.length
    if (next === 'end') return -1
    if (next === 'mail') return 0
    next.forEach((request, index) => ring.fill(index, request))
    return next.length
  }
  new Lane({ turn }, ring.memory, tree, { port: port2, offered: new SharedArrayBuffer(4) }).run(first)
  t.equal(turns.length, 0)
  port1.close()
}

const text = 'x'.repeat(5000)

t.test('mounts come between batches', async t => {
  const root = { f: { text: 'f' } }
  play(
    [
      reports => {
        t.same(
          reports,
          [{ kind: 'applied', version: 1, failures: [] }],
          'what it starts with, before the first turn',
        )
        return [
          { opcode: OP.LOOKUP, name: 'i' },
          { opcode: OP.LOOKUP, name: 'j' },
        ]
      },
      (reports, ring, post) => {
        t.same(reports, [])
        t.match([ring.reply(0), ring.reply(1)], [{ status: 0 }, { status: -2 }])
        post({
          version: 2,
          opened: [],
          folders: [{ ino: 1, parent: 1, name: Buffer.alloc(0), mtime: 0, mtimeNs: 0, slot: 0 }],
          gone: [2],
          closed: [1],
        })
        return [{ opcode: OP.LOOKUP, name: 'i' }]
      },
      (reports, ring) => {
        t.match(ring.reply(0), { status: 0 }, 'a batch is answered from one state of the mounts')
        t.same(reports, [])
        return 'mail'
      },
      reports => {
        t.match(reports, [{ kind: 'applied', version: 2 }])
        return [{ opcode: OP.LOOKUP, name: 'i' }]
      },
      (_reports, ring) => {
        t.equal(ring.reply(0).status, -2)
        return 'end'
      },
    ],
    mountAt(1, root),
  )
})

t.test('deferred reads are reported after the batch was handed over, in one message', async t => {
  const read = { opcode: OP.READ, nodeid: SLOT_1 + 6, size: 4096 }
  play(
    [
      () => [
        { ...read, ticket: 10 },
        { ...read, ticket: 11, offset: 4096 },
        { opcode: OP.GETATTR, nodeid: 1 },
      ],
      (reports, ring) => {
        t.same(
          [0, 1, 2].map(i => ring.reply(i).kind),
          ['deferred', 'deferred', 'inline'],
        )
        t.same(reports, [], 'while the addon does not know the tickets, nobody is told of them')
        return 'mail'
      },
      reports => {
        t.equal(reports.length, 1)
        const [report] = reports
        if (report?.kind !== 'cold') throw new Error('no cold reads')
        t.match(coldReads(report.numbers), [
          { ticket: 10, slot: 1, ino: 6, offset: 0, wants: [{ chunkOffset: 0, length: 4096 }] },
          { ticket: 11, slot: 1, ino: 6, offset: 4096, wants: [{ chunkOffset: 0, length: 904 }] },
        ])
        return [{ ...read, ticket: 12 }]
      },
      reports => {
        t.same(reports, [])
        return [{ opcode: OP.GETATTR, nodeid: 1 }]
      },
      reports => {
        t.match(reports, [{ kind: 'cold' }], 'also when the next turn brings requests at once')
        return 'end'
      },
    ],
    mountAt(1, { f: { text, cold: true } }),
  )
})

t.test('an image that cannot be opened is reported, and the rest served', async t => {
  play(
    [
      reports => {
        t.match(reports, [{ version: 7, failures: [{ slot: 1, errno: 'EIO', message: 'cannot map it' }] }])
        return [
          { opcode: OP.GETATTR, nodeid: 1 },
          { opcode: OP.GETATTR, nodeid: SLOT_1 + 5 },
        ]
      },
      (_reports, ring) => {
        t.match([ring.reply(0).status, ring.reply(1).status], [0, -116])
        return 'end'
      },
    ],
    mountAt(7, {}, 'cannot map it'),
  )
})

t.test('exceptions are reported once a second', async t => {
  const bad = { opcode: OP.GETATTR, nodeid: SLOT_1 + 6 }
  play(
    [
      () => [bad, bad, bad],
      (reports, ring) => {
        t.same(
          [0, 1, 2].map(i => ring.reply(i).status),
          [-5, -5, -5],
        )
        t.match(reports, [
          {
            kind: 'exception',
            opcode: OP.GETATTR,
            nodeid: SLOT_1 + 6,
            count: 1,
            message: /inode 6 is damaged/,
          },
        ])
        t.equal(reports.length, 1)
        return 'end'
      },
    ],
    mountAt(1, { f: { text: '', broken: true } }),
  )
})
