import fc from 'fast-check'
import t from 'tap'
import { bitField, bitsOf, i64, putBits, setU64, u64 } from './u64.js'

const view = () => new DataView(new ArrayBuffer(16))
const word = (of: DataView) => of.getBigUint64(8, true)

t.test('fields of a word, next to each other and on both sides of its middle', async t => {
  /** A cut through the word at each of the places; a field has 53 bits at most. */
  const cuts = fc
    .uniqueArray(fc.integer({ min: 1, max: 63 }), { maxLength: 6 })
    .map(places => [0, ...places.sort((a, b) => a - b), 64])
    .filter(places => places.every((at, i) => at - (places[i - 1] ?? 0) <= 53))
  fc.assert(
    fc.property(cuts, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (places, whole) => {
      const of = view()
      const fields = places.slice(1).map((end, i) => {
        const from = places[i] ?? 0
        const value = Number(BigInt.asUintN(end - from, whole >> BigInt(from)))
        return { field: bitField(from, end - from), value }
      })
      for (const { field, value } of fields) putBits(of, 8, field, value)
      return (
        word(of) === whole &&
        of.getBigUint64(0, true) === 0n &&
        fields.every(({ field, value }) => bitsOf(of, 8, field) === value)
      )
    }),
  )
  t.pass()
})

t.test('whole words: the numbers that a double holds', async t => {
  const rows: [value: number, hex: string][] = [
    [0, '0000000000000000'],
    [2 ** 32 + 5, '0500000001000000'],
    [Number.MAX_SAFE_INTEGER, 'ffffffffffff1f00'],
    [-1, 'ffffffffffffffff'],
    [-(2 ** 40), '0000000000ffffff'],
  ]
  for (const [value, hex] of rows) {
    const of = view()
    setU64(of, 8, value)
    t.equal(Buffer.from(of.buffer, 8).toString('hex'), hex)
    t.equal(i64(of, 8), value)
    if (value >= 0) t.equal(u64(of, 8), value)
  }
})
