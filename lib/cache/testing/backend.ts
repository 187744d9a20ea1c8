/** A backend under a test's control: counts what is asked, and waits, fails and lies when told to. */
import type { Backend, BlobReader, ReadOptions } from '../../backend/backend.js'
import { openLocalfs } from '../../backend/localfs.js'
import { NydusError } from '../../base/errors.js'

export interface Asked extends ReadOptions {
  readonly blobId: string
  readonly offset: number
  readonly length: number
}

export class TestBackend implements Backend {
  readonly type = 'localfs'
  readonly asked: Asked[] = []
  /** Called when a read arrives; what it returns is waited for before the bytes come. */
  gate: (asked: Asked) => Promise<void> | void = () => {}
  /** Called when the bytes of a read are there; what it returns is waited for before the read ends. */
  rest: (asked: Asked) => Promise<void> | void = () => {}
  /** Changes the bytes of a read. */
  tamper: (asked: Asked, bytes: Uint8Array) => void = () => {}
  /** Reads going on, and the most that there were. */
  running = 0
  most = 0
  readonly #inner: Backend

  constructor(dir: string) {
    this.#inner = openLocalfs({ type: 'localfs', localfs: { dir, blob_file: '', alt_dirs: [] } })
  }

  get metrics(): Backend['metrics'] {
    return this.#inner.metrics
  }

  /** Bytes asked for. */
  get bytes(): number {
    return this.asked.reduce((sum, asked) => sum + asked.length, 0)
  }

  open(blobId: string): BlobReader {
    const reader = this.#inner.open(blobId)
    return {
      blobId,
      size: options => reader.size(options),
      close: () => reader.close(),
      read: async (into, offset, options) => {
        const asked = { ...options, blobId, offset, length: into.byteLength }
        this.asked.push(asked)
        this.running++
        this.most = Math.max(this.most, this.running)
        try {
          await this.gate(asked)
          options?.signal?.throwIfAborted()
          await reader.read(into, offset, options)
          this.tamper(asked, into)
          await this.rest(asked)
        } finally {
          this.running--
        }
      },
    }
  }

  /** Makes every read fail from now on. */
  break(): void {
    this.gate = () => {
      throw new NydusError('BACKEND_DOWN', 'EIO', 'the backend is down')
    }
  }

  heal(): void {
    this.gate = () => {}
  }

  reconfigure(): void {}

  async close(): Promise<void> {}
}

/** A door that reads wait at; `arrived` resolves when `count` of them stand there. */
export class Gate {
  #open: () => void = () => {}
  readonly #opened = new Promise<void>(resolve => {
    this.#open = resolve
  })
  #waiting = 0
  #watchers: { readonly count: number; readonly resolve: () => void }[] = []

  pass = (asked: Asked): Promise<void> => {
    this.#waiting++
    for (const watcher of this.#watchers) if (this.#waiting >= watcher.count) watcher.resolve()
    return new Promise((resolve, reject) => {
      asked.signal?.addEventListener('abort', () => reject(asked.signal?.reason))
      void this.#opened.then(resolve)
    })
  }

  arrived(count: number): Promise<void> {
    if (this.#waiting >= count) return Promise.resolve()
    return new Promise(resolve => this.#watchers.push({ count, resolve }))
  }

  open(): void {
    this.#open()
  }
}
