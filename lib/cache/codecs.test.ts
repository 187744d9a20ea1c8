/** Every codec against another implementation of it, or the description of its format. */
import { constants, crc32, deflateRawSync, gzipSync, inflateRawSync } from 'node:zlib'
import t from 'tap'
import { compress, decompress } from 'zstd-napi'
import { native } from '../native.js'
import type { Compressor } from './cache.js'
import type { ZranEntry } from './unit.js'
import { decodeHere } from './decoder.js'

const empty = new Uint8Array(0)

/** Bytes that compress a little: pieces of themselves, repeated and varied; the same in every run. */
function sample(length: number): Buffer {
  const out = Buffer.alloc(length)
  let state = 0x2545f491
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    out[i] = i > 300 && state >>> 30 !== 0 ? (out[i - 1 - ((state >>> 8) & 255)] ?? 0) : state >>> 24
  }
  return out
}

/** The oracle for LZ4 blocks, from the format's description (lz4_Block_format.md). */
function lz4Oracle(src: Uint8Array): Buffer {
  const out: number[] = []
  let at = 0
  const next = (): number => {
    const byte = src[at++]
    if (byte === undefined) throw new RangeError('oracle: the block is cut off')
    return byte
  }
  const length = (nibble: number): number => {
    let sum = nibble
    if (nibble === 15) for (let more = 255; more === 255; sum += more) more = next()
    return sum
  }
  while (at < src.length) {
    const token = next()
    for (let left = length(token >> 4); left > 0; left--) out.push(next())
    if (at >= src.length) break
    const back = next() | (next() << 8)
    for (let left = length(token & 15) + 4; left > 0; left--) out.push(out[out.length - back] ?? 0)
  }
  return Buffer.from(out)
}

/** Fills `out` from `src`, or throws. */
function decode(compressor: Compressor, src: Uint8Array, out: Uint8Array, zran?: ZranEntry): void {
  const unit = { compressed: true, encrypted: false, outputSize: out.length, ...(zran && { zran }) }
  const bad = decodeHere({ compressor, digester: 'sha256' }, unit, [], src, out).get(0)
  if (bad !== undefined) throw new Error(`${bad.kind}: ${bad.message}`)
}

const corrupt = { message: /^damaged: / }
const lz4 = (src: Uint8Array, out: Uint8Array): void => decode('lz4_block', src, out)
const zstd = (src: Uint8Array, out: Uint8Array): void => decode('zstd', src, out)
const zran = (src: Uint8Array, dictionary: Uint8Array, byte: number, bits: number, out: Uint8Array): void =>
  decode('gzip', src, out, { dictionary, byte, bits })

t.test('lz4', async t => {
  t.test('a known block', async t => {
    const block = Buffer.from(`1f410100${'ff'.repeat(19)}82504141414141`, 'hex')
    const out = Buffer.alloc(5000)
    lz4(block, out)
    t.ok(out.equals(Buffer.alloc(5000, 'A')))
  })
  t.test('what it compresses, the oracle decodes; truncated input never passes', async t => {
    for (const length of [0, 1, 13, 4096, 100_000]) {
      const plain = sample(length)
      const packed = Buffer.alloc(length + (length >> 3) + 64)
      const size = native.lz4Compress(plain, packed)
      const block = packed.subarray(0, size)
      t.ok(lz4Oracle(block).equals(plain), `${length} bytes`)
      const out = Buffer.alloc(length)
      lz4(block, out)
      t.ok(out.equals(plain))
      if (length > 1) {
        t.throws(() => lz4(block, out.subarray(0, length - 1)), corrupt)
        t.throws(() => lz4(block.subarray(0, size - 1), out), corrupt)
      }
    }
    t.throws(() => lz4(empty, Buffer.alloc(10)), corrupt)
  })
  t.test('0 when the result does not fit', async t => {
    t.equal(native.lz4Compress(sample(1000), Buffer.alloc(100)), 0)
  })
})

t.test('zstd', async t => {
  const plain = sample(300_000)
  t.test('decodes what zstd-napi encodes, and the other way round', async t => {
    const out = Buffer.alloc(plain.length)
    zstd(compress(plain), out)
    t.ok(out.equals(plain))
    for (const level of [-5, 3, 19]) {
      const packed = Buffer.alloc(400_000)
      const size = native.zstdCompress(plain, packed, level)
      t.ok(decompress(packed.subarray(0, size)).equals(plain), `level ${level}`)
    }
    t.equal(native.zstdCompress(plain, Buffer.alloc(1000), 3), 0)
  })
  t.test('refuses what is cut, damaged or larger than its place', async t => {
    const packed = compress(plain)
    const out = Buffer.alloc(plain.length)
    t.throws(() => zstd(packed, out.subarray(1)), corrupt)
    t.throws(() => zstd(packed.subarray(0, -1), out), corrupt)
    t.throws(() => zstd(packed.subarray(1), out), corrupt)
    t.throws(() => zstd(sample(1000), out), corrupt)
    t.throws(() => zstd(empty, out), corrupt)
  })
})

/** Deflate blocks by hand: bits as the format has them (RFC 1951), so that a block can start inside a byte. */
class BitWriter {
  readonly #bits: number[] = []
  get length(): number {
    return this.#bits.length
  }
  /** Least significant bit first: headers. */
  low(value: number, count: number): this {
    for (let i = 0; i < count; i++) this.#bits.push((value >> i) & 1)
    return this
  }
  /** Most significant bit first: Huffman codes. */
  high(value: number, count: number): this {
    for (let i = count - 1; i >= 0; i--) this.#bits.push((value >> i) & 1)
    return this
  }
  literals(text: string): this {
    for (const byte of Buffer.from(text)) this.high(0x30 + byte, 8)
    return this
  }
  /** Copies 3 bytes from `distance` (1 to 4) back. */
  match3(distance: number): this {
    return this.high(1, 7).high(distance - 1, 5)
  }
  end(): this {
    return this.high(0, 7)
  }
  bytes(): Buffer {
    const out = Buffer.alloc((this.#bits.length + 7) >> 3)
    this.#bits.forEach((bit, i) => (out[i >> 3] = (out[i >> 3] ?? 0) | (bit << (i & 7))))
    return out
  }
}

t.test('zranInflate', async t => {
  t.test('starts at every bit of a byte, with a dictionary as history', async t => {
    const seen = new Set<number>()
    // An empty block is 10 bits long, a literal above 143 takes 9: together they reach every bit.
    for (let i = 0; i < 8; i++) {
      const odd = i % 2
      const writer = new BitWriter().low(0b010, 3).literals('abc')
      if (odd === 1) writer.high(0x190 + 0xd0 - 144, 9)
      writer.end()
      for (let blocks = 0; blocks < i >> 1; blocks++) writer.low(0b010, 3).end()
      const start = writer.length
      const stream = writer.low(0b011, 3).match3(3).literals('de').match3(2).end().bytes()
      const whole = inflateRawSync(stream)
      const dictionary = whole.subarray(0, 3 + odd)
      const bits = (8 - (start % 8)) % 8
      seen.add(bits)
      const offset = (start + 7) >> 3
      const out = Buffer.alloc(whole.length - dictionary.length)
      zran(stream.subarray(offset), dictionary, stream[offset - 1] ?? 0, bits, out)
      t.equal(Buffer.concat([dictionary, out]).toString('hex'), whole.toString('hex'), `${bits} bits pending`)
      t.throws(() => zran(stream.subarray(offset), empty, stream[offset - 1] ?? 0, bits, out), corrupt)
    }
    t.same(
      [...seen].sort((a, b) => a - b),
      [0, 1, 2, 3, 4, 5, 6, 7],
    )
  })
  const one = sample(200_000)
  const two = sample(70_000).reverse()
  const raw = (member: Buffer): Buffer => member.subarray(10)
  /** A gzip member whose header has every optional part. */
  function decorated(plain: Buffer): Buffer {
    const member = gzipSync(plain)
    const head = Buffer.concat([
      member.subarray(0, 3),
      Buffer.from([0x02 | 0x04 | 0x08 | 0x10]),
      member.subarray(4, 10),
      Buffer.from([5, 0, 1, 2, 3, 4, 5]),
      Buffer.from('name\0comment\0'),
    ])
    const check = Buffer.alloc(2)
    check.writeUInt16LE(crc32(head) & 0xffff)
    return Buffer.concat([head, check, raw(member)])
  }
  t.test('goes on over members, whatever their headers hold', async t => {
    const file = Buffer.concat([gzipSync(one), decorated(two), gzipSync(empty), gzipSync(one)])
    const out = Buffer.alloc(one.length * 2 + two.length)
    zran(raw(file), empty, 0, 0, out)
    t.ok(out.equals(Buffer.concat([one, two, one])))
    const part = Buffer.alloc(one.length + 100)
    zran(raw(file), empty, 0, 0, part)
    t.ok(part.equals(Buffer.concat([one, two]).subarray(0, part.length)))
  })
  t.test('uses a dictionary of 32 KiB', async t => {
    const dictionary = one.subarray(0, 32768)
    const packed = deflateRawSync(one.subarray(32768), { dictionary, level: constants.Z_BEST_COMPRESSION })
    const out = Buffer.alloc(one.length - 32768)
    zran(packed, dictionary, 0, 0, out)
    t.ok(out.equals(one.subarray(32768)))
  })
  t.test('refuses windows that hold less than they should, or garbage', async t => {
    const member = gzipSync(one)
    const out = Buffer.alloc(one.length + 1)
    const fits = out.subarray(1)
    zran(raw(member), empty, 0, 0, fits)
    t.ok(fits.equals(one), 'the trailer is not needed when the window ends with the member')
    zran(raw(member).subarray(0, -8), empty, 0, 0, fits)
    t.throws(() => zran(raw(member), empty, 0, 0, out), corrupt)
    t.throws(() => zran(raw(member).subarray(0, -4), empty, 0, 0, out), corrupt)
    t.throws(() => zran(raw(member).subarray(0, 1000), empty, 0, 0, fits), corrupt)
    t.throws(() => zran(Buffer.concat([raw(member), sample(40)]), empty, 0, 0, out), corrupt)
    t.throws(() => zran(Buffer.alloc(100, 0xff), empty, 0, 0, fits), corrupt)
    t.throws(() => zran(empty, empty, 0, 0, fits), corrupt)
    zran(empty, empty, 0, 0, empty)
  })
})
