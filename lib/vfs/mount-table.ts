/**
 * The mount table, in the yard: what is mounted where. It decides, the lanes follow.
 *
 *     mount(path, image) ── change {version, …} ── every lane applies it ── acknowledged ── the caller hears of it
 *
 * Changes are made one after the other. It knows images only as what lanes can open (`Image`) and the yard releases.
 */
import { NydusError, type Code, type Errno } from '../base/errors.js'
import type { MountChange, OpenedSlot } from './changes.js'
import { FLEETING_MS } from './filesystem.js'
import { FolderTree, type TreeFolder } from './folder-tree.js'
import { mountComponents, mountPath } from './mount-path.js'
import { Slots } from './slots.js'

/** How often slots that only old handles use are looked at, and how many of them a mount may have. */
const SWEEP_MS = 10_000
const RETIRED_MAX = 16

/** An image that somebody mounts; its owner until the mount has succeeded is the caller. */
export interface MountSource<Image> {
  /** What lanes open; structured-cloneable. */
  readonly image: Image
  /** Called once, when no lane answers from it any more. */
  release(): Promise<void>
}

/** Where the table sends its changes: resolves when all lanes have applied them. */
export interface LaneGroup<Image> {
  broadcast(change: MountChange<Image>): Promise<readonly LaneComplaint[]>
}

/** A lane that could not open an image. */
export interface LaneComplaint {
  readonly slot: number
  readonly code: string
  readonly errno: string
  readonly message: string
}

export interface MountTableOptions<Image> {
  readonly lanes: LaneGroup<Image>
  /** References of the guest's kernel into a slot. */
  readonly lookupCount: (slot: number) => number
  /** Counters for a mount, shared with the lanes. */
  readonly newCounters: () => SharedArrayBuffer
  /** A slot will get no more requests: whatever waits for data of it can be ended. */
  readonly onClosed: (slot: number) => void
  /** Waits so many milliseconds. */
  readonly sleep: (ms: number) => Promise<void>
  /** Something failed that nobody waits for. */
  readonly onError: (error: unknown) => void
  readonly slotLimit?: number
}

/** One mount, as `list` shows it. */
export interface MountInfo<Image> {
  readonly path: string
  readonly slot: number
  readonly image: Image
  readonly counters: SharedArrayBuffer
  /** Milliseconds since 1970. */
  readonly mountedAt: number
}

/** An opened image and the slots that lead to it. */
interface Volume<Image> {
  readonly id: number
  readonly source: MountSource<Image>
  readonly slots: Set<number>
}

interface Mount<Image> {
  readonly path: string
  readonly components: readonly string[]
  readonly folder: TreeFolder
  readonly counters: SharedArrayBuffer
  readonly mountedAt: number
  slot: number
  volume: Volume<Image>
  /** Slots that the path no longer leads to, but guests may: the oldest first. */
  readonly retired: Map<number, Volume<Image>>
}

export class MountTable<Image> {
  readonly #options: MountTableOptions<Image>
  readonly #slots: Slots
  readonly #tree = new FolderTree()
  readonly #mounts = new Map<string, Mount<Image>>()
  readonly #open = new Map<number, OpenedSlot<Image>>()
  #version = 0
  #generation = 0
  #volumes = 0
  #last: Promise<unknown> = Promise.resolve()
  #sweeper: NodeJS.Timeout | undefined

  constructor(options: MountTableOptions<Image>) {
    this.#options = options
    this.#slots = new Slots(options.lookupCount, options.slotLimit)
  }

  list(): MountInfo<Image>[] {
    return [...this.#mounts.values()].map(mount => this.#info(mount))
  }

  /** The mount at exactly that path. */
  find(path: string): MountInfo<Image> | undefined {
    const mount = this.#mounts.get(mountPath(mountComponents(path)))
    return mount === undefined ? undefined : this.#info(mount)
  }

  /** What a mount slot shows, retired ones included. */
  imageAt(slot: number): Image | undefined {
    return this.#open.get(slot)?.image
  }

  /** Counters of the mount that a slot belongs to. */
  countersAt(slot: number): SharedArrayBuffer | undefined {
    return this.#open.get(slot)?.counters
  }

  /** Everything, for a lane that starts: the state as of `version`. */
  snapshot(): MountChange<Image> {
    return {
      version: this.#version,
      opened: [...this.#open.values()],
      folders: this.#tree.all(),
      gone: [],
      closed: [],
    }
  }

  /**
   * Mounts an image; resolves with its slot when every lane serves it. When it rejects, nothing has changed and the source
   * is still the caller's: VFS_PATH_INVALID, VFS_MOUNTED, VFS_SLOTS_EXHAUSTED, or what opening it led to.
   */
  async mount(path: string, source: MountSource<Image>): Promise<number> {
    const { slot, settle } = await this.#exclusive(async () => {
      const components = mountComponents(path)
      const name = mountPath(components)
      if (this.#mounts.has(name))
        throw new NydusError(
          'VFS_MOUNTED',
          'EEXIST',
          `mountpoint '${name}' is in use: something is mounted there`,
        )
      const outer = this.#hidingCached(components)
      const [slot, outerSlot] = this.#allocate(outer === undefined ? 1 : 2) as [number, number]
      const folder = this.#tree.reach(components)
      // A folder that leads to other mounts, and that a guest may have seen without this one.
      const known = folder.children.size > 0 && this.#options.lookupCount(0) > 0
      const mount: Mount<Image> = {
        path: name,
        components,
        folder,
        counters: this.#options.newCounters(),
        mountedAt: Date.now(),
        slot,
        volume: this.#newVolume(source),
        retired: new Map(),
      }
      this.#mounts.set(name, mount)
      const opened = [this.#openSlot(mount)]
      if (outer !== undefined) opened.push(this.#replaceSlot(outer, outerSlot, outer.volume))
      try {
        await this.#publish({ opened, ...this.#tree.take(), closed: [] })
      } catch (error) {
        await this.#publish(this.#withdraw(mount)).catch(this.#options.onError)
        throw error
      }
      return { slot, settle: known || outer !== undefined }
    })
    if (settle) await this.#options.sleep(FLEETING_MS)
    return slot
  }

  /**
   * Puts another image in the place of a mounted one. What a guest has open goes on with the old image, until it lets
   * go of it or the path is unmounted. When it rejects, nothing has changed.
   */
  async remount(path: string, source: MountSource<Image>): Promise<number> {
    const { slot, settle } = await this.#exclusive(async () => {
      const mount = this.#at(path)
      const [slot] = this.#allocate(1) as [number]
      const { slot: oldSlot, volume: oldVolume } = mount
      const opened = [this.#replaceSlot(mount, slot, this.#newVolume(source))]
      try {
        await this.#publish({ opened, ...this.#tree.take(), closed: [] })
      } catch (error) {
        mount.slot = oldSlot
        mount.volume = oldVolume
        mount.retired.delete(oldSlot)
        this.#tree.setSlot(mount.folder, oldSlot)
        this.#open.delete(slot)
        this.#slots.free(slot)
        const back = { opened: [], ...this.#tree.take(), closed: [slot] }
        await this.#publish(back).catch(this.#options.onError)
        throw error
      }
      return { slot, settle: this.#options.lookupCount(oldSlot) > 0 }
    })
    if (settle) await this.#options.sleep(FLEETING_MS)
    await this.#exclusive(() => this.#sweep())
    return slot
  }

  /** Resolves when every lane has handed over all replies that it had begun. */
  async settled(): Promise<void> {
    await this.#exclusive(() => this.#publish({ opened: [], folders: [], gone: [], closed: [] }))
  }

  /** Unmounts; resolves when no lane answers from the image any more and it has been released. */
  async unmount(path: string): Promise<void> {
    const { volumes, settle, failed } = await this.#exclusive(async () => {
      const mount = this.#at(path)
      const volumes = new Set([mount.volume, ...mount.retired.values()])
      const change = this.#withdraw(mount)
      const settle =
        change.closed.some(slot => this.#options.lookupCount(slot) > 0) ||
        (change.gone.length > 1 && this.#options.lookupCount(0) > 0)
      const failed = await this.#publish(change).catch((error: unknown) => ({ error }))
      for (const slot of change.closed) this.#options.onClosed(slot)
      return { volumes, settle, failed }
    })
    if (settle) await this.#options.sleep(FLEETING_MS)
    await this.#release(volumes)
    // Not even a lane that does not answer keeps an image: what it may still say of it, the addon refuses.
    if (failed !== undefined) throw failed.error
  }

  /** Unmounts everything. */
  async close(): Promise<void> {
    for (const { path } of this.list()) await this.unmount(path)
    clearTimeout(this.#sweeper)
  }

  #at(path: string): Mount<Image> {
    const name = mountPath(mountComponents(path))
    const mount = this.#mounts.get(name)
    if (mount === undefined)
      throw new NydusError('VFS_NOT_MOUNTED', 'ENOENT', `nothing is mounted at mountpoint '${name}'`)
    return mount
  }

  #info(mount: Mount<Image>): MountInfo<Image> {
    const { path, slot, counters, mountedAt } = mount
    return { path, slot, counters, mountedAt, image: mount.volume.source.image }
  }

  /** One change at a time, in the order of the calls. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work)
    this.#last = result.catch(() => undefined)
    return result
  }

  /** The mount that a path lies in, other than one at the path itself. */
  #enclosing(components: readonly string[]): Mount<Image> | undefined {
    for (let length = components.length - 1; length >= 0; length--) {
      const mount = this.#mounts.get(mountPath(components.slice(0, length)))
      if (mount !== undefined) return mount
    }
    return undefined
  }

  /**
   * The mount whose image a guest may have cached, for ever, where a new mount point goes. That image gets another
   * slot: the way to it is asked again, and all that hangs below with it. Names in the root are never cached for
   * long, so there it need not.
   */
  #hidingCached(components: readonly string[]): Mount<Image> | undefined {
    const outer = this.#enclosing(components)
    if (outer === undefined || (outer.components.length === 0 && components.length === 1)) return undefined
    return this.#options.lookupCount(outer.slot) > 0 ? outer : undefined
  }

  /** All or none. */
  #allocate(count: number): number[] {
    const slots: number[] = []
    try {
      while (slots.length < count) slots.push(this.#slots.allocate())
    } catch (error) {
      for (const slot of slots) this.#slots.free(slot)
      throw error
    }
    return slots
  }

  #newVolume(source: MountSource<Image>): Volume<Image> {
    return { id: ++this.#volumes, source, slots: new Set() }
  }

  /** Has the slot of a mount answer. */
  #openSlot(mount: Mount<Image>): OpenedSlot<Image> {
    const { slot, volume } = mount
    const opened = {
      slot,
      generation: ++this.#generation,
      volume: volume.id,
      folder: mount.folder.ino,
      image: volume.source.image,
      counters: mount.counters,
    }
    volume.slots.add(slot)
    this.#open.set(slot, opened)
    this.#tree.setSlot(mount.folder, slot)
    return opened
  }

  /** Gives a mount another slot; the one it had serves old handles only. */
  #replaceSlot(mount: Mount<Image>, slot: number, volume: Volume<Image>): OpenedSlot<Image> {
    mount.retired.set(mount.slot, mount.volume)
    mount.slot = slot
    mount.volume = volume
    this.#startSweeper()
    return this.#openSlot(mount)
  }

  /** Takes a mount out of the table; the change that tells the lanes. */
  #withdraw(mount: Mount<Image>): Omit<MountChange<Image>, 'version'> {
    this.#mounts.delete(mount.path)
    this.#tree.setSlot(mount.folder, 0)
    this.#tree.prune(mount.folder)
    const closed = [mount.slot, ...mount.retired.keys()]
    for (const slot of closed) this.#forget(slot, mount.retired.get(slot) ?? mount.volume)
    return { opened: [], ...this.#tree.take(), closed }
  }

  #forget(slot: number, volume: Volume<Image>): void {
    volume.slots.delete(slot)
    this.#open.delete(slot)
    this.#slots.free(slot)
  }

  async #release(volumes: Iterable<Volume<Image>>): Promise<void> {
    for (const volume of volumes) {
      if (volume.slots.size > 0) continue
      try {
        await volume.source.release()
      } catch (error) {
        this.#options.onError(error)
      }
    }
  }

  async #publish(change: Omit<MountChange<Image>, 'version'>): Promise<void> {
    this.#version++
    const [complaint] = await this.#options.lanes.broadcast({ version: this.#version, ...change })
    if (complaint === undefined) return
    throw new NydusError(complaint.code as Code, complaint.errno as Errno, complaint.message)
  }

  #startSweeper(): void {
    if (this.#sweeper !== undefined) return
    this.#sweeper = setInterval(() => {
      this.#exclusive(() => this.#sweep()).catch(this.#options.onError)
    }, SWEEP_MS)
    this.#sweeper.unref()
  }

  /** Closes retired slots that no guest refers to any more, and the oldest where a mount has too many. */
  async #sweep(): Promise<void> {
    const closed: number[] = []
    const volumes = new Set<Volume<Image>>()
    let retired = 0
    for (const mount of this.#mounts.values()) {
      for (const [slot, volume] of mount.retired) {
        if (this.#options.lookupCount(slot) > 0 && mount.retired.size <= RETIRED_MAX) continue
        mount.retired.delete(slot)
        this.#forget(slot, volume)
        closed.push(slot)
        volumes.add(volume)
      }
      retired += mount.retired.size
    }
    if (closed.length > 0) {
      await this.#publish({ opened: [], folders: [], gone: [], closed })
      for (const slot of closed) this.#options.onClosed(slot)
      await this.#release(volumes)
    }
    if (retired > 0) return
    clearInterval(this.#sweeper)
    this.#sweeper = undefined
  }
}
