/** A device, its lanes and a front-end over a real socket; images in memory. */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { FuseClient } from '../../addon/test/fuse-client.js'
import { VhostFrontend } from '../../addon/test/frontend.js'
import { ERRNO } from '../base/errors.js'
import { native } from '../native.js'
import type { MountChange } from '../vfs/changes.js'
import { ColdReads, type ColdFetched } from '../vfs/cold-reads.js'
import { MountTable } from '../vfs/mount-table.js'
import { CHUNK, MemoryFs, type MemoryEntry, type MemoryImage } from '../vfs/testing/memory-fs.js'
import { newCounters, totalsOf } from './counters.js'
import { OP, OPCODES } from './abi.js'
import { Lanes } from './lanes.js'

const entry = new URL(
  import.meta.url.endsWith('.ts') ? './testing/memory-lane.ts' : './testing/memory-lane.js',
  import.meta.url,
)

interface PendingFetch {
  readonly refs: readonly number[]
  done(placements?: ColdFetched['placements']): void
  fail(error: Error): void
}

/** A daemon of images in memory, and its guest. */
async function boot(t: Test, { lanes: laneCount = 1, requestQueues = 1 } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'lane-test-'))
  const path = join(folder, 'sock')
  const logged: object[] = []
  const fetches: PendingFetch[] = []
  const files = new Set<number>()
  const log = {
    debug: () => {},
    info: () => {},
    warn: () => {},
    error: (fields: object) => void logged.push(fields),
  }
  const device = native.createVhostDevice(
    { path, requestQueues, lanes: laneCount, pollUs: 0 },
    () => undefined,
  )
  const table: MountTable<MemoryImage> = new MountTable({
    lanes: { broadcast: change => lanes.broadcast(change) },
    lookupCount: slot => device.lookupCount(slot),
    newCounters: () => newCounters(laneCount),
    onClosed: slot => cold.abortSlot(slot),
    sleep: () => Promise.resolve(),
    onError: error => logged.push({ error }),
  })
  const cold = new ColdReads({
    source: {
      fetch: ({ wants }) =>
        new Promise((resolve, reject) => {
          const refs = wants.map(({ ref }) => ref)
          const done = (placements = refs.map(() => undefined) as ColdFetched['placements']): void =>
            resolve({ placements, release: () => undefined })
          fetches.push({ refs, done, fail: reject })
        }),
    },
    complete: (ticket, status, extents) => device.completeDeferred(ticket, status, extents),
    log,
  })
  const lanes: Lanes<MountChange<MemoryImage>> = new Lanes({
    device,
    lanes: laneCount,
    entry,
    fixedMounts: false,
    snapshot: () => table.snapshot(),
    onColdReads: reads => cold.add(reads),
    quit: () => native.quit(),
    log,
  })
  lanes.start()

  /** Puts bytes into a file that the addon may copy from. */
  const register = (bytes: Uint8Array): number => {
    const name = join(folder, `content-${files.size}`)
    writeFileSync(name, bytes)
    const fd = openSync(name, 'r')
    const file = native.registerFile(fd, bytes.length)
    closeSync(fd)
    files.add(file)
    return file
  }
  const image = (root: Readonly<Record<string, MemoryEntry>>) => {
    const file = register(new MemoryFs({ root, file: 1 }).content)
    return { image: { root, file }, release: () => Promise.resolve() }
  }
  const frontend = new VhostFrontend({ path, requestQueues, queueSize: 1024 })
  t.teardown(async () => {
    frontend.close()
    await lanes.stop()
    for (const file of files) native.releaseFile(file)
    rmSync(folder, { recursive: true })
  })
  await frontend.connect()
  await frontend.start()
  const guest = new FuseClient(frontend)
  await guest.init()
  const walk = async (path: string) => {
    let nodeid = 1n
    for (const name of path.split('/').filter(part => part !== ''))
      nodeid = (await guest.lookup(nodeid, Buffer.from(name))).nodeid
    return nodeid
  }
  const text = async (path: string) =>
    Buffer.from(await guest.read(await walk(path), 0, 0, 1 << 20)).toString()
  const mount = (path: string, root: Readonly<Record<string, MemoryEntry>>) => table.mount(path, image(root))
  return { device, table, lanes, frontend, guest, walk, text, mount, image, register, fetches, logged, cold }
}

/** Waits for what other threads do. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(resolve => setTimeout(resolve, 1))
}

const long = Array.from({ length: 3000 }, (_, i) => `line ${i}\n`).join('')

t.test('a guest reads, while images come and go', async t => {
  const { table, guest, walk, text, mount, image, device, logged } = await boot(t)
  await t.rejects(walk('a'), { code: 'FRONTEND_FUSE_ERROR', errno: 'ENOENT' })
  const many = Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`entry-${i}`, { text: `${i}` }]))
  await mount('/a/b', {
    hello: { text: 'hello' },
    long: { text: long },
    link: { link: 'hello' },
    many: { dir: many },
  })
  t.equal(await text('a/b/hello'), 'hello')
  t.equal(await text('a/b/long'), long)
  t.equal((await guest.readlink(await walk('a/b/link'))).toString(), 'hello')
  t.equal((await guest.getattr(await walk('a/b/long'))).size, BigInt(long.length))

  const folder = await walk('a/b/many')
  const { fh } = await guest.opendir(folder)
  const names: string[] = []
  for (let cookie = 0n; ;) {
    const records = await guest.readdirplus(folder, fh, cookie, 4096)
    if (records.length === 0) break
    for (const { name, off, entry } of records) {
      names.push(name.toString())
      cookie = off
      if (names.length > 2) t.equal(entry.nodeid, entry.attr.ino)
    }
  }
  t.same(names, ['.', '..', ...Object.keys(many)])
  t.ok(device.lookupCount(1) >= 2000, 'the addon has counted the references')

  const node = await walk('a/b/hello')
  await mount('/z', { z: { text: 'z' } })
  t.equal(await text('z/z'), 'z')
  await table.remount('/a/b', image({ hello: { text: 'other' } }))
  t.equal(await text('a/b/hello'), 'other')
  t.equal(Buffer.from(await guest.read(node, 0, 0, 100)).toString(), 'hello', 'what is open goes on')
  await table.unmount('/a/b')
  await t.rejects(guest.read(node, 0, 0, 100), { code: 'FRONTEND_FUSE_ERROR', errno: 'ESTALE' })
  await t.rejects(walk('a'), { code: 'FRONTEND_FUSE_ERROR', errno: 'ENOENT' })
  t.same(logged, [])
})

t.test('a cold read waits, warm ones pass it', async t => {
  const { guest, walk, mount, register, fetches, table, text, device } = await boot(t)
  await mount('/i', { cold: { text: long, cold: true }, warm: { text: 'warm' } })
  const node = await walk('i/cold')
  const order: string[] = []
  const first = guest
    .read(node, 0, 0, CHUNK)
    .then(bytes => (order.push('first'), Buffer.from(bytes).toString()))
  const second = guest
    .read(node, 0, CHUNK, CHUNK)
    .then(bytes => (order.push('second'), Buffer.from(bytes).toString()))
  await until(() => fetches.length === 2)
  t.equal(await text('i/warm'), 'warm')
  t.same(order, [])
  t.equal(device.deferredCount(), 2)
  // The second is not in the cache but in some other file, at another place.
  const elsewhere = register(Buffer.from('-'.repeat(10) + '#'.repeat(CHUNK)))
  fetches[1]?.done([{ fileId: elsewhere, offset: 10 }])
  t.equal(await second, '#'.repeat(CHUNK))
  fetches[0]?.done()
  t.equal(await first, long.slice(0, CHUNK))
  t.same(order, ['second', 'first'])

  const failing = guest.read(node, 0, 0, CHUNK)
  const leaving = guest.read(node, 0, CHUNK, CHUNK)
  await until(() => fetches.length === 4)
  fetches[2]?.fail(new Error('no such blob'))
  await t.rejects(failing, { code: 'FRONTEND_FUSE_ERROR', errno: 'EIO' })
  const gone = t.rejects(leaving, { code: 'FRONTEND_FUSE_ERROR', errno: 'ESTALE' })
  await table.unmount('/i')
  await gone
  t.equal(device.deferredCount(), 0)
})

t.test('a lane that dies: its requests end, the next one has all mounts', async t => {
  const { guest, walk, text, mount, logged } = await boot(t)
  await mount('/i', { ok: { text: 'ok' }, bad: { text: '', broken: true }, end: { text: '', deadly: true } })
  const root = await walk('i')
  await t.rejects(
    guest.lookup(root, Buffer.from('bad')),
    { code: 'FRONTEND_FUSE_ERROR', errno: 'EIO' },
    'an exception is no death',
  )
  t.equal(await text('i/ok'), 'ok')
  for (let i = 0; i < 2; i++) {
    await t.rejects(guest.lookup(root, Buffer.from('end')), { code: 'FRONTEND_FUSE_ERROR', errno: 'EIO' })
    t.equal(await text('i/ok'), 'ok')
  }
  t.match(logged, [
    { opcode: OP.LOOKUP },
    { lane: 0, error: 'exit code 7' },
    { lane: 0, error: 'exit code 7' },
  ])
})

t.test('lanes that die under load from four queues lose no request', async t => {
  const { frontend, walk, text, mount, fetches, device, logged } = await boot(t, {
    lanes: 2,
    requestQueues: 4,
  })
  await mount('/i', {
    warm: { text: long },
    cold: { text: long, cold: true },
    end: { text: '', deadly: true },
  })
  const root = await walk('i')
  const warm = await walk('i/warm')
  const cold = await walk('i/cold')
  const clients = [1, 2, 3, 4].map(queue => new FuseClient(frontend, { queue }))
  const ended = { right: 0, wrong: 0, EIO: 0 }
  const outcome = async (reply: Promise<Uint8Array>, from: number, to: number) => {
    try {
      ended[Buffer.from(await reply).toString() === long.slice(from, to) ? 'right' : 'wrong']++
    } catch (error) {
      t.match(error, { code: 'FRONTEND_FUSE_ERROR', errno: 'EIO' })
      ended.EIO++
    }
  }
  const EACH = 80
  let fetched = 0
  // First the lane of the last queue, then the other.
  for (const deadly of [3, 2]) {
    const all = Array.from({ length: EACH * clients.length }, (_, n) => {
      const i = Math.floor(n / clients.length)
      const guest = clients[n % clients.length] as FuseClient
      const at = (n % 16) * 1000
      if (i % 20 === 3) return outcome(guest.read(cold, 0, CHUNK, CHUNK), CHUNK, 2 * CHUNK)
      if (i !== EACH / 2 || n % clients.length !== deadly)
        return outcome(guest.read(warm, 0, at, 1000), at, at + 1000)
      const death = guest.lookup(root, Buffer.from('end')).then(() => Buffer.of())
      return outcome(death, 0, 1)
    })
    // What was deferred is fetched while lanes die and come back.
    const pump = setInterval(() => {
      for (; fetched < fetches.length; fetched++) fetches[fetched]?.done()
    }, 1)
    await Promise.all(all)
    clearInterval(pump)
  }
  t.equal(ended.right + ended.EIO, 2 * EACH * clients.length)
  t.equal(ended.wrong, 0)
  t.ok(ended.EIO >= 2, 'those that the lanes died of')
  t.ok(ended.EIO <= 2 * 64, `at most the batch that each had: ${ended.EIO}`)
  t.match(logged, [
    { lane: 1, error: 'exit code 7' },
    { lane: 0, error: 'exit code 7' },
  ])
  t.equal(device.deferredCount(), 0)
  t.ok([1, 2, 3, 4].every(queue => frontend.native.queue(queue).inFlight === 0))
  t.equal(await text('i/warm'), long)
})

t.test('two lanes, two queues', async t => {
  const { frontend, guest, walk, mount, table, lanes } = await boot(t, { lanes: 2, requestQueues: 2 })
  await mount('/i', { long: { text: long } })
  const node = await walk('i/long')
  const clients = [1, 2].map(queue => new FuseClient(frontend, { queue }))
  const reads = Array.from({ length: 200 }, (_, i) =>
    (clients[i % 2] as FuseClient).read(node, 0, i * 100, 100),
  )
  const bytes = await Promise.all(reads)
  t.equal(Buffer.concat(bytes).toString(), long.slice(0, 20_000))
  const [mounted] = table.list()
  t.equal(totalsOf(mounted?.counters as SharedArrayBuffer).hits[4], 200, 'both lanes have counted')
  t.equal(totalsOf(lanes.counters).hits[9], 0)
  await guest.destroy()
})

t.test('every opcode gets an answer, and a guest may start over', async t => {
  const { frontend, guest, text, mount } = await boot(t)
  await mount('/i', { f: { text: 'f' } })
  for (const { code, name, replies, in: args, names } of OPCODES) {
    if (!replies || name === 'INIT' || name === 'DESTROY') continue
    const parts = [
      new Uint8Array(args?.size ?? 0),
      ...Array.from({ length: names }, () => Buffer.from('n\0')),
    ]
    const { error } = await frontend.request(code, 1, parts, 4096)
    t.ok(error <= 0 && error > -ERRNO.ESTALE - 1, `${name}: ${error}`)
  }
  await frontend.reboot()
  await guest.init()
  t.equal(await text('i/f'), 'f')
})
