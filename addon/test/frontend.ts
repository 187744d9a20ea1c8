/**
 * A vhost-user front-end for tests and benchmarks: QEMU and the guest's kernel in one, without either.
 *
 *     VhostFrontend ── vhost-user socket ── back-end under test
 *          └─ guest memory, rings (native) ── FUSE requests
 *
 * `connect` says what QEMU 7.2 says when a VM is created, `start` what it says when the guest's driver binds
 * (vhost-user-fs.md §3). Every reply is checked: it belongs to its request, and used.len is its length. Hostile
 * tests use the raw parts: `send`, `sendBytes`, `native` (memory, kicks, used elements nobody asked for).
 *
 * Must not know what a FUSE operation means (that is fuse-client.ts) nor what the back-end serves.
 */
import type { BenchResult, NativeBenchOptions } from './native-frontend.js'
import { Requests } from './requests.js'
import type { FuseReply, RequestOptions } from './requests.js'
import { VhostConnection, refused, state, u64 } from './vhost-connection.js'
import type { Acks } from './vhost-connection.js'
import * as vhost from './vhost-protocol.js'

const { VHOST, FEATURE, PROTOCOL_FEATURE } = vhost

/** Guest memory at `gpa`: `size` bytes of file `file` (numbered from 0) from `offset` on. */
export interface Region {
  readonly gpa: number
  readonly size: number
  readonly file: number
  readonly offset: number
}

export interface FrontendOptions {
  readonly path: string
  /** Request queues; the hiprio queue comes on top. */
  readonly requestQueues?: number
  /** Entries of each ring, a power of two. */
  readonly queueSize?: number
  readonly eventIdx?: boolean
  readonly indirect?: boolean
  /** Guest memory; by default 64 MiB with the hole below 1 MiB that a PC has, in one file. */
  readonly regions?: readonly Region[]
  /** How the back-end learns of the memory: by ADD_MEM_REG, where it offers that, or by SET_MEM_TABLE. */
  readonly memory?: 'slots' | 'table'
  readonly acks?: Acks
  /** Negotiates CONFIG, to ask for the virtio-fs tag (QEMU 7.2 does not). */
  readonly config?: boolean
  /** Queues that get addresses and a kick fd; all by default. A guest with few CPUs starts few. */
  readonly startQueues?: number
  /** False for back-ends that do not keep virtio's rule that used.len is the reply's length. */
  readonly checkUsedLength?: boolean
  /** For control messages and requests. */
  readonly timeoutMs?: number
}

type Optional = 'seed' | 'maxOps' | 'seconds' | 'coldEvery' | 'coldFrom'

export type BenchOptions = Omit<NativeBenchOptions, Optional> & {
  /** By default the first request queue. */
  readonly queues?: readonly number[]
  readonly seed?: number
  /** It ends with whichever comes first. */
  readonly maxOps?: number
  readonly seconds?: number
  readonly coldEvery?: number
  readonly coldFrom?: number
}

const MIB = 1 << 20
/** Where a PC has devices instead of memory. */
const PC_HOLE = { start: 0xa0000, end: 0xc0000 }

/** Memory of a PC: everything but the hole below 1 MiB, in one file. */
export function pcMemory(size: number): Region[] {
  return [
    { gpa: 0, size: PC_HOLE.start, file: 0, offset: 0 },
    { gpa: PC_HOLE.end, size: size - PC_HOLE.end, file: 0, offset: PC_HOLE.end },
  ]
}

export class VhostFrontend extends VhostConnection {
  readonly options: Required<FrontendOptions>
  readonly requests: Requests
  /** Negotiated virtio features; 0 before connect. */
  features = 0n
  readonly #fds: number[] = []
  /** Regions that the back-end was told of. */
  #announced: readonly Region[] = []
  #queuesMade = false

  constructor(options: FrontendOptions) {
    const all = withDefaults(options)
    const end = Math.max(...all.regions.map(region => region.gpa + region.size))
    // Address space for memory that is added later.
    const requests = new Requests(end + 1024 * MIB, all.timeoutMs)
    super(requests.native, all.acks, all.timeoutMs)
    this.options = all
    this.requests = requests
    for (const region of this.options.regions) this.mapRegion(region)
  }

  /** All queues, the hiprio queue (index 0) included. */
  get queueCount(): number {
    return this.options.requestQueues + 1
  }

  /** What QEMU says when a VM is created. */
  async connect(): Promise<void> {
    const { options } = this
    this.native.connect(options.path)
    const offered = await this.ask(VHOST.GET_FEATURES)
    let wanted: bigint = FEATURE.PROTOCOL_FEATURES | FEATURE.VERSION_1
    if (options.eventIdx) wanted |= FEATURE.EVENT_IDX
    if (options.indirect) wanted |= FEATURE.INDIRECT_DESC
    this.features = offered & wanted
    const protocol = await this.ask(VHOST.GET_PROTOCOL_FEATURES)
    let mask = vhost.QEMU_PROTOCOL_FEATURES
    if (options.config) mask |= PROTOCOL_FEATURE.CONFIG
    if (options.acks === 'none') mask &= ~PROTOCOL_FEATURE.REPLY_ACK
    if (options.memory === 'table') mask &= ~PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS
    this.protocolFeatures = protocol & mask
    await this.tell(VHOST.SET_PROTOCOL_FEATURES, u64(this.protocolFeatures))
    if (this.has(PROTOCOL_FEATURE.MQ)) {
      const queues = await this.ask(VHOST.GET_QUEUE_NUM)
      if (queues < BigInt(this.queueCount))
        throw refused(`the back-end offers ${queues} queues, ${this.queueCount} are wanted`)
    }
    if (this.has(PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS)) await this.ask(VHOST.GET_MAX_MEM_SLOTS)
    await this.tell(VHOST.SET_OWNER)
    await this.ask(VHOST.GET_FEATURES)
    if (!this.#queuesMade) {
      const eventIdx = (this.features & FEATURE.EVENT_IDX) !== 0n
      const indirect = (this.features & FEATURE.INDIRECT_DESC) !== 0n
      this.native.makeQueues(this.queueCount, options.queueSize, eventIdx, indirect, options.checkUsedLength)
      this.#queuesMade = true
    }
    for (let queue = 0; queue < this.queueCount; queue++) {
      await this.eventFd(VHOST.SET_VRING_CALL, queue, this.native.queue(queue).callFd)
      await this.eventFd(VHOST.SET_VRING_ERR, queue, this.native.queue(queue).errorFd)
    }
  }

  /** The driver binds: memory, then the rings. `bases`: where each ring goes on; 0 for a fresh driver. */
  async start(bases: readonly number[] = []): Promise<void> {
    await this.#forQueues(queue => this.eventFd(VHOST.SET_VRING_CALL, queue, this.native.queue(queue).callFd))
    await this.tell(VHOST.SET_FEATURES, u64(this.features))
    if (this.has(PROTOCOL_FEATURE.STATUS)) {
      await this.ask(VHOST.GET_STATUS)
      await this.tell(VHOST.SET_STATUS, u64(BigInt(vhost.STATUS.DRIVER_OK)))
    }
    if (this.#announced.length === 0) await this.announce(this.options.regions)
    for (let queue = 0; queue < Math.min(this.options.startQueues, this.queueCount); queue++)
      await this.startRing(queue, bases[queue] ?? 0)
    await this.#forQueues(queue => this.tell(VHOST.SET_VRING_ENABLE, state(queue, 1)))
    await this.#forQueues(queue => this.eventFd(VHOST.SET_VRING_CALL, queue, this.native.queue(queue).callFd))
  }

  async startRing(queue: number, base: number): Promise<void> {
    const ring = this.native.queue(queue)
    await this.tell(VHOST.SET_VRING_NUM, state(queue, ring.size))
    await this.tell(VHOST.SET_VRING_BASE, state(queue, base))
    const address = new Uint8Array(vhost.VringAddr.size)
    vhost.VringAddr.write(address, {
      index: queue,
      desc: this.userAddress(ring.descriptors),
      used: this.userAddress(ring.used),
      avail: this.userAddress(ring.avail),
    })
    await this.tell(VHOST.SET_VRING_ADDR, address)
    await this.eventFd(VHOST.SET_VRING_KICK, queue, ring.kickFd)
  }

  /** The driver unbinds or the VM stops: every ring is drained. Returns each ring's next available index. */
  async stop(): Promise<number[]> {
    await this.#forQueues(queue => this.tell(VHOST.SET_VRING_ENABLE, state(queue, 0)))
    const bases: number[] = []
    await this.#forQueues(async queue => {
      this.send(VHOST.GET_VRING_BASE, state(queue, 0))
      bases.push(vhost.VringState.read((await this.reply(VHOST.GET_VRING_BASE)).payload).num)
    })
    return bases
  }

  /** A guest reboot: rings are stopped and emptied, then the driver binds again. Connection and memory stay. */
  async reboot(): Promise<void> {
    await this.stop()
    this.requests.fail('the guest rebooted')
    for (let queue = 0; queue < this.queueCount; queue++) this.native.resetQueue(queue)
    await this.start()
  }

  /** Connects again with the rings as they are, after the connection was lost: what a reconnecting VMM does. */
  async reconnect(): Promise<void> {
    this.native.disconnect()
    this.#announced = []
    await this.connect()
    await this.start(
      Array.from({ length: this.queueCount }, (_, queue) => this.native.queue(queue).usedIndex),
    )
  }

  /** Makes memory of the guest's own; the back-end does not know of it yet. */
  mapRegion(region: Region): void {
    for (let file = this.#fds.length; file <= region.file; file++) {
      const parts = [...this.options.regions, region].filter(part => part.file === file)
      this.#fds.push(this.native.addFile(Math.max(0, ...parts.map(part => part.offset + part.size))))
    }
    this.native.addRegion(region.file, region.gpa, region.size, region.offset)
  }

  /** The fd of a memory file: to truncate it, for instance. */
  fileFd(file: number): number {
    const fd = this.#fds[file]
    if (fd === undefined) throw new RangeError(`the guest has no memory file ${file}`)
    return fd
  }

  /** Tells the back-end about more memory. */
  async announce(regions: readonly Region[]): Promise<void> {
    this.#announced = [...this.#announced, ...regions]
    if (this.has(PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS)) {
      for (const region of regions) {
        const payload = new Uint8Array(vhost.SingleRegion.size)
        vhost.SingleRegion.write(payload, { region: this.encodeRegion(region) })
        await this.tell(VHOST.ADD_MEM_REG, payload, [this.fileFd(region.file)])
      }
      return
    }
    await this.#tellTable()
  }

  /** Takes memory away from the back-end again. */
  async withdraw(region: Region): Promise<void> {
    this.#announced = this.#announced.filter(known => known !== region)
    if (!this.has(PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS)) {
      await this.#tellTable()
      return
    }
    const payload = new Uint8Array(vhost.SingleRegion.size)
    vhost.SingleRegion.write(payload, { region: this.encodeRegion(region) })
    await this.tell(VHOST.REM_MEM_REG, payload)
  }

  encodeRegion(region: Region): Uint8Array {
    const out = new Uint8Array(vhost.MemRegion.size)
    vhost.MemRegion.write(out, {
      gpa: BigInt(region.gpa),
      size: BigInt(region.size),
      userAddress: this.userAddress(region.gpa),
      mmapOffset: BigInt(region.offset),
    })
    return out
  }

  userAddress(gpa: number): bigint {
    return BigInt(this.native.base() + gpa)
  }

  /** A FUSE request; see Requests.send. */
  request(
    opcode: number,
    nodeid: number | bigint,
    parts: readonly Uint8Array[],
    replyCapacity: number,
    options?: RequestOptions,
  ): Promise<FuseReply> {
    return this.requests.send(opcode, nodeid, parts, replyCapacity, options)
  }

  bench(options: BenchOptions): Promise<BenchResult> {
    const { queues, ...rest } = options
    return this.native.bench(queues ?? [1], {
      seed: 1,
      maxOps: Number.MAX_SAFE_INTEGER,
      seconds: 1,
      coldEvery: 0,
      coldFrom: 0,
      ...rest,
    })
  }

  /** Ends everything, as abruptly as a VMM that is killed. */
  close(): void {
    this.requests.fail('the front-end was closed')
    this.native.close()
  }

  async #tellTable(): Promise<void> {
    const payload = new Uint8Array(vhost.MemTableHeader.size + this.#announced.length * vhost.MemRegion.size)
    vhost.MemTableHeader.write(payload, { regions: this.#announced.length })
    this.#announced.forEach((region, i) => {
      payload.set(this.encodeRegion(region), vhost.MemTableHeader.size + i * vhost.MemRegion.size)
    })
    const fds = this.#announced.map(region => this.fileFd(region.file))
    await this.tell(VHOST.SET_MEM_TABLE, payload, fds)
  }

  async #forQueues(step: (queue: number) => Promise<void>): Promise<void> {
    for (let queue = 0; queue < this.queueCount; queue++) await step(queue)
  }
}

function withDefaults(options: FrontendOptions): Required<FrontendOptions> {
  const requestQueues = options.requestQueues ?? 1
  return {
    requestQueues,
    queueSize: 128,
    eventIdx: true,
    indirect: true,
    regions: pcMemory(64 * MIB),
    memory: 'slots',
    acks: 'memory',
    config: false,
    startQueues: requestQueues + 1,
    checkUsedLength: true,
    timeoutMs: 30_000,
    ...options,
  }
}
