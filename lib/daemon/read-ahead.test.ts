import t, { type Test } from 'tap'
import type { ChunkWant, Fetched, FetchOptions } from '../cache/cache.js'
import type { FileChunk } from '../rafs/image.js'
import { silentLog } from '../base/log.js'
import { ReadAhead } from './read-ahead.js'

const MIB = 1 << 20
const LARGE = 128 << 10
const [FILE, OTHER] = [7, 8]
const CHUNKS = 100

interface Asked {
  readonly indexes: readonly number[]
  readonly options: FetchOptions
  readonly end: (error?: Error) => void
}

/** Two files of 100 chunks of 1 MiB each; what is fetched is there when the test says so. */
function rig(amplify = MIB) {
  const ready = new Set<number>()
  const asked: Asked[] = []
  const unmount = new AbortController()
  const chunks = function* (ino: number, from = 0): Generator<FileChunk> {
    for (let k = Math.floor(from / MIB); k < CHUNKS; k++) {
      const index = (ino - FILE) * CHUNKS + k
      const want = { index, uncompressedOffset: index * MIB, uncompressedSize: MIB }
      yield { blob: 0, fileOffset: k * MIB, want }
    }
  }
  const blob = {
    isReady: (index: number) => ready.has(index),
    fetch: (wants: readonly ChunkWant[], options: FetchOptions = {}) =>
      new Promise<Fetched>((resolve, reject) => {
        const indexes = wants.map(({ index }) => index)
        const end = (error?: Error): void => {
          if (error !== undefined) return reject(error)
          for (const index of indexes) ready.add(index)
          resolve({ placements: [], backendBytes: 0, release: () => {} })
        }
        asked.push({ indexes, options, end })
      }),
  }
  const { signal } = unmount
  const ahead = new ReadAhead({ image: { chunks }, blobs: [blob], amplify, signal, log: silentLog })
  return { ahead, ready, asked, unmount }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i)
}

/** Chunks of each fetch so far. */
function fetched(asked: readonly Asked[]): (readonly number[])[] {
  return asked.map(({ indexes }) => indexes)
}

/** Reads a file in pieces of 128 KiB, with what is missed there at once, as are all fetches. */
async function readThrough(t: Test, { ahead, ready, asked }: ReturnType<typeof rig>): Promise<number> {
  let misses = 0
  for (let at = 0; at < CHUNKS * MIB; at += LARGE) {
    const index = Math.floor(at / MIB)
    if (ready.has(index)) continue
    misses++
    ahead.missed(FILE, at, LARGE)
    ready.add(index)
    for (const { end } of asked) end()
    await t.resolves(Promise.resolve())
  }
  return misses
}

t.test('a file from front to back: more and more ahead, seldom a wait', async t => {
  const all = rig()
  const misses = await readThrough(t, all)
  t.same(fetched(all.asked).slice(0, 3), [range(1, 5), range(6, 14), range(15, 31)])
  t.equal(Math.max(...all.asked.map(({ indexes }) => indexes.length)), 16, 'up to a limit')
  t.ok(
    all.asked.every(({ indexes }) => indexes.every(index => index < CHUNKS)),
    'never the next file',
  )
  t.ok(
    all.asked.every(({ options }) => options.priority === 'prefetch'),
    'behind whatever a guest waits for',
  )
  t.equal(misses, 8, 'out of 100 chunks')
})

t.test('it goes on before a guest that keeps up comes to the end', async t => {
  const { ahead, asked } = rig()
  ahead.missed(FILE, 0, LARGE)
  for (const at of [LARGE, MIB, 2 * MIB]) ahead.missed(FILE, at, LARGE)
  t.same(fetched(asked), [range(1, 5)], 'all of that is on its way')
  ahead.missed(FILE, 3 * MIB, LARGE)
  t.same(fetched(asked), [range(1, 5), range(5, 13)])
  ahead.missed(FILE, 3 * MIB + LARGE, LARGE)
  t.equal(asked.length, 2, 'once')
})

t.test('a header, a mapped file, reads here and there: nothing', async t => {
  const { ahead, ready, asked } = rig()
  ahead.missed(FILE, 0, 16 << 10)
  ahead.missed(FILE, 50 * MIB + LARGE, LARGE)
  ahead.missed(FILE, 20 * MIB, LARGE)
  t.same(asked, [])
  ready.add(19)
  ahead.missed(FILE, 20 * MIB, 4096)
  t.same(fetched(asked), [range(21, 25)], 'the chunk in front of it is there')
})

t.test('a read that begins in a chunk that is there', async t => {
  const { ahead, ready, asked } = rig()
  ready.add(3)
  ahead.missed(FILE, 4 * MIB - 4096, LARGE)
  t.same(fetched(asked), [range(5, 9)])
})

t.test('files do not mix', async t => {
  const { ahead, asked } = rig()
  ahead.missed(FILE, 0, LARGE)
  ahead.missed(OTHER, 0, LARGE)
  t.same(fetched(asked), [range(1, 5), range(CHUNKS + 1, CHUNKS + 5)])
})

t.test('the end of the file', async t => {
  const { ahead, ready, asked } = rig()
  ready.add(CHUNKS - 4).add(CHUNKS - 2)
  ahead.missed(FILE, (CHUNKS - 3) * MIB, LARGE)
  ahead.missed(FILE, (CHUNKS - 1) * MIB, LARGE)
  t.same(fetched(asked), [range(CHUNKS - 2, CHUNKS)])
})

t.test('what was evicted is read ahead again', async t => {
  const all = rig()
  await readThrough(t, all)
  const before = all.asked.length
  all.ready.clear()
  all.ahead.missed(FILE, 0, LARGE)
  t.equal(all.asked.length, before + 1)
})

t.test('a failure is nobody’s business, and does not end it', async t => {
  const { ahead, asked } = rig()
  for (let i = 0; i < 20; i++) {
    ahead.missed(FILE + i, 0, LARGE)
    asked.at(-1)?.end(new Error('refused'))
    await new Promise(resolve => setImmediate(resolve))
  }
  t.equal(asked.length, 20)
})

t.test('its limits: fetches at once, amplify_io 0, an unmount', async t => {
  const { ahead, asked, unmount } = rig()
  for (let ino = FILE; ino < FILE + 20; ino++) ahead.missed(ino, 0, LARGE)
  t.equal(asked.length, 8)
  for (const { end } of asked) end()
  await new Promise(resolve => setImmediate(resolve))
  unmount.abort()
  ahead.missed(OTHER + 50, 0, LARGE)
  t.equal(asked.length, 8)
  const off = rig(0)
  off.ahead.missed(FILE, 0, LARGE)
  t.same(off.asked, [])
})
