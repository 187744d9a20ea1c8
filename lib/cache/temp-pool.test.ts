import fc from 'fast-check'
import { fstatSync, writeSync } from 'node:fs'
import t from 'tap'
import { RangeAllocator } from './range-allocator.js'
import { TempPool, type PoolEntry } from './temp-pool.js'

t.test('ranges never overlap, and everything given back can be taken again', async () => {
  const operation = fc.record({
    take: fc.boolean(),
    length: fc.integer({ min: 1, max: 70_000 }),
    pick: fc.nat(),
  })
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 200 }), operations => {
      const total = 1 << 20
      const allocator = new RangeAllocator(total, 4096)
      const taken: { offset: number; length: number }[] = []
      for (const { take, length, pick } of operations) {
        if (!take && taken.length > 0) {
          const [range] = taken.splice(pick % taken.length, 1)
          if (range !== undefined) allocator.give(range.offset, range.length)
          continue
        }
        const offset = allocator.take(length)
        if (offset === undefined) continue
        const end = offset + allocator.rounded(length)
        if (end > total) throw new Error(`${end} is behind the end`)
        for (const other of taken)
          if (offset < other.offset + allocator.rounded(other.length) && other.offset < end)
            throw new Error(`${offset} overlaps ${other.offset}`)
        taken.push({ offset, length })
      }
      for (const range of taken) allocator.give(range.offset, range.length)
      return allocator.take(total) === 0
    }),
  )
})

const KEEP = new AbortController().signal

function decoded(entry: PoolEntry): PoolEntry {
  entry.bad = new Set()
  return entry
}

function allocate(pool: TempPool, ...sizes: [string, number][]): PoolEntry[] {
  return pool.allocate(sizes.map(([key, size]) => ({ key, size }))) ?? []
}

t.test('what was used longest ago makes room; what is in use stays', async t => {
  const pool = new TempPool(4 * 4096)
  t.teardown(() => pool.close())
  const [a, b, c] = allocate(pool, ['a', 4096], ['b', 4096], ['c', 4096])
  for (const entry of [a, b, c]) if (entry !== undefined) decoded(entry)
  if (a !== undefined) pool.unpin(a)
  if (b !== undefined) pool.unpin(b)
  t.equal(pool.find('a'), a)
  t.ok(allocate(pool, ['d', 4097]).length === 1, 'b goes: a was looked for since, c is in use')
  t.equal(pool.find('b'), undefined)
  t.equal(pool.find('c'), c)
  t.equal(pool.used, 4 * 4096)
  t.equal(pool.allocate([{ key: 'e', size: 3 * 4096 }]), undefined, 'c and d are in use')
  t.throws(() => pool.allocate([{ key: 'f', size: 4 * 4096 + 1 }]), { code: 'CACHE_POOL_SMALL' })
})

t.test('a place that was never filled, or is stale, is not kept', async t => {
  const pool = new TempPool(1 << 20)
  t.teardown(() => pool.close())
  const [empty] = allocate(pool, ['x/1', 5000])
  if (empty !== undefined) pool.unpin(empty)
  t.equal(pool.find('x/1'), undefined)
  const [kept, used] = allocate(pool, ['x/2', 5000], ['x/3', 5000]).map(decoded)
  if (kept !== undefined) pool.unpin(kept)
  pool.forget('x/')
  t.equal(pool.find('x/2'), undefined)
  t.equal(pool.find('x/3'), undefined, 'not found any more')
  t.equal(pool.used, 8192, 'but there while it is used')
  if (used !== undefined) pool.unpin(used)
  t.equal(pool.used, 0)
})

t.test('given back means given back to the system', async t => {
  const pool = new TempPool(1 << 20)
  t.teardown(() => pool.close())
  const { fd } = pool.file
  const [entry] = allocate(pool, ['a', 1 << 20]).map(decoded)
  writeSync(fd, Buffer.alloc(1 << 20, 1), 0, 1 << 20, entry?.offset ?? 0)
  t.ok(fstatSync(fd).blocks * 512 >= 1 << 20)
  if (entry !== undefined) pool.unpin(entry)
  allocate(pool, ['b', 1 << 20])
  t.equal(fstatSync(fd).blocks, 0)
})

t.test('who waits for room is served in turn', async t => {
  const pool = new TempPool(4096)
  t.teardown(() => pool.close())
  const held = allocate(pool, ['a', 4096]).map(decoded)
  const order: string[] = []
  const waiter = (key: string): Promise<void> =>
    pool.inTurn(() => {
      const got = allocate(pool, [key, 4096]).map(decoded)
      if (got.length === 0) return false
      order.push(key)
      held.push(...got)
      return true
    }, KEEP)
  const impatient = new AbortController()
  const waits = [waiter('b'), pool.inTurn(() => false, impatient.signal), waiter('c')] as const
  const [, aborted] = waits
  impatient.abort(new Error('enough'))
  for (const entry of held.splice(0)) pool.unpin(entry)
  await waits[0]
  await t.rejects(aborted, { message: 'enough' })
  for (const entry of held.splice(0)) pool.unpin(entry)
  await waits[2]
  t.same(order, ['b', 'c'])
})
