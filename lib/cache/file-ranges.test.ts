import fc from 'fast-check'
import t from 'tap'
import { type ByteRange, gapsBetween, pagesOf } from './file-ranges.js'

const PAGE = 4096
const PAGES = 16

const ranges = fc.array(
  fc
    .tuple(fc.integer({ min: 0, max: PAGES * PAGE - 1 }), fc.integer({ min: 1, max: 3 * PAGE }))
    .map(([start, size]): ByteRange => ({ start, end: Math.min(start + size, PAGES * PAGE) })),
  { maxLength: 12 },
)

/** By page: whether the ranges name it. */
function pages(named: readonly ByteRange[]): boolean[] {
  return Array.from({ length: PAGES }, (_, page) =>
    named.some(({ start, end }) => start <= page * PAGE && (page + 1) * PAGE <= end),
  )
}

/** By page: how many of its bytes lie in `ranges`. */
function bytesByPage(of: readonly ByteRange[]): number[] {
  const bytes = new Uint8Array(PAGES * PAGE)
  for (const { start, end } of of) bytes.fill(1, start, end)
  return Array.from({ length: PAGES }, (_, page) =>
    bytes.subarray(page * PAGE, (page + 1) * PAGE).reduce((sum, byte) => sum + byte, 0),
  )
}

t.test('gaps are the pages without a byte of what is taken', async t => {
  fc.assert(
    fc.property(ranges, taken => {
      const gaps = gapsBetween(taken, { start: 0, end: PAGES * PAGE })
      t.strictSame(
        pages(gaps),
        bytesByPage(taken).map(bytes => bytes === 0),
      )
      t.ok(gaps.every(({ start, end }) => start % PAGE === 0 && end % PAGE === 0))
    }),
    { numRuns: 200 },
  )
})

t.test('gaps end with the window', async t => {
  const taken = [
    { start: 0, end: PAGE + 1 },
    { start: 5 * PAGE, end: 9 * PAGE },
  ]
  const window = { start: PAGE, end: 6 * PAGE }
  t.strictSame(gapsBetween(taken, window), [{ start: 2 * PAGE, end: 5 * PAGE }])
  t.strictSame(gapsBetween([], window), [window])
  t.strictSame(gapsBetween([{ start: 20 * PAGE, end: 21 * PAGE }], window), [window])
})

t.test('pages of ranges: all of whose bytes are in them, together with neighbours', async t => {
  fc.assert(
    fc.property(ranges, given => {
      t.strictSame(
        pages(pagesOf(given, 1)),
        bytesByPage(given).map(bytes => bytes === PAGE),
      )
    }),
    { numRuns: 200 },
  )
  t.strictSame(pagesOf([{ start: PAGE, end: PAGE + 1 }], PAGE), [{ start: PAGE, end: 2 * PAGE }])
  t.strictSame(pagesOf([{ start: PAGE, end: PAGE + 1 }], 1), [])
})
