/**
 * Jobs of a pool, stored in the order in which they were handed over. Bounded: so many are under way as the pool has
 * room for, each of about JOB_BYTES, and one is being filled.
 */
import { JOB_BYTES, type JobPool } from './job-pool.js'
import type { Slot } from './slot.js'

interface Running<Tag> {
  readonly done: Promise<Slot>
  readonly tag: Tag
}

/** `Tag`: what its owner has to know of a job when its turn comes. */
export class JobQueue<Tag> {
  readonly #pool: JobPool
  readonly #store: (done: Slot, tag: Tag) => Promise<void>
  readonly #running: Running<Tag>[] = []
  #slot: Slot

  /** `store` is called for one job after the other; the slot is used again when it has resolved. */
  constructor(pool: JobPool, store: (done: Slot, tag: Tag) => Promise<void>) {
    this.#pool = pool
    this.#store = store
    this.#slot = pool.take()
  }

  /** The job that is being filled; another one after `dispatch`. */
  get slot(): Slot {
    return this.#slot
  }

  /** Should a part of `length` bytes, with so many bytes of path, go into the job that is being filled? */
  fits(length: number, pathBytes: number): boolean {
    return this.#slot.bytes < JOB_BYTES && this.#slot.fits(length, pathBytes)
  }

  /**
   * Has the pool run the job that was filled, if there is anything in it; waits until another one may be. Throws what
   * a job before it failed with, or was not stored for.
   */
  async dispatch(kind: 'files' | 'bytes', tag: Tag): Promise<void> {
    if (this.#slot.parts === 0) return
    const done = this.#pool.run(this.#slot, kind)
    // Its failure is met when its turn comes; until then nobody waits for it.
    done.catch(() => undefined)
    this.#running.push({ done, tag })
    while (this.#running.length >= this.#pool.depth) await this.#storeOldest()
    this.#slot = this.#pool.take()
  }

  /** Waits until all jobs that were handed over are stored. Throws as `dispatch` does. */
  async settle(): Promise<void> {
    while (this.#running.length > 0) await this.#storeOldest()
  }

  /** Gives back the slot that nothing was filled into, so that another queue has room in the pool. */
  close(): void {
    this.#pool.release(this.#slot)
  }

  async #storeOldest(): Promise<void> {
    const job = this.#running.shift()
    if (job === undefined) return
    const done = await job.done
    await this.#store(done, job.tag)
    this.#pool.release(done)
  }
}
