import t from 'tap'
import { NydusError } from '../base/errors.js'
import type { MountChange } from './changes.js'
import { FLEETING_MS } from './filesystem.js'
import { FolderTree } from './folder-tree.js'
import { mountComponents, mountPath } from './mount-path.js'
import { MountTable, type LaneComplaint, type MountTableOptions } from './mount-table.js'
import { Slots } from './slots.js'
import { newCounters } from '../fuse/counters.js'

type Change = MountChange<string>

const counters = newCounters(1)

/** A table with lanes that do what the test says. */
function table(options: Partial<MountTableOptions<string>> = {}) {
  const changes: Change[] = []
  const released: string[] = []
  const errors: unknown[] = []
  const counts = new Map<number, number>()
  let complaint: LaneComplaint | undefined
  const made = new MountTable<string>({
    lanes: {
      broadcast: change => {
        changes.push(change)
        const complaints = complaint === undefined || change.opened.length === 0 ? [] : [complaint]
        return Promise.resolve(complaints)
      },
    },
    lookupCount: slot => counts.get(slot) ?? 0,
    newCounters: () => newCounters(1),
    onClosed: () => undefined,
    sleep: () => Promise.resolve(),
    onError: error => errors.push(error),
    ...options,
  })
  const source = (image: string) => ({ image, release: async () => void released.push(image) })
  const complain = (about: LaneComplaint | undefined) => (complaint = about)
  return { table: made, changes, released, errors, counts, source, complain }
}

t.test('paths', async t => {
  const good: [string, string[]][] = [
    ['/', []],
    ['//', []],
    ['/a', ['a']],
    ['/a/b/', ['a', 'b']],
    ['/./a/./b', ['a', 'b']],
    ['/…/ü', ['…', 'ü']],
    [`/${'n'.repeat(255)}`, ['n'.repeat(255)]],
  ]
  for (const [path, components] of good) t.same(mountComponents(path), components, path)
  t.equal(mountPath(['a', 'b']), '/a/b')
  const bad: [string, RegExp][] = [
    ['', /must be an absolute path/],
    ['a', /must be an absolute path/],
    ['/a/../b', /must not contain '..'/],
    [`/${'ü'.repeat(128)}`, /longer than 255 bytes/],
    ['/a'.repeat(2048), /longer than 4095 bytes/],
    ['/a\0b', /NUL/],
  ]
  for (const [path, message] of bad)
    t.throws(() => mountComponents(path), { code: 'VFS_PATH_INVALID', message }, JSON.stringify(path))
})

t.test('errors change nothing', async t => {
  const { table: mounts, changes, source, released } = table()
  await mounts.mount('/a', source('A'))
  const before = changes.length
  await t.rejects(mounts.mount('/a', source('B')), { code: 'VFS_MOUNTED', errno: 'EEXIST', message: /\/a/ })
  await t.rejects(mounts.mount('/a/', source('B')), { code: 'VFS_MOUNTED' })
  await t.rejects(mounts.mount('b', source('B')), { code: 'VFS_PATH_INVALID' })
  await t.rejects(mounts.unmount('/b'), { code: 'VFS_NOT_MOUNTED', errno: 'ENOENT', message: /\/b/ })
  await t.rejects(mounts.unmount('/a/b'), { code: 'VFS_NOT_MOUNTED' })
  await t.rejects(mounts.remount('/b', source('B')), { code: 'VFS_NOT_MOUNTED' })
  t.equal(changes.length, before)
  t.same(released, [])
  t.match(mounts.find('/a/'), { path: '/a', image: 'A', slot: 1 })
  t.equal(mounts.find('/b'), undefined)
})

t.test('an image that a lane cannot open is not mounted', async t => {
  const { table: mounts, changes, source, released, complain } = table()
  await mounts.mount('/a', source('A'))
  complain({ slot: 2, code: 'RAFS_BAD_MAGIC', errno: 'EINVAL', message: 'not a bootstrap' })
  await t.rejects(mounts.mount('/x/y', source('B')), {
    code: 'RAFS_BAD_MAGIC',
    errno: 'EINVAL',
    message: 'not a bootstrap',
  })
  t.match(changes.at(-1), { closed: [2], gone: [4, 3] }, 'its slot and its folders are taken back')
  await t.rejects(mounts.remount('/a', source('B')), { code: 'RAFS_BAD_MAGIC' })
  t.match(changes.at(-1)?.folders, [{ slot: 1 }], 'the old image is back in its place')
  complain(undefined)
  t.match(mounts.list(), [{ path: '/a', image: 'A', slot: 1 }])
  t.same(released, [], 'the sources are still the caller’s')
  await mounts.mount('/x/y', source('B'))
  await mounts.close()
  t.same(released, ['A', 'B'])
  t.same(mounts.list(), [])
})

t.test('one change after the other, whoever calls', async t => {
  const sent: number[] = []
  const waiting: (() => void)[] = []
  const { table: mounts, source } = table({
    lanes: {
      broadcast: change => {
        sent.push(change.version)
        return new Promise(resolve => waiting.push(() => resolve([])))
      },
    },
  })
  const calls = ['/a', '/b', '/c'].map(path => mounts.mount(path, source(path)))
  for (let version = 1; version <= 3; version++) {
    while (waiting.length === 0) await new Promise(resolve => setImmediate(resolve))
    t.equal(sent.at(-1), version)
    t.equal(waiting.length, 1, 'the next waits for the lanes to have this one')
    waiting.pop()?.()
  }
  t.same(await Promise.all(calls), [1, 2, 3])
})

t.test('lanes that do not answer', async t => {
  const late = new NydusError('FUSE_LANE_LATE', 'ETIMEDOUT', 'late')
  let failing = false
  const {
    table: mounts,
    source,
    released,
    errors,
  } = table({
    lanes: { broadcast: () => (failing ? Promise.reject(late) : Promise.resolve([])) },
  })
  await mounts.mount('/a', source('A'))
  failing = true
  await t.rejects(mounts.mount('/b', source('B')), late)
  t.same(errors, [late], 'taking it back failed as well')
  await t.rejects(mounts.unmount('/a'), late)
  t.same(released, ['A'], 'and yet the image is let go')
  t.same(mounts.list(), [])
})

t.test('a snapshot holds all, in an order that can be applied', async t => {
  const { table: mounts, source } = table()
  await mounts.mount('/a/b', source('A'))
  await mounts.mount('/a', source('B'))
  await mounts.mount('/z', source('C'))
  await mounts.unmount('/z')
  const { version, opened, folders, gone, closed } = mounts.snapshot()
  t.equal(version, 4)
  t.same(
    opened.map(({ slot, image }) => [slot, image]),
    [
      [1, 'A'],
      [2, 'B'],
    ],
  )
  t.same(
    folders.map(({ ino, parent, slot }) => [ino, parent, slot]),
    [
      [1, 1, 0],
      [2, 1, 2],
      [3, 2, 1],
    ],
  )
  t.same([gone, closed], [[], []])
})

t.test('slots: fresh ones first, then the longest free that no guest refers to', async t => {
  const held = new Set<number>()
  const slots = new Slots(slot => (held.has(slot) ? 1 : 0), 4)
  t.same([slots.allocate(), slots.allocate(), slots.allocate()], [1, 2, 3])
  slots.free(2)
  slots.free(1)
  t.equal(slots.allocate(), 4, 'not one that was used')
  held.add(2)
  t.equal(slots.allocate(), 1)
  t.throws(() => slots.allocate(), { code: 'VFS_SLOTS_EXHAUSTED', errno: 'ENOSPC' })
  held.delete(2)
  t.equal(slots.allocate(), 2)
})

t.test('no slot left: the mount fails, the others stay', async t => {
  const { table: mounts, source, counts } = table({ slotLimit: 2 })
  await mounts.mount('/a', source('A'))
  counts.set(1, 1)
  await t.rejects(
    mounts.remount('/a', source('B')).then(() => mounts.mount('/b', source('C'))),
    { code: 'VFS_SLOTS_EXHAUSTED' },
  )
  t.match(mounts.list(), [{ path: '/a', image: 'B', slot: 2 }])
  counts.set(1, 0)
  await mounts.unmount('/a')
  t.equal(await mounts.mount('/b', source('C')), 2)
})

t.test('70,000 mounts, one after the other and side by side', async t => {
  const inos = new Set<number>()
  let largest = 0
  const {
    table: mounts,
    source,
    counts,
  } = table({
    newCounters: () => counters,
    lanes: {
      broadcast: ({ folders, gone }) => {
        for (const ino of gone) inos.add(ino)
        largest = Math.max(largest, folders.length)
        return Promise.resolve([])
      },
    },
  })
  for (let i = 0; i < 65_535; i++) {
    const slot = await mounts.mount('/m', source('M'))
    if (slot !== i + 1) t.equal(slot, i + 1)
    await mounts.unmount('/m')
  }
  counts.set(1, 1)
  counts.set(2, 1)
  t.equal(await mounts.mount('/m', source('M')), 3, 'the slots that a guest refers to are left out')
  await mounts.unmount('/m')
  t.equal(inos.size, 65_536, 'an inode number is never used twice')
  for (let i = 0; i < 4_465; i++) await mounts.mount(`/side/${i}`, source('S'))
  t.equal(new Set(mounts.list().map(({ slot }) => slot)).size, 4_465)
  t.equal(largest, 3, 'a change is as large as what it changes')
})

t.test('who waits until a guest cannot have it cached any more', async t => {
  const slept: number[] = []
  const { table: mounts, source, counts } = table({ sleep: async ms => void slept.push(ms) })
  const took = async (work: Promise<unknown>) => (await work, slept.splice(0))
  t.same(await took(mounts.mount('/p/a', source('A'))), [], 'a name that was not there was never cached')
  t.same(await took(mounts.unmount('/p/a')), [], 'nobody looked')
  await mounts.mount('/p/a', source('A'))
  counts.set(2, 1)
  t.same(await took(mounts.remount('/p/a', source('B'))), [FLEETING_MS])
  counts.set(0, 1)
  t.same(await took(mounts.mount('/p', source('C'))), [FLEETING_MS], 'over a folder that was seen')
  t.same(await took(mounts.unmount('/p/a')), [FLEETING_MS])
})

t.test('times of folders move forward, whatever the clock does', async t => {
  let now = 1_700_000_000_999
  const tree = new FolderTree(() => now)
  const times: bigint[] = []
  for (const path of ['a', 'b', 'c', 'd']) {
    if (path === 'c') now -= 5000
    if (path === 'd') now += 10_000
    tree.reach([path])
    const [root] = tree.take().folders
    times.push(BigInt(root?.mtime ?? 0) * 1_000_000_000n + BigInt(root?.mtimeNs ?? 0))
  }
  t.ok(
    times.every((time, i) => i === 0 || time > (times[i - 1] ?? 0)),
    times.join(' '),
  )
  t.equal((times[0] ?? 0n) / 1_000_000n, 1_700_000_000_999n)
})
