/**
 * All mounted images of a daemon: opens them, hands them to the mount table, fetches for their cold reads.
 *
 *     API, command line ── Instances ── Instance (bootstrap, blobs, backend)
 *                              └─────── MountTable ── lanes
 *
 * Mounts happen one after the other; nothing else waits for them.
 */
import { NydusError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { METRIC } from '../fuse/abi.js'
import { BYTES_READ, ERRORS, READ_SIZES, sizeBucket, stripeOf } from '../fuse/counters.js'
import type { ImageHandle } from '../rafs/handle.js'
import { replyBytes, type ColdFetched, type ColdSource } from '../vfs/cold-reads.js'
import type { ColdRead } from '../vfs/filesystem.js'
import type { MountInfo, MountTable } from '../vfs/mount-table.js'
import type { Images } from './images.js'
import type { Instance } from './instance.js'
import type { Preparation } from './mount-request.js'

/** A mount as the API and the metrics see it. */
export interface Mounted {
  readonly mount: MountInfo<ImageHandle>
  readonly instance: Instance
}

/** Each mount has a log of its own, which names it in every line. */
export interface InstancesContext {
  readonly images: Images
  readonly log: Log & { child(fields: object): Log }
  readonly onMounted: () => void
}

export class Instances implements ColdSource {
  readonly #context: InstancesContext
  readonly #table: MountTable<ImageHandle>
  readonly #byHandle = new Map<ImageHandle, Instance>()
  #last: Promise<unknown> = Promise.resolve()

  constructor(table: MountTable<ImageHandle>, context: InstancesContext) {
    this.#table = table
    this.#context = context
  }

  list(): Mounted[] {
    return this.#table.list().flatMap(mount => {
      const instance = this.#byHandle.get(mount.image)
      return instance ? [{ mount, instance }] : []
    })
  }

  /** Throws NydusError VFS_NOT_MOUNTED, VFS_PATH_INVALID. */
  at(mountpoint: string): Mounted {
    const mount = this.#table.find(mountpoint)
    const instance = mount && this.#byHandle.get(mount.image)
    if (mount === undefined || instance === undefined)
      throw new NydusError('VFS_NOT_MOUNTED', 'ENOENT', `nothing is mounted at mountpoint '${mountpoint}'`)
    return { mount, instance }
  }

  /** When it rejects nothing has changed. */
  mount(mountpoint: string, wanted: Preparation): Promise<void> {
    return this.#oneByOne(async () => {
      if (this.#table.find(mountpoint) !== undefined)
        throw new NydusError('VFS_MOUNTED', 'EEXIST', `mountpoint '${mountpoint}' is in use`)
      await this.#open(wanted, source => this.#table.mount(mountpoint, source), mountpoint)
    })
  }

  /** Puts another image in the place of one; when it rejects nothing has changed. */
  remount(mountpoint: string, wanted: Preparation): Promise<void> {
    return this.#oneByOne(async () => {
      this.at(mountpoint)
      await this.#open(wanted, source => this.#table.remount(mountpoint, source), mountpoint)
    })
  }

  umount(mountpoint: string): Promise<void> {
    return this.#oneByOne(async () => {
      await this.#table.unmount(mountpoint)
      this.#context.log.info({ mountpoint }, 'unmounted')
    })
  }

  async fetch(read: ColdRead, signal: AbortSignal): Promise<ColdFetched> {
    const handle = this.#table.imageAt(read.slot)
    const instance = handle && this.#byHandle.get(handle)
    if (instance === undefined)
      throw new NydusError('VFS_UNMOUNTED', 'ESTALE', `the image of slot ${read.slot} was unmounted`)
    return await instance.fetch(read, signal)
  }

  /** A read that lanes had counted as answered failed: the yard's part of the counters, the one behind the lanes', says so. */
  readFailed(read: ColdRead, yardPart: number): void {
    const bytes = replyBytes(read.extents)
    const shared = this.#table.countersAt(read.slot)
    if (shared !== undefined) {
      const counters = stripeOf(shared, yardPart)
      const add = (at: number, by: number): number => (counters[at] = (counters[at] ?? 0) + by)
      add(ERRORS + METRIC.READ, 1)
      add(BYTES_READ, -bytes)
      add(READ_SIZES + sizeBucket(bytes), -1)
    }
    const handle = this.#table.imageAt(read.slot)
    if (handle !== undefined) this.#byHandle.get(handle)?.readFailed(read.ino, bytes)
  }

  /** Closes every image, without telling the lanes: they have ended. */
  async close(): Promise<void> {
    await this.#last
    const instances = [...this.#byHandle.values()]
    this.#byHandle.clear()
    await Promise.allSettled(instances.map(instance => instance.close()))
  }

  async #open(
    { source, config, warnings, prefetchFiles }: Preparation,
    take: (source: { image: ImageHandle; release: () => Promise<void> }) => Promise<number>,
    mountpoint: string,
  ): Promise<void> {
    const log = this.#context.log.child({ mountpoint })
    for (const warning of warnings) log.warn({}, warning)
    const instance = await this.#context.images.open(source, config, log)
    const { handle } = instance
    this.#byHandle.set(handle, instance)
    const release = async (): Promise<void> => {
      this.#byHandle.delete(handle)
      await instance.close()
    }
    try {
      await take({ image: handle, release })
    } catch (error) {
      await release()
      throw error
    }
    const { version, blobs } = instance.image
    log.info({ source, rafs: version, blobs: blobs.length, backend: config.backend.type }, 'mounted')
    instance.startPrefetch(prefetchFiles)
    this.#context.onMounted()
  }

  #oneByOne<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work)
    this.#last = result.catch(() => undefined)
    return result
  }
}
