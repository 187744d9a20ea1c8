/**
 * Guests and front-ends that mean harm (vhost-user-fs.md §7), against a whole daemon: it lives, whoever did nothing
 * is served, and the next front-end reads right bytes. That used.len is the reply's length is checked by the
 * front-end for every single answer.
 */
import { ftruncateSync } from 'node:fs'
import { connect as connectSocket } from 'node:net'
import { setImmediate, setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { VhostFrontend, type FrontendOptions } from '../../addon/test/frontend.js'
import { FuseClient } from '../../addon/test/fuse-client.js'
import { u64 } from '../../addon/test/vhost-connection.js'
import {
  DESC_FLAG,
  MESSAGE_FLAG,
  MessageHeader,
  STATUS,
  VHOST,
  VirtqAvail,
  VirtqDesc,
  VirtqHead,
} from '../../addon/test/vhost-protocol.js'
import type { Fields, Layout, StructOf } from '../base/layout.js'
import { fixtureNamed } from '../../vm-tests/fixtures.js'
import { readManifest, sha256, type ManifestRecord } from '../../vm-tests/manifest.js'
import { InHeader, ForgetIn, OP, OpenIn, ReadIn } from '../fuse/abi.js'
import { startDaemon } from './testing/daemon.js'
import { nodeAt, readAll } from './testing/guest-tree.js'
import { residentKiB, resourcesOf } from '../../vm-tests/resources.js'

const { NEXT, WRITE, INDIRECT } = DESC_FLAG
const image = fixtureNamed('layers')
const daemon = await startDaemon(t, ['virtiofs', '--request-queues', '2'])
await daemon.mount('/', image.bootstrap, { blobs: image.blobs })

/** The largest file: of several chunks. */
const big = readManifest(image.expected).reduce((largest: ManifestRecord, record) =>
  record.type === 'file' && (record.size ?? 0) > (largest.size ?? 0) ? record : largest,
)

function encode<F extends Fields>(struct: Layout<F>, value: Partial<StructOf<F>>): Uint8Array {
  const out = new Uint8Array(struct.size)
  struct.write(out, value)
  return out
}

/** Everything but INIT. */
async function plugIn(t: Test, options: Omit<FrontendOptions, 'path'> = {}): Promise<FuseClient> {
  const frontend = new VhostFrontend({ path: daemon.sock, requestQueues: 2, ...options })
  t.teardown(() => {
    frontend.close()
  })
  await frontend.connect()
  await frontend.start()
  return new FuseClient(frontend)
}

async function boot(t: Test): Promise<FuseClient> {
  const fuse = await plugIn(t)
  await fuse.init()
  return fuse
}

async function readsRight(t: Test, fuse: FuseClient, message: string): Promise<void> {
  const bytes = await readAll(fuse, await nodeAt(fuse, big.path), big.size ?? 0)
  t.equal(sha256(bytes), big.sha256, message)
}

async function nextReadsRight(t: Test, message: string): Promise<void> {
  const fuse = await boot(t)
  await readsRight(t, fuse, message)
  fuse.frontend.close()
}

/** Forges the ring of queue 1 by hand. */
class Forger {
  readonly #frontend: VhostFrontend
  readonly request: bigint
  readonly reply: bigint
  readonly table: bigint

  constructor({ frontend }: FuseClient) {
    this.#frontend = frontend
    const place = (bytes: number) => BigInt(frontend.native.allocate(bytes, 16))
    this.request = place(4096)
    this.reply = place(4096)
    this.table = place(4096)
    this.#put(this.request, encode(InHeader, { len: 40, opcode: OP.STATFS, unique: 4n, nodeid: 1n }))
  }

  descriptor(index: number, addr: bigint, len: number, flags: number, next = 0): void {
    this.#entry(BigInt(this.#frontend.native.queue(1).descriptors), index, addr, len, flags, next)
  }
  entry(index: number, addr: bigint, len: number, flags: number, next = 0): void {
    this.#entry(this.table, index, addr, len, flags, next)
  }
  /** Makes `head` available, as if the index were `ahead` further than it may be. */
  expose(head: number, ahead = 1): void {
    const { avail } = this.#frontend.native.queue(1)
    const { idx } = VirtqAvail.read(this.#frontend.native.readMemory(avail, VirtqAvail.size))
    const slot = avail + VirtqAvail.size + (idx % this.#frontend.options.queueSize) * VirtqHead.size
    this.#put(BigInt(slot), encode(VirtqHead, { head }))
    this.#put(BigInt(avail), encode(VirtqAvail, { idx: (idx + ahead) & 0xffff }))
    this.#frontend.native.kick(1)
  }

  #entry(at: bigint, index: number, addr: bigint, len: number, flags: number, next: number): void {
    this.#put(at + BigInt(index * VirtqDesc.size), encode(VirtqDesc, { addr, len, flags, next }))
  }
  #put(at: bigint, bytes: Uint8Array): void {
    this.#frontend.native.writeMemory(Number(at), bytes)
  }
}

const BROKEN: readonly [what: string, forge: (f: Forger) => void][] = [
  ['a chain that loops', f => f.descriptor(0, f.request, 40, NEXT, 0)],
  ['a next outside of the table', f => f.descriptor(0, f.request, 40, NEXT, 4711)],
  ['an indirect table without entries', f => f.descriptor(0, f.table, 0, INDIRECT)],
  ['an indirect table of 4 GiB', f => f.descriptor(0, f.table, 0xffff_fff0, INDIRECT)],
  ['an indirect table outside of memory', f => f.descriptor(0, 1n << 50n, 32, INDIRECT)],
  ['an indirect table that wraps', f => f.descriptor(0, 2n ** 64n - 8n, 16, INDIRECT)],
  ['an indirect table with a next', f => f.descriptor(0, f.table, 32, INDIRECT | NEXT, 1)],
  [
    'an indirect table in another',
    f => {
      f.entry(0, f.table, 32, INDIRECT)
      f.descriptor(0, f.table, 32, INDIRECT)
    },
  ],
  [
    'readable behind writable',
    f => {
      f.descriptor(0, f.reply, 16, WRITE | NEXT, 1)
      f.descriptor(1, f.request, 40, 0)
    },
  ],
]

t.test('a ring that cannot be believed is fenced off, the others go on, a reset heals it', async t => {
  const fuse = await boot(t)
  const { frontend } = fuse
  const cases: readonly [what: string, attack: (f: Forger) => void][] = [
    ...BROKEN.map(([what, forge]): [what: string, attack: (f: Forger) => void] => [
      what,
      f => {
        forge(f)
        f.expose(0)
      },
    ]),
    ['a head outside of the table', f => f.expose(60_000)],
    ['an index that jumps', f => f.expose(0, 30_000)],
  ]
  for (const [what, attack] of cases) {
    const before = frontend.native.queue(1).errors
    attack(new Forger(fuse))
    while (frontend.native.queue(1).errors === before) await setImmediate()
    t.equal(Number(await frontend.ask(VHOST.GET_STATUS)) & STATUS.NEEDS_RESET, STATUS.NEEDS_RESET, what)
    await readsRight(t, new FuseClient(frontend, { queue: 2 }), 'the other queue')
    await frontend.reboot()
    t.equal(Number(await frontend.ask(VHOST.GET_STATUS)) & STATUS.NEEDS_RESET, 0)
    await fuse.init()
    await readsRight(t, fuse, `${what}: healed`)
  }
  while (!daemon.log.includes('the available index jumped')) await delay(5)
  t.match(daemon.log, /ring 1: .*it stands still until the guest resets the device/)
})

t.test('buffers outside of memory cost their request, nothing else', async t => {
  const fuse = await boot(t)
  const { native } = fuse.frontend
  const f = new Forger(fuse)
  const answered = async (what: string, length: number) => {
    f.expose(0)
    let strays = native.strays(1)
    for (; strays.length === 0; strays = native.strays(1)) await setImmediate()
    t.strictSame(strays, [{ id: 0, length }], what)
  }
  for (const outside of [1n << 50n, 0xa_0000n, 2n ** 64n - 8n]) {
    f.descriptor(0, outside, 40, NEXT, 1)
    f.descriptor(1, f.reply, 96, WRITE)
    await answered('the header', 0)
    f.descriptor(0, f.request, 40, NEXT, 1)
    f.descriptor(1, outside, 96, WRITE)
    await answered('the place of the reply', 0)
    f.descriptor(1, f.reply, 16, WRITE | NEXT, 2)
    f.descriptor(2, outside, 80, WRITE)
    await answered('the place of the body: EIO', 16)
  }
  t.equal(native.queue(1).errors, 0)
  fuse.frontend.close()
  await nextReadsRight(t, 'afterwards')
})

t.test('requests that nobody should send get their errno', async t => {
  const fuse = await plugIn(t)
  const { frontend } = fuse
  const errorOf = async (
    opcode: number,
    nodeid: number | bigint,
    parts: readonly Uint8Array[],
    capacity = 4096,
  ) => (await frontend.request(opcode, nodeid, parts, capacity)).error
  const errno = { EIO: -5, ENOENT: -2, EINVAL: -22, ENAMETOOLONG: -36, ENOSYS: -38, ESTALE: -116 }

  t.equal(await errorOf(OP.GETATTR, 1, [new Uint8Array(16)]), errno.EIO, 'before INIT')
  await fuse.init()
  await fuse.init()
  for (const opcode of [0, 63, 4096, 0x7fff_ffff, 0xffff_ffff])
    t.equal(await errorOf(opcode, 1, []), errno.ENOSYS, `opcode ${opcode}`)
  const names: readonly [name: string, error: number][] = [
    ['\0', errno.EINVAL],
    ['no end', errno.EINVAL],
    ['a/b\0', errno.ENOENT],
    [`${'x'.repeat(256)}\0`, errno.ENAMETOOLONG],
    [`${'x'.repeat(65_536)}\0`, errno.ENAMETOOLONG],
  ]
  for (const [name, error] of names)
    t.equal(await errorOf(OP.LOOKUP, 1, [Buffer.from(name)]), error, `name ${name.slice(0, 20)}`)
  const strangers = [0n, 2n, 3n << 37n, (60_000n << 37n) + 1n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 64n - 1n]
  for (const nodeid of strangers)
    for (const [opcode, args] of [
      [OP.GETATTR, new Uint8Array(16)],
      [OP.OPEN, new Uint8Array(OpenIn.size)],
      [OP.READ, encode(ReadIn, { size: 4096 })],
      [OP.READLINK, new Uint8Array(0)],
      [OP.LOOKUP, Buffer.from('a\0')],
      [OP.READDIRPLUS, encode(ReadIn, { size: 4096 })],
    ] as const)
      t.equal(await errorOf(opcode, nodeid, [args]), errno.ESTALE, `opcode ${opcode} of node ${nodeid}`)

  const file = await nodeAt(fuse, big.path)
  for (const offset of [BigInt(big.size ?? 0), 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
    const args = encode(ReadIn, { offset, size: 0xffff_ffff, fh: 2n ** 64n - 1n })
    const { error, body } = await frontend.request(OP.READ, file, [args], 4096)
    t.equal(body.length, 0, `READ at ${offset}: ${error}`)
    t.ok([0, errno.EINVAL, -75].includes(error))
  }
  t.equal((await fuse.read(file, 0, 0, 4096)).length, 4096)
  const all = encode(ReadIn, { size: 0xffff_ffff })
  t.equal((await frontend.request(OP.READ, file, [all], 8192)).body.length, 8192, '4 GiB into 8 KiB')
  for (const cookie of [1n << 20n, 2n ** 53n - 1n, 2n ** 63n, 2n ** 64n - 1n])
    for (const opcode of [OP.READDIR, OP.READDIRPLUS]) {
      const args = encode(ReadIn, { offset: cookie, size: 4096 })
      const { error, body } = await frontend.request(opcode, 1, [args], 4096)
      t.equal(body.length, 0, `cookie ${cookie}: ${error}`)
    }
  // Longer than what came, shorter than itself: the header's own length is all that counts.
  await fuse.destroy()
  t.equal(await errorOf(OP.GETATTR, 1, [new Uint8Array(16)]), errno.EIO, 'after DESTROY')
  await fuse.init()
  await readsRight(t, fuse, 'a new session')
  frontend.close()
})

t.test('what a guest asks for again and again costs no memory and no descriptor', async t => {
  const fuse = await boot(t)
  const { frontend } = fuse
  const file = await nodeAt(fuse, big.path)
  const round = async (count: number) => {
    for (let n = 0; n < count; n += 500)
      await Promise.all(
        Array.from({ length: 500 }, (_, i) => {
          const forget = encode(ForgetIn, { nlookup: 2n ** 64n - 1n })
          switch (i % 4) {
            case 0:
              return frontend.request(OP.OPEN, file, [new Uint8Array(OpenIn.size)], 16)
            case 1:
              return frontend.request(OP.FORGET, BigInt(n + i) << 30n, [forget], 0)
            case 2:
              return frontend.request(OP.LOOKUP, 1, [Buffer.from(`name-${n}-${i}\0`)], 128)
            default:
              return frontend.request(OP.OPENDIR, 1, [new Uint8Array(OpenIn.size)], 16)
          }
        }),
      )
  }
  /** With one connection to the API, which would else end when it likes. */
  const resources = async () => {
    await daemon.api('GET', 'daemon')
    return resourcesOf(daemon.pid)
  }
  await round(20_000)
  const before = await resources()
  const rss = residentKiB(daemon.pid)
  await round(40_000)
  t.strictSame(await resources(), before, 'descriptors, sockets, threads')
  const grown = residentKiB(daemon.pid) - rss
  t.ok(grown < 16 << 10, `RSS grew by ${grown} KiB`)
  await readsRight(t, fuse, 'as before')
  frontend.close()
})

t.test('kicks without end', async t => {
  const fuse = await boot(t)
  const storm = setInterval(() => {
    for (let i = 0; i < 1000; i++) for (const queue of [0, 1, 2]) fuse.frontend.native.kick(queue)
  }, 1)
  await readsRight(t, fuse, 'meanwhile')
  clearInterval(storm)
  fuse.frontend.close()
})

t.test('guest memory that is taken away under the rings', async t => {
  const fuse = await boot(t)
  ftruncateSync(fuse.frontend.fileFd(0), 0)
  for (const queue of [0, 1, 2]) fuse.frontend.native.kick(queue)
  // The control thread answers; nobody was killed by SIGBUS.
  t.type(await fuse.frontend.ask(VHOST.GET_FEATURES), 'bigint')
  fuse.frontend.close()
  await nextReadsRight(t, 'another guest')
})

t.test('a second front-end knocks, the first notices nothing', async t => {
  const fuse = await boot(t)
  for (let i = 0; i < 3; i++) {
    const second = new VhostFrontend({ path: daemon.sock, requestQueues: 2 })
    await t.rejects(second.connect(), { name: /./ })
    second.close()
  }
  await readsRight(t, fuse, 'the first')
  t.match(daemon.log, /a second front-end was refused/)
  fuse.frontend.close()
})

t.test('garbage on the socket ends its connection, and that only', async t => {
  const header = (request: number, flags: number, size: number) =>
    encode(MessageHeader, { request, flags, size })
  const garbage: readonly Uint8Array[] = [
    header(VHOST.GET_FEATURES, MESSAGE_FLAG.VERSION, 0xffff_ffff),
    header(VHOST.GET_FEATURES, MESSAGE_FLAG.VERSION, 4097),
    header(VHOST.GET_FEATURES, 2, 0),
    header(VHOST.GET_FEATURES, MESSAGE_FLAG.VERSION | MESSAGE_FLAG.REPLY, 0),
    header(VHOST.GET_FEATURES, MESSAGE_FLAG.VERSION | 0x100, 0),
    header(VHOST.SET_FEATURES, MESSAGE_FLAG.VERSION, 7),
    Buffer.from('GET /api/v1/daemon HTTP/1.1\r\n\r\n'),
  ]
  for (const bytes of garbage) {
    const socket = connectSocket(daemon.sock)
    const closed = new Promise(resolve => socket.on('close', resolve))
    socket.on('error', () => undefined)
    socket.write(bytes)
    // For messages that claim to be longer.
    socket.write(new Uint8Array(7))
    socket.resume()
    await closed
  }
  // Half a message, and gone.
  const half = connectSocket(daemon.sock)
  await new Promise(resolve => half.write(header(VHOST.SET_FEATURES, MESSAGE_FLAG.VERSION, 8), resolve))
  half.destroy()
  await nextReadsRight(t, 'the next')
})

t.test('without shared memory the log says what to write on the command line of QEMU', async t => {
  const frontend = new VhostFrontend({ path: daemon.sock, requestQueues: 2, memory: 'table', acks: 'all' })
  t.teardown(() => {
    frontend.close()
  })
  await frontend.connect()
  await frontend.tell(VHOST.SET_FEATURES, u64(frontend.features))
  // QEMU leaves regions without a file out of the table: none is left.
  await frontend.announce([])
  await t.rejects(frontend.startRing(1, 0), { code: 'FRONTEND_REFUSED' })
  while (!daemon.log.includes('memory-backend-memfd')) await delay(5)
  t.match(
    daemon.log,
    /shares no guest memory.*-object memory-backend-memfd,id=mem,size=.*,share=on -numa node/,
  )
  frontend.close()
})

t.test('after all of that', async t => {
  await nextReadsRight(t, 'a guest is served')
  t.match(await daemon.api('GET', 'daemon'), { state: 'RUNNING' })
})
