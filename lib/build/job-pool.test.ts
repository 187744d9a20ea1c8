/** The pool's results against libraries that share nothing with it. */
import { createHash } from 'node:crypto'
import { crc32c } from '@node-rs/crc32'
import { blake3 } from '@noble/hashes/blake3.js'
import { decodeHere } from '../cache/decoder.js'
import t from 'tap'
import { native } from '../native.js'
import { JobPool } from './job-pool.js'
import { RESULT_FLAG } from './slot.js'

const CHUNK = 0x4000
/** Around the borders of BLAKE3's blocks and chunks, SHA-256's blocks, CRC's stripes, and our chunks. */
const SIZES = [
  1,
  63,
  64,
  65,
  1023,
  1024,
  1025,
  2049,
  5000,
  12287,
  12288,
  12289,
  CHUNK - 1,
  CHUNK,
  CHUNK + 1,
  100_000,
]

/** Every other 256 bytes can be compressed. */
function content(size: number): Uint8Array {
  let state = size
  return Uint8Array.from({ length: size }, (_, i) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return (i >>> 8) % 2 === 0 ? 0x61 : state >>> 16
  })
}

for (const compressor of ['none', 'lz4_block', 'zstd'] as const)
  for (const digester of ['blake3', 'sha256'] as const)
    t.test(`${compressor}, ${digester}`, async t => {
      const pool = new JobPool({ compressor, digester, chunkSize: CHUNK, batchLimit: 1024 })
      const slot = pool.take()
      for (const size of SIZES) slot.addBytes(size, size).set(content(size))
      await pool.run(slot, 'bytes')
      let chunk = 0
      let at = 0
      for (const size of SIZES)
        for (let from = 0; from < size; from += CHUNK, chunk++) {
          const plain = content(size).subarray(from, from + CHUNK)
          const about = `${size} bytes, from ${from}`
          const digest = digester === 'blake3' ? blake3(plain) : createHash('sha256').update(plain).digest()
          const words = slot.words.subarray(slot.digestAt(chunk), slot.digestAt(chunk) + 8)
          t.strictSame(
            Buffer.from(words.buffer, words.byteOffset, 32),
            Buffer.from(digest),
            `${about}: digest`,
          )
          t.equal(slot.crc32(chunk), crc32c(Buffer.from(plain)), `${about}: CRC-32C`)
          t.equal(slot.plainSize(chunk), plain.length, about)
          const stored = slot.data.subarray(at, at + slot.storedSize(chunk))
          at += stored.length
          const flags = slot.flags(chunk)
          t.equal((flags & RESULT_FLAG.SMALL) !== 0, size < 1024, `${about}: left for a batch`)
          const unpacked = new Uint8Array(plain.length)
          if ((flags & RESULT_FLAG.COMPRESSED) === 0) unpacked.set(stored)
          else
            decodeHere(
              { compressor, digester },
              { compressed: true, encrypted: false, outputSize: plain.length },
              [],
              stored,
              unpacked,
            )
          t.ok(Buffer.from(plain).equals(unpacked), `${about}: stored bytes`)
          if (compressor !== 'none' && size >= 1024 && plain.length > 100)
            t.ok(stored.length < plain.length, `${about}: smaller`)
        }
      t.equal(slot.chunks, chunk)
      pool.close()
    })

t.test('a job that would leave its slot is refused', t => {
  const pool = native.createJobPool(
    {
      threads: 1,
      slots: 1,
      parts: 4,
      bytes: 8192,
      paths: 4096,
      compressor: 0,
      level: 3,
      digester: 0,
      chunkSize: 4096,
      batchLimit: 0,
      discard: false,
    },
    () => undefined,
  )
  const [parts] = pool.memory(0)
  const table = new Float64Array(parts)
  const jobs: [about: string, numbers: readonly number[]][] = [
    ['more bytes than it has', [0, 0, 0, 0, 0, 8193, 8193, 0, 0]],
    ['a length that is none', [0, 0, 0, 0, 0, NaN, 0, 0, 0]],
    ['a negative length', [0, 0, 0, 0, 0, -1, 0, 0, 0]],
    ['a name behind its end', [0, 0, 8000, 1000, 0, 1, 1, 0, 0]],
    ['a folder that starts before it', [-1, 1, 0, 1, 0, 1, 1, 0, 0]],
    ['half a byte', [0, 0, 0, 0.5, 0, 1, 1, 0, 0]],
  ]
  for (const [about, numbers] of jobs) {
    table.set(numbers)
    t.throws(() => pool.submit(0, 0, 1), { code: 'NATIVE_BAD_ARGUMENT' }, about)
  }
  t.throws(() => pool.submit(0, 1, 5), { code: 'NATIVE_BAD_ARGUMENT' }, 'more parts than it has')
  t.throws(() => pool.submit(1, 1, 1), { code: 'NATIVE_BAD_ARGUMENT' }, 'another slot')
  pool.close()
  t.end()
})
