/** From stored bytes to checked chunks in a file: on threads, and in this one for tools. */
import { createCipheriv, randomBytes } from 'node:crypto'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { crc32c } from '@node-rs/crc32'
import t, { type Test } from 'tap'
import { digestOf } from '../base/testing/digest.js'
import { native } from '../native.js'
import type { Coding, UnitCoding } from './coding.js'
import { decodeHere, Decoder, type Bad, type MemberPlace, type UnitPlace } from './decoder.js'

// The two halves of an XTS key must differ.
const cipher = { key: randomBytes(32), iv: randomBytes(16) }
const CODING: Coding = { compressor: 'zstd', digester: 'blake3', cipher }
const PLAIN: Coding = { compressor: 'none', digester: 'sha256' }

function encrypt(plain: Uint8Array): Buffer {
  const c = createCipheriv('aes-128-xts', cipher.key, cipher.iv)
  return Buffer.concat([c.update(plain), c.final()])
}

/** blobs-and-cache.md §5: units below 16 bytes are padded to 18. */
function pad(plain: Buffer): Buffer {
  const fill = 16 - plain.length
  return Buffer.concat([plain, Buffer.alloc(fill, fill), Buffer.from('7890', 'hex')])
}

function zstd(plain: Uint8Array): Uint8Array {
  const packed = new Uint8Array(plain.length + 1000)
  return packed.subarray(0, native.zstdCompress(plain, packed, 3))
}

/** The plain bytes, or the sentence that says why there are none. */
function decode(coding: Coding, unit: UnitCoding, stored: Uint8Array): Buffer | string {
  const out = Buffer.alloc(unit.outputSize)
  return decodeHere(coding, unit, [], stored, out).get(0)?.message ?? out
}

function decrypt(coding: Coding, stored: Uint8Array, outputSize: number): Buffer | string {
  return decode(coding, { compressed: false, encrypted: true, outputSize }, stored)
}

t.test('AES-128-XTS: IEEE 1619-2018 vector 2', async t => {
  const key = Buffer.from('11'.repeat(16) + '22'.repeat(16), 'hex')
  const iv = Buffer.from('3333333333' + '00'.repeat(11), 'hex')
  const stored = Buffer.from('c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0', 'hex')
  t.same(decrypt({ ...CODING, cipher: { key, iv } }, stored, 32), Buffer.alloc(32, 0x44))
})

t.test('encrypted units come back whole, whatever their length', async t => {
  for (const length of [1, 2, 15, 16, 17, 18, 19, 31, 32, 33, 4095, 4096, 70_001]) {
    const plain = randomBytes(length)
    const stored = encrypt(length < 16 ? pad(plain) : plain)
    t.same(decrypt(CODING, stored, length), plain, `${length} bytes`)
  }
  t.match(decrypt(CODING, Buffer.alloc(15), 15), /too short/)
  t.match(decrypt({ compressor: 'none', digester: 'sha256' }, Buffer.alloc(32), 32), /no key/)
})

t.test('a unit is decrypted before it is decompressed', async t => {
  const plain = Buffer.alloc(9000, 'nydus ')
  const unit = { compressed: true, encrypted: true, outputSize: plain.length }
  t.same(decode(CODING, unit, encrypt(zstd(plain))), plain)
})

t.test('raw LZ4 blocks, without frame or size', async t => {
  // blobs-and-cache.md §9: 5000 × A.
  const block = Buffer.from('1f410100' + 'ff'.repeat(19) + '82504141414141', 'hex')
  const coding: Coding = { compressor: 'lz4_block', digester: 'sha256' }
  const unit = { compressed: true, encrypted: false, outputSize: 5000 }
  t.same(decode(coding, unit, block), Buffer.alloc(5000, 'A'))
  for (const outputSize of [4999, 5001]) t.type(decode(coding, { ...unit, outputSize }, block), 'string')
})

t.test('a gzip member with something behind it (legacy stargz)', async t => {
  const plain = randomBytes(50_000)
  const stored = Buffer.concat([gzipSync(plain), randomBytes(500)])
  const unit = { compressed: true, encrypted: false, outputSize: plain.length }
  const coding: Coding = { compressor: 'gzip', digester: 'sha256' }
  t.same(decode(coding, unit, stored), plain)
  const withHeaders = gzipSync(Buffer.concat([plain, randomBytes(1536)]))
  t.same(decode(coding, unit, withHeaders), plain, 'and with more in the member than the chunk')
  t.match(decode(coding, unit, gzipSync(plain.subarray(1))), /49999 bytes instead of 50000/)
})

t.test('what cannot be decoded is told', async t => {
  const unit = { compressed: true, encrypted: false, outputSize: 100 }
  for (const compressor of ['zstd', 'lz4_block', 'gzip', 'none'] as const)
    t.type(decode({ ...CODING, compressor }, unit, Buffer.alloc(50, 0xee)), 'string', compressor)
  t.match(decode(CODING, { ...unit, compressed: false }, Buffer.alloc(99)), /100/)
})

t.test('digests and CRCs decide', async t => {
  const abc = Buffer.from('abc')
  const sha256 = Buffer.from('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 'hex')
  const blake3 = Buffer.from('6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85', 'hex')
  const wrong = (digester: Coding['digester'], expected: Partial<MemberPlace>): string | undefined => {
    const unit = { compressed: false, encrypted: false, outputSize: 3 }
    return decodeHere({ ...PLAIN, digester }, unit, [{ at: 0, size: 3, ...expected }], abc).get(0)?.message
  }
  t.equal(wrong('sha256', { digest: sha256 }), undefined)
  t.equal(wrong('blake3', { digest: blake3 }), undefined)
  t.match(wrong('sha256', { digest: blake3, crc32: 0x364b3fb7 }), /its sha256 digest is ba7816bf/)
  t.equal(wrong('sha256', { crc32: 0x364b3fb7 }), undefined)
  t.match(wrong('sha256', { crc32: 1 }), /its CRC-32C is 0x364b3fb7, the image says 0x1/)
  t.equal(wrong('sha256', {}), undefined)
})

/** A file, and threads that write to it. */
function rig(t: Test, threads = 2) {
  const path = join(t.testdir({ data: '' }), 'data')
  const fd = openSync(path, 'r+')
  const decoder = new Decoder(threads)
  t.teardown(() => {
    decoder.close()
    closeSync(fd)
  })
  const run = (
    coding: Coding,
    stored: Uint8Array,
    unit: Partial<UnitPlace>,
    members: readonly MemberPlace[],
  ): Promise<ReadonlyMap<number, Bad>> =>
    new Promise((resolve, reject) => {
      const batch = decoder.batch(coding, stored)
      const place = { compressed: false, encrypted: false, outputSize: stored.length, fd, start: 0 }
      batch.add({ ...place, size: stored.length, ...unit }, members, (bad, error) =>
        error === undefined ? resolve(bad) : reject(error),
      )
      batch.submit(true)
    })
  return { decoder, fd, path, run }
}

t.test('members go to their places; a damaged one stays out, and is named', async t => {
  const { path, run } = rig(t)
  const plain = randomBytes(30_000)
  const member = (at: number, position: number): MemberPlace => {
    const bytes = plain.subarray(at, at + 10_000)
    return { at, size: 10_000, position, digest: digestOf('blake3', bytes), crc32: crc32c(bytes) }
  }
  const members = [
    member(0, 50_000),
    { ...member(10_000, 0), digest: randomBytes(32) },
    member(20_000, 20_000),
  ]
  const bad = await run(CODING, zstd(plain), { compressed: true, outputSize: plain.length }, members)
  t.same([...bad.keys()], [1])
  t.match(bad.get(1), { kind: 'damaged', message: /blake3 digest/ })
  const data = readFileSync(path)
  t.equal(data.length, 60_000)
  t.ok(data.subarray(50_000).equals(plain.subarray(0, 10_000)))
  t.ok(data.subarray(20_000, 30_000).equals(plain.subarray(20_000)))
  t.ok(data.subarray(0, 20_000).equals(Buffer.alloc(20_000)), 'nothing of the damaged one')
})

t.test('the whole output goes to one place, damaged members and all', async t => {
  const { path, run } = rig(t)
  const plain = randomBytes(5000)
  const members = [
    { at: 0, size: 100, digest: digestOf('sha256', plain.subarray(0, 100)) },
    { at: 100, size: 100, digest: randomBytes(32) },
  ]
  const bad = await run(PLAIN, plain, { position: 4096 }, members)
  t.same([...bad.keys()], [1])
  t.ok(readFileSync(path).subarray(4096).equals(plain))
})

t.test('what lies in the file is checked there', async t => {
  const { run } = rig(t)
  const plain = randomBytes(8192)
  const digest = digestOf('sha256', plain)
  t.same([...(await run(PLAIN, plain, { position: 0 }, []))], [])
  const stored = { fromFile: true as const, size: 8192, outputSize: 8192 }
  t.equal((await run(PLAIN, Buffer.alloc(0), stored, [{ at: 0, size: 8192, digest }])).size, 0)
  const shifted = await run(PLAIN, Buffer.alloc(0), { ...stored, start: 1 }, [{ at: 0, size: 8192, digest }])
  t.match(shifted.get(0), { kind: 'damaged', message: /cut short/ })
})

t.test('a file that cannot be written', async t => {
  const { run } = rig(t)
  const full = openSync('/dev/full', 'w')
  t.teardown(() => closeSync(full))
  const plain = randomBytes(100)
  const bad = await run(PLAIN, plain, { fd: full }, [
    { at: 0, size: 100, position: 0 },
    { at: 0, size: 50 },
  ])
  t.same([...bad.keys()], [0], 'a member that is only checked is well')
  t.match(bad.get(0), { kind: 'store', errno: 'ENOSPC', message: /ENOSPC: no space left on device, write/i })
  const whole = await run(PLAIN, plain, { fd: full, position: 0 }, [{ at: 0, size: 50 }])
  t.match(whole.get(0), { kind: 'store', errno: 'ENOSPC' })
})

t.test('what a guest waits for goes ahead of what comes along, also when it asks late', async t => {
  const { decoder, run } = rig(t, 1)
  const big = Buffer.alloc(64 << 20)
  const order: string[] = []
  const busy = { at: 0, size: big.length, digest: digestOf('sha256', big) }
  const add = (name: string, urgent: boolean): number => {
    const batch = decoder.batch(PLAIN, big)
    const unit = { start: 0, size: 1, compressed: false, encrypted: false, outputSize: 1, fd: -1 }
    const id = batch.add(unit, [], () => order.push(name))
    batch.submit(urgent)
    return id
  }
  // Both threads, that for urgent units and the other one, have something to do for a while.
  const first = run(PLAIN, big, {}, [busy])
  const later = decoder.batch(PLAIN, big)
  const unit = {
    start: 0,
    size: big.length,
    compressed: false,
    encrypted: false,
    outputSize: big.length,
    fd: -1,
  }
  const background = new Promise<void>(resolve => later.add(unit, [busy, busy], () => resolve()))
  later.submit(false)
  add('comes along', false)
  const wanted = add('comes along, wanted', false)
  add('urgent', true)
  decoder.promote(wanted)
  await Promise.all([first, background])
  while (decoder.pending > 0) await new Promise(resolve => setImmediate(resolve))
  t.strictSame(order, ['urgent', 'comes along, wanted', 'comes along'])
})

t.test('many units at once, each answered once', async t => {
  const { run, path } = rig(t)
  const plain = Array.from({ length: 500 }, (_, i) => Buffer.alloc(3000, i))
  await Promise.all(
    plain.map((bytes, i) =>
      run(CODING, zstd(bytes), { compressed: true, outputSize: 3000 }, [
        { at: 0, size: 3000, position: i * 3000, digest: digestOf('blake3', bytes) },
      ]),
    ),
  )
  t.ok(readFileSync(path).equals(Buffer.concat(plain)))
})

t.test('closed: what has not ended fails, and so does what comes later', async t => {
  const { decoder, run } = rig(t)
  const big = Buffer.alloc(16 << 20)
  const all = Array.from({ length: 20 }, () => run(PLAIN, big, {}, [{ at: 0, size: big.length, crc32: 1 }]))
  const settled = Promise.allSettled(all)
  decoder.close()
  for (const result of await settled)
    t.match(result, { status: 'rejected', reason: { code: 'CACHE_CLOSED' } })
  await t.rejects(run(PLAIN, big, {}, []), { code: 'CACHE_CLOSED' })
})

t.test('places outside of their memory are refused', async t => {
  const { run } = rig(t)
  const bytes = Buffer.alloc(100)
  const refused = { code: 'NATIVE_BAD_ARGUMENT' }
  await t.rejects(run(PLAIN, bytes, { start: 1 }, []), refused)
  await t.rejects(run(PLAIN, bytes, { start: -1 }, []), refused)
  await t.rejects(run(PLAIN, bytes, { size: NaN }, []), refused)
  await t.rejects(run(PLAIN, bytes, { outputSize: 2 ** 31 }, []), refused)
  await t.rejects(run(PLAIN, bytes, { targetAt: 0 }, []), refused, 'there is no target')
  await t.rejects(run(PLAIN, bytes, {}, [{ at: 90, size: 11 }]), refused)
  await t.rejects(run(PLAIN, bytes, {}, [{ at: 2 ** 40, size: 1 }]), refused)
})
