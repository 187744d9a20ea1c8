import t from 'tap'
import { ERRNO } from '../base/errors.js'
import { FLEETING_MS } from './filesystem.js'
import { FLEETING, Guest, LASTING, type Entry } from '../fuse/testing/guest.js'
import type { MemoryEntry } from './testing/memory-fs.js'

type Tree = { readonly [name: string]: MemoryEntry }

const A: Tree = { name: { text: 'A' }, only: { text: 'only A' }, sub: { dir: { deep: { text: 'A deep' } } } }
const B: Tree = { name: { text: 'B' }, sub: { dir: { b: { text: 'B sub' } } } }

const pass = (names: readonly string[]): string[] => names.filter(name => name !== '.' && name !== '..')

/** [what it is about, steps in order, what a guest sees afterwards: path to content or listing, or undefined for nothing] */
const scenarios: [string, [string, Tree?][], { readonly [path: string]: string | string[] | undefined }][] = [
  ['nothing mounted', [], { '/': [] }],
  [
    'a mount makes its folders',
    [['/foo/bar', A]],
    { '/': ['foo'], '/foo': ['bar'], '/foo/bar/name': 'A', '/bar': undefined },
  ],
  [
    'two in one folder',
    [
      ['/x/a', A],
      ['/x/b', B],
    ],
    { '/x': ['a', 'b'], '/x/a/name': 'A', '/x/b/name': 'B' },
  ],
  [
    'folders go with the last mount',
    [['/x/a', A], ['/x/b', B], ['/x/a']],
    { '/x': ['b'], '/x/a': undefined },
  ],
  ['all gone', [['/x/y/z', A], ['/x/y/z']], { '/': [], '/x': undefined }],
  ['at the root', [['/', A]], { '/': ['name', 'only', 'sub'], '/name': 'A', '/sub/deep': 'A deep' }],
  ['and off again', [['/', A], ['/']], { '/': [], '/name': undefined }],
  [
    'at the root, over others',
    [
      ['/m', B],
      ['/', A],
    ],
    { '/name': 'A', '/m/name': 'B', '/': ['name', 'only', 'sub', 'm'] },
  ],
  [
    'beside a root mount',
    [
      ['/', A],
      ['/m/n', B],
    ],
    { '/name': 'A', '/m/n/name': 'B', '/m': ['n'] },
  ],
  [
    'in a folder of a root mount',
    [
      ['/', A],
      ['/sub/m', B],
    ],
    { '/sub': ['deep', 'm'], '/sub/deep': 'A deep', '/sub/m/name': 'B' },
  ],
  [
    'over a folder of an image',
    [
      ['/i', A],
      ['/i/sub', B],
    ],
    { '/i/sub': ['name', 'sub'], '/i/sub/name': 'B', '/i/sub/deep': undefined },
  ],
  [
    'over a file of an image',
    [
      ['/i', A],
      ['/i/name', B],
    ],
    { '/i/name/name': 'B', '/i': ['only', 'sub', 'name'] },
  ],
  [
    'below a file of an image',
    [
      ['/i', A],
      ['/i/name/m', B],
    ],
    { '/i/name': ['m'], '/i/name/m/name': 'B' },
  ],
  [
    'within an image, two levels',
    [
      ['/i', A],
      ['/i/sub/x/y', B],
    ],
    { '/i/sub': ['deep', 'x'], '/i/sub/x': ['y'], '/i/sub/x/y/name': 'B' },
  ],
  [
    'unmounting the inner one',
    [['/i', A], ['/i/sub', B], ['/i/sub']],
    { '/i/sub': ['deep'], '/i/sub/deep': 'A deep' },
  ],
  [
    'unmounting the outer one',
    [['/i', A], ['/i/sub/m', B], ['/i']],
    { '/i': ['sub'], '/i/sub': ['m'], '/i/sub/m/name': 'B' },
  ],
  [
    'the outer one comes later',
    [
      ['/i/sub/m', B],
      ['/i', A],
    ],
    { '/i': ['name', 'only', 'sub'], '/i/sub': ['deep', 'm'] },
  ],
  [
    'nested in nested',
    [
      ['/i', A],
      ['/i/sub', B],
      ['/i/sub/sub', A],
    ],
    { '/i/sub/sub/sub/deep': 'A deep', '/i/sub/name': 'B' },
  ],
  ['the same path again', [['/i', A], ['/i'], ['/i', B]], { '/i/name': 'B', '/i/only': undefined }],
  ['slashes and dots in a path', [['//x/./y//', A]], { '/x/y/name': 'A' }],
]

/** What a path shows: a listing without `.` and `..`, a content, or undefined. */
function show(guest: Guest, path: string): string | string[] | undefined {
  let entry: Entry
  try {
    entry = guest.walk(path)
  } catch {
    return undefined
  }
  if ((entry.mode & 0o170000) === 0o040000) return pass(guest.names(entry.nodeid))
  return Buffer.from(guest.read(entry.nodeid).body).toString()
}

for (const [title, steps, expected] of scenarios)
  t.test(title, async t => {
    const guest = new Guest()
    for (const [path, tree] of steps) {
      // A guest that has looked everywhere before each change.
      for (const seen of Object.keys(expected)) show(guest, seen)
      if (tree === undefined) await guest.table.unmount(path)
      else await guest.mount(path, tree)
    }
    for (const [path, content] of Object.entries(expected)) t.same(show(guest, path), content, path)
    t.same(guest.exceptions, [])
  })

t.test('inode numbers: one for each node, and the same in listings', async t => {
  const guest = new Guest()
  await guest.mount('/', A)
  await guest.mount('/sub/m', B)
  await guest.mount('/p/q', B)
  for (const path of ['/', '/sub', '/sub/m', '/p', '/p/q']) {
    const at = guest.walk(path)
    const parent = guest.walk(path.slice(0, path.lastIndexOf('/')))
    for (const { name, ino } of guest.list(at.nodeid)) {
      const entry = name === '.' ? at : name === '..' ? parent : guest.walk(`${path}/${name}`)
      t.equal(ino, entry.ino, `${path}/${name}`)
      t.equal(entry.ino, entry.nodeid)
    }
    const up = guest.lookup(at.nodeid, '..')
    t.match(up, { nodeid: parent.nodeid }, `${path}/..`)
  }
})

t.test('what a guest may keep', async t => {
  const guest = new Guest()
  await guest.mount('/p/i', A)
  const valid = (path: string) => {
    const { entryValid, attrValid } = guest.walk(path)
    return [entryValid, attrValid]
  }
  t.same(valid('p'), [FLEETING, FLEETING])
  t.same(valid('p/i'), [FLEETING, LASTING], 'the image can go, its root does not change')
  t.same(valid('p/i/sub'), [LASTING, LASTING])
  await guest.mount('/', A)
  t.same(valid('sub'), [FLEETING, LASTING], 'names at the root, where another image can be mounted')
  t.same(valid('sub/deep'), [LASTING, LASTING])
  await guest.mount('/sub/m', B)
  t.same(valid('sub/m'), [FLEETING, LASTING])
})

t.test('an unmounted image is gone for good', async t => {
  const guest = new Guest()
  const slot = await guest.mount('/i', A)
  const file = guest.walk('i/name').nodeid
  const folder = guest.walk('i/sub').nodeid
  await guest.table.unmount('/i')
  t.equal(guest.slept, FLEETING_MS, 'the guest may have kept the way there for a moment')
  for (let i = 0; i < 3; i++) {
    t.equal(guest.read(file).status, -ERRNO.ESTALE)
    t.equal(guest.lookup(folder, 'deep'), -ERRNO.ESTALE)
    t.equal(guest.lookup(1, 'i'), i === 0 ? -ERRNO.ENOENT : guest.lookup(1, 'i'))
    const next = await guest.mount(`/i${i}`, B)
    t.not(next, slot, 'its slot is not used again')
  }
  t.same(guest.released, ['/i'])
  t.same(guest.closedSlots, [slot])
})

t.test('a pseudo folder that is gone stays gone', async t => {
  const guest = new Guest()
  await guest.mount('/x/a', A)
  const old = guest.walk('x')
  await guest.table.unmount('/x/a')
  await guest.mount('/x/a', A)
  t.equal(guest.lookup(old.nodeid, 'a'), -ERRNO.ESTALE)
  t.not(guest.walk('x').nodeid, old.nodeid)
})

t.test('re-mount: new lookups see the new image, old handles the old one', async t => {
  const guest = new Guest()
  const first = guest.image(A, 'A')
  const slot = await guest.table.mount('/i', first)
  const old = guest.walk('i/name').nodeid
  const next = await guest.table.remount('/i', guest.image(B, 'B'))
  t.not(next, slot)
  t.equal(guest.slept, FLEETING_MS)
  t.equal(guest.text('i/name'), 'B')
  t.equal(Buffer.from(guest.read(old).body).toString(), 'A')
  t.match(guest.lookup(old, 'x'), -ERRNO.ENOTDIR)
  t.same(guest.released, [])
  t.match(guest.table.list(), [{ path: '/i', slot: next }])
  guest.lookups.set(slot, 0)
  await guest.table.remount('/i', guest.image(A, 'A again'))
  t.same(guest.released, ['A'], 'let go when the guest has forgotten it')
  t.equal(guest.read(old).status, -ERRNO.ESTALE)
  await guest.table.unmount('/i')
  t.same(guest.released.sort(), ['A', 'A again', 'B'])
})

t.test('re-mount at the root keeps node 1', async t => {
  const guest = new Guest()
  await guest.mount('/', A)
  t.equal(guest.text('name'), 'A')
  await guest.table.remount('/', guest.image(B))
  t.equal(guest.text('name'), 'B')
  t.equal(guest.lookup(1, 'only'), -ERRNO.ENOENT)
})

t.test('a mount within an image that a guest has cached gets through', async t => {
  const guest = new Guest()
  await guest.mount('/i', A)
  const before = guest.walk('i')
  const sub = guest.walk('i/sub')
  t.match(guest.lookup(sub.nodeid, 'm'), { nodeid: 0, entryValid: LASTING }, 'cached as missing, for ever')
  await guest.mount('/i/sub/m', B)
  const after = guest.walk('i')
  t.not(after.nodeid, before.nodeid, 'so the way there leads to another node, and the cache below it is void')
  t.equal(guest.text('i/sub/m/name'), 'B')
  t.equal(Buffer.from(guest.read(guest.walk('i/name').nodeid).body).toString(), 'A')
  t.match(
    guest.lookup(sub.nodeid, 'm'),
    { entryValid: FLEETING },
    'whoever stands in the old folder sees it, too',
  )
  const slots = [Math.floor(before.nodeid / 2 ** 37), Math.floor(after.nodeid / 2 ** 37)]
  await guest.table.unmount('/i')
  t.same(
    guest.closedSlots.sort((a, b) => a - b),
    slots,
  )
  t.equal(guest.lookup(sub.nodeid, 'deep'), -ERRNO.ESTALE)
})

t.test('a damaged image as the way to a mount', async t => {
  const guest = new Guest()
  await guest.mount('/i', { bad: { dir: {}, broken: true } })
  await guest.mount('/i/bad/m', B)
  t.equal(guest.text('i/bad/m/name'), 'B')
})

t.test('links: nlink of folders, times that move', async t => {
  const guest = new Guest()
  await guest.mount('/a/x', A)
  const { nlink } = guest.walk('a')
  t.equal(nlink, 3)
  await guest.mount('/a/y', A)
  t.equal(guest.walk('a').nlink, 4)
})
