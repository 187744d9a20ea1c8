import { createCipheriv, randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { native } from '../native.js'
import { decodeUnit, decrypt, mismatch, type Coding } from './decode.js'

// The two halves of an XTS key must differ.
const cipher = { key: randomBytes(32), iv: randomBytes(16) }
const CODING: Coding = { compressor: 'zstd', digester: 'blake3', cipher }

function encrypt(plain: Uint8Array): Buffer {
  const c = createCipheriv('aes-128-xts', cipher.key, cipher.iv)
  return Buffer.concat([c.update(plain), c.final()])
}

/** blobs-and-cache.md §5: units below 16 bytes are padded to 18. */
function pad(plain: Buffer): Buffer {
  const fill = 16 - plain.length
  return Buffer.concat([plain, Buffer.alloc(fill, fill), Buffer.from('7890', 'hex')])
}

t.test('AES-128-XTS: IEEE 1619-2018 vector 2', async t => {
  const key = Buffer.from('11'.repeat(16) + '22'.repeat(16), 'hex')
  const iv = Buffer.from('3333333333' + '00'.repeat(11), 'hex')
  const stored = Buffer.from('c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0', 'hex')
  t.same(decrypt({ ...CODING, cipher: { key, iv } }, stored), Buffer.alloc(32, 0x44))
})

t.test('encrypted units come back whole, whatever their length', async t => {
  for (const length of [1, 2, 15, 16, 17, 18, 19, 31, 32, 33, 4095, 4096, 70_001]) {
    const plain = randomBytes(length)
    const stored = encrypt(length < 16 ? pad(plain) : plain)
    t.same(Buffer.from(decrypt(CODING, stored)), plain, `${length} bytes`)
  }
  t.throws(() => decrypt(CODING, Buffer.alloc(15)), { code: 'CODEC_CORRUPT' })
  t.throws(() => decrypt({ compressor: 'none', digester: 'sha256' }, Buffer.alloc(32)), {
    code: 'CACHE_NO_KEY',
  })
})

t.test('a unit is decrypted before it is decompressed', async t => {
  const plain = Buffer.alloc(9000, 'nydus ')
  const packed = new Uint8Array(9000)
  const size = native.zstdCompress(plain, packed, 3)
  const stored = encrypt(packed.subarray(0, size))
  const unit = { compressed: true, encrypted: true, outputSize: plain.length }
  t.same(Buffer.from(decodeUnit(CODING, unit, stored, new Uint8Array(9000))), plain)
})

t.test('raw LZ4 blocks, without frame or size', async t => {
  // blobs-and-cache.md §9: 5000 × A.
  const block = Buffer.from('1f410100' + 'ff'.repeat(19) + '82504141414141', 'hex')
  const coding: Coding = { compressor: 'lz4_block', digester: 'sha256' }
  const scratch = new Uint8Array(6000)
  const unit = { compressed: true, encrypted: false, outputSize: 5000 }
  t.same(Buffer.from(decodeUnit(coding, unit, block, scratch)), Buffer.alloc(5000, 'A'))
  for (const outputSize of [4999, 5001])
    t.throws(() => decodeUnit(coding, { ...unit, outputSize }, block, scratch), { code: 'CODEC_CORRUPT' })
})

t.test('a gzip member with something behind it (legacy stargz)', async t => {
  const plain = randomBytes(50_000)
  const stored = Buffer.concat([gzipSync(plain), randomBytes(500)])
  const unit = { compressed: true, encrypted: false, outputSize: plain.length }
  const coding: Coding = { compressor: 'gzip', digester: 'sha256' }
  t.same(Buffer.from(decodeUnit(coding, unit, stored, new Uint8Array(50_000))), plain)
  const withHeaders = gzipSync(Buffer.concat([plain, randomBytes(1536)]))
  t.same(
    Buffer.from(decodeUnit(coding, unit, withHeaders, new Uint8Array(50_000))),
    plain,
    'and with more in the member than the chunk',
  )
  t.throws(() => decodeUnit(coding, unit, gzipSync(plain.subarray(1)), new Uint8Array(50_000)), {
    code: 'CODEC_CORRUPT',
  })
})

t.test('what cannot be decoded is an error', async t => {
  const scratch = new Uint8Array(4096)
  const unit = { compressed: true, encrypted: false, outputSize: 100 }
  for (const compressor of ['zstd', 'lz4_block', 'gzip', 'none'] as const)
    t.throws(() => decodeUnit({ ...CODING, compressor }, unit, Buffer.alloc(50, 0xee), scratch), {
      code: 'CODEC_CORRUPT',
    })
  t.throws(() => decodeUnit(CODING, { ...unit, compressed: false }, Buffer.alloc(99), scratch), {
    code: 'CODEC_CORRUPT',
  })
})

t.test('digests and CRCs decide', async t => {
  const abc = Buffer.from('abc')
  const sha256 = Buffer.from('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 'hex')
  const blake3 = Buffer.from('6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85', 'hex')
  t.equal(mismatch('sha256', abc, { digest: sha256 }), undefined)
  t.equal(mismatch('blake3', abc, { digest: blake3 }), undefined)
  t.match(mismatch('sha256', abc, { digest: blake3, crc32: 0x364b3fb7 }), /its sha256 digest is ba7816bf/)
  t.equal(mismatch('sha256', abc, { crc32: 0x364b3fb7 }), undefined)
  t.match(mismatch('sha256', abc, { crc32: 1 }), /its CRC-32C is 0x364b3fb7, the image says 0x1/)
  t.equal(mismatch('sha256', abc, {}), undefined)
})
