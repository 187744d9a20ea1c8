import t from 'tap'
import { ERRNO } from '../base/errors.js'
import { newAttr, type Attr, type DirSink, type Nodes, type NodeSink } from '../vfs/filesystem.js'
import { Dirent, Direntplus, EntryOut, OP } from './abi.js'
import { Arena } from './arena.js'
import { Directories } from './directories.js'
import { Extents } from './extents.js'
import { Replies } from './reply.js'
import { ARENA_SIZE, BATCH, FILE_ARENA } from './ring.js'
import { FakeRing, type Reply } from './testing/fake-ring.js'
import { FLEETING, Guest, LASTING, parseEntry, parseRecords, type Record } from './testing/guest.js'
import { MEMORY_ROOT_INO, type MemoryEntry } from '../vfs/testing/memory-fs.js'

const tree: { [name: string]: MemoryEntry } = {
  file: { text: 'file' },
  link: { link: 'file' },
  dir: { dir: { inner: { text: '' } } },
  ['n'.repeat(255)]: { text: '' },
  broken: { text: '', broken: true },
}

t.test('records, byte by byte', async t => {
  const guest = new Guest()
  await guest.mount('/i', { ab: { text: '' } })
  const { nodeid } = guest.walk('i')
  const reply = guest.request({ opcode: OP.READDIR, nodeid, size: 4096 })
  const id = (value: number): string => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(BigInt(value))
    return bytes.toString('hex')
  }
  const record = (ino: number, off: number, type: number, name: string): string =>
    id(ino) +
    id(off) +
    Buffer.from([name.length, 0, 0, 0, type, 0, 0, 0]).toString('hex') +
    Buffer.from(name.padEnd(8, '\0')).toString('hex')
  t.equal(
    Buffer.from(reply.body).toString('hex'),
    record(nodeid, 1, 4, '.') + record(1, 2, 4, '..') + record(nodeid + 1, 3, 8, 'ab'),
  )
  t.match(reply, { kind: 'extents', lookups: 0 })
  t.match(reply.extents, [{ file: FILE_ARENA }])
})

t.test('READDIRPLUS: entries, references, and what has none', async t => {
  const guest = new Guest()
  const slot = await guest.mount('/i', tree)
  const { nodeid } = guest.walk('i')
  const reply = guest.request({ opcode: OP.READDIRPLUS, nodeid, size: 4096 })
  const records = parseRecords(reply.body, true)
  t.same(
    records.map(record => [record.name.slice(0, 6), record.type, record.nodeid !== 0]),
    [
      ['.', 4, false],
      ['..', 4, false],
      ['file', 8, true],
      ['link', 10, true],
      ['dir', 4, true],
      ['nnnnnn', 8, true],
      ['broken', 8, false],
    ],
  )
  t.match(reply, { lookups: 4, lookupSlot: slot }, 'one for each record with a node')
  const at = 2 * (Direntplus.size + 8)
  const entry = parseEntry(reply.body.subarray(at, at + EntryOut.size))
  t.match(entry, { entryValid: LASTING, attrValid: LASTING, size: 4, mode: 0o100644, ino: nodeid + 1 })
  t.equal(guest.lookup(nodeid, 'broken'), -ERRNO.EIO, 'the damaged one fails when it is asked for')
})

t.test('pseudo folders and the root', async t => {
  const guest = new Guest()
  await guest.mount('/a/i', tree)
  const reply = guest.request({ opcode: OP.READDIRPLUS, nodeid: 1, size: 4096 })
  t.same(
    parseRecords(reply.body, true).map(({ name, nodeid }) => [name, nodeid]),
    [
      ['.', 0],
      ['..', 0],
      ['a', 0],
    ],
    'names only: an entry in a pseudo folder is always looked up',
  )
  t.equal(reply.lookups, 0)
  await guest.mount('/', tree)
  const root = guest.request({ opcode: OP.READDIRPLUS, nodeid: 1, size: 4096 })
  const file = parseRecords(root.body, true).findIndex(({ name }) => name === 'file')
  const at = file * (Direntplus.size + 8)
  t.match(
    parseEntry(root.body.subarray(at)),
    { entryValid: FLEETING, attrValid: LASTING },
    'what is mounted at / can go',
  )
  t.same(guest.names(1).slice(-1), ['a'], 'the mount point is listed with the image')
})

t.test('replies end at a record, whatever the size', async t => {
  const guest = new Guest()
  const dir = Object.fromEntries(
    Array.from({ length: 300 }, (_, i) => [`${'x'.repeat(i % 37)}${i}`, { text: '' }]),
  )
  await guest.mount('/i', { dir: { dir } })
  const { nodeid } = guest.walk('i/dir')
  const names = ['.', '..', ...Object.keys(dir)]
  for (const plus of [false, true])
    for (const size of [240, 500, 1000, 4096, 65_536, 1 << 20])
      t.same(
        guest.list(nodeid, size, plus).map(({ name }) => name),
        names,
        `${size} bytes, plus ${plus}`,
      )
  const plain = (size: number, offset: number) => guest.request({ opcode: OP.READDIR, nodeid, size, offset })
  t.equal(plain(31, 0).status, -ERRNO.EINVAL, 'not even one fits')
  t.equal(plain(32, 0).body.length, 32)
  t.equal(guest.request({ opcode: OP.READDIR, nodeid, size: 4096, writable: 64 }).body.length, 64)
  t.match(plain(4096, 302), { status: 0, kind: 'inline', lookups: 0 }, 'the end')
  t.same(parseRecords(plain(4096, 150).body, false)[0]?.name, names[150], 'a cookie from anywhere')
  for (const offset of [303, 2 ** 40, 2 ** 52, 2 ** 52 + 7])
    t.equal(plain(4096, offset).body.length, 0, `${offset}`)
  t.equal(plain(4096, -1).status, -ERRNO.EINVAL)
})

/** One folder of very many entries, made up as they are asked for. */
class Crowd implements Nodes {
  readonly nodeid = 2 ** 38 + 9
  readonly ino = 9
  readonly slot = 2
  readonly base = 2 ** 38
  readonly generation = 1
  readonly counters = new Float64Array(64)
  readonly notes = null
  readonly fixed = false
  readonly xattrsPossible = true
  readonly shifting = false
  readonly childrenFleeting = false
  readonly entryFleeting = false
  readonly attrFleeting = false
  listed = 0
  readonly #count: number
  readonly #name = Buffer.alloc(40)
  readonly fs = {
    getattr: (ino: number, out: Attr) => Object.assign(out, newAttr(), { ino, mode: 0o100644 }) && 0,
  } as unknown as Nodes['fs']

  constructor(count: number) {
    this.#count = count
  }
  select = () => 0
  enter = () => 0
  getattr = () => 0
  statfs = () => 0
  readdir(cookie: number, sink: NodeSink): number {
    for (let i = cookie; i < this.#count; i++) {
      this.listed++
      const length = this.#name.write(`file-${i}`, 'latin1')
      if (!sink.node(this.base + 100 + i, 0o100644, this.#name, 0, length, i + 1, true)) break
    }
    return 0
  }
}

function crowd(count: number): {
  ring: FakeRing
  folder: Crowd
  ask: (cookie: number, plus: boolean, size?: number, slot?: number) => Reply
} {
  const ring = new FakeRing()
  const replies = new Replies(ring.memory)
  const folder = new Crowd(count)
  const directories = new Directories(ring.memory, replies, folder, new Arena(), new Extents(ring.memory))
  return {
    ring,
    folder,
    ask: (cookie, plus, size = 32_768, slot = 0) => {
      directories.reply(slot * 256, slot, cookie, size, plus)
      return ring.reply(slot)
    },
  }
}

t.test('a million entries in one folder', async t => {
  const count = 1_000_000
  const { folder, ask } = crowd(count)
  let cookie = 0
  let seen = 0
  let references = 0
  for (;;) {
    const reply = ask(cookie, true)
    if (reply.body.length === 0) break
    references += reply.lookups
    for (const { name, off } of parseRecords(reply.body, true)) {
      if (name !== `file-${seen}`) t.equal(name, `file-${seen}`)
      seen++
      cookie = off
    }
  }
  t.equal(seen, count)
  t.equal(references, count)
  t.ok(folder.listed < count * 1.01, 'each entry is encoded once')
})

t.test('a page is encoded once and serves many replies', async t => {
  const { folder, ask } = crowd(200)
  for (let cookie = 0; ;) {
    const records = parseRecords(ask(cookie, false, 256).body, false)
    if (records.length === 0) break
    cookie = (records.at(-1) as Record).off
  }
  t.equal(folder.listed, 200)
  ask(0, false)
  ask(8, false, 256)
  t.equal(folder.listed, 200, 'a second reader, and a cookie that the first went on with')
})

t.test('a batch never overwrites what it has answered', async t => {
  const { ring, ask } = crowd(1_000_000)
  // Far more than the arena holds, two pages a request, each from another place. In between, pages that were encoded
  // long ago and lie in front of the head: they are served or encoded again, but stay what they are in their batch.
  const asked: number[] = []
  for (let batch = 0; batch < 12; batch++) {
    const replies: Reply[] = []
    for (let slot = 0; slot < BATCH; slot++) {
      const old = slot % 8 === 0 ? asked.at(-(150 + 2 * slot)) : undefined
      const cookie = old ?? (asked.length + 1) * 700
      asked.push(cookie)
      const reply = ask(cookie, true, 131_072, slot)
      const name = `file-${cookie}`
      const from = Direntplus.size
      if (Buffer.from(reply.body.subarray(from, from + name.length)).toString() !== name) t.fail(`no ${name}`)
      replies.push(reply)
    }
    for (const [slot, before] of replies.entries()) {
      const after = ring.reply(slot)
      if (!Buffer.from(after.body).equals(before.body)) t.fail(`slot ${slot} of batch ${batch} changed`)
      if (after.extents.some(({ offset, length }) => offset < 0 || offset + length > ARENA_SIZE))
        t.fail('outside the arena')
    }
  }
})

t.test('after a change of the mounts nothing of before is served', async t => {
  const guest = new Guest()
  await guest.mount('/a', { one: { text: '' } })
  t.same(guest.names(1), ['.', '..', 'a'])
  await guest.mount('/b', { two: { text: '' } })
  t.same(guest.names(1), ['.', '..', 'a', 'b'])
  await guest.table.unmount('/a')
  t.same(guest.names(1), ['.', '..', 'b'])
})

t.test('a handle of the root belongs to what was mounted there', async t => {
  const guest = new Guest()
  await guest.mount('/', { old: { text: '' } })
  const handle = guest.open(1, 0, OP.OPENDIR)
  if (typeof handle === 'number') throw new Error(`OPENDIR: ${handle}`)
  const list = () => guest.request({ opcode: OP.READDIR, nodeid: 1, size: 4096, fh: handle.fh })
  t.equal(parseRecords(list().body, false).length, 3)
  await guest.table.remount('/', guest.image({ new: { text: '' } }))
  t.equal(list().status, -ERRNO.ESTALE)
  t.same(guest.names(1), ['.', '..', 'new'])
  t.equal(MEMORY_ROOT_INO, 5)
})

t.test('a file system that fails in the middle', async t => {
  const guest = new Guest()
  await guest.mount('/i', { d: { dir: {} } })
  const { nodeid } = guest.walk('i/d')
  guest.vfs.select(nodeid)
  const { fs } = guest.vfs
  const readdir = fs.readdir.bind(fs)
  Object.assign(fs, {
    readdir: (ino: number, cookie: number, sink: DirSink) =>
      cookie < 1 ? readdir(ino, cookie, sink) : -ERRNO.EIO,
  })
  const one = guest.request({ opcode: OP.READDIR, nodeid, size: Dirent.size + 8 })
  t.equal(parseRecords(one.body, false).length, 1)
  t.equal(guest.request({ opcode: OP.READDIR, nodeid, size: 4096, offset: 5 }).status, -ERRNO.EIO)
})
