import { constants, crc32, deflateRawSync, gzipSync, inflateRawSync } from 'node:zlib'
import { closeSync, ftruncateSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { compress, decompress } from 'zstd-napi'
import { NydusError } from './base/errors.js'
import { native } from './native.js'

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

const corrupt = { name: 'NydusError', code: 'CODEC_CORRUPT', errno: 'EIO' }
const badArgument = { name: 'NydusError', code: 'NATIVE_BAD_ARGUMENT', errno: 'EINVAL' }

t.test('the pages of the program go and come back', async t => {
  const dropped = native.dropProgramPages()
  t.ok(dropped > 1 << 20, `${dropped} bytes were resident`)
  t.ok(native.dropProgramPages() < dropped, 'they are gone')
  t.equal(JSON.stringify([1, { a: 'b' }]), '[1,{"a":"b"}]')
})

t.test('errors are of the class of this project, with cause, errno and a sentence', async t => {
  const path = Buffer.from('/nowhere/\xff', 'latin1')
  let thrown: unknown
  try {
    native.lgetxattr(path, Buffer.from('user.x'))
  } catch (error) {
    thrown = error
  }
  t.ok(thrown instanceof NydusError)
  t.match(thrown, {
    code: 'SYS_ENOENT',
    errno: 'ENOENT',
    syscall: 'lgetxattr',
    message: 'lgetxattr of user.x of /nowhere/\\xff: No such file or directory (ENOENT)',
  })
})

t.test('errno values that a guest does not know become EIO, the code keeps the cause', async t => {
  const loop = join(t.testdir({ loop: t.fixture('symlink', 'loop') }), 'loop', 'x')
  t.throws(() => native.llistxattr(Buffer.from(loop)), { code: 'SYS_ELOOP', errno: 'EIO' })
})

t.test('every function refuses arguments of the wrong kind before it does anything', async t => {
  const bytes = Buffer.alloc(4)
  const trap = { valueOf: () => t.fail('an argument was converted') }
  const calls: [name: keyof typeof native, args: unknown[]][] = [
    ['mapFile', [trap, 1, 'r']],
    ['mapFile', [0, -1, 'r']],
    ['mapFile', [0, 1.5, 'r']],
    ['mapFile', [0, 2 ** 53, 'r']],
    ['mapFile', [0, 1, 'w']],
    ['mapFile', []],
    ['registerFile', [NaN, 1]],
    ['registerFile', [0, '1']],
    ['releaseFile', [-1]],
    ['releaseFile', [2 ** 32]],
    ['lgetxattr', ['/tmp', bytes]],
    ['lgetxattr', [Buffer.from('/tmp\0x'), Buffer.from('user.x')]],
    ['llistxattr', [empty]],
    ['lsetxattr', [Buffer.from('/tmp'), Buffer.from('user.x'), 'value']],
    ['mknod', [Buffer.from('/tmp/x'), trap, 0, 0]],
    ['mknod', [Buffer.from('/tmp/x'), 0o200000, 0, 0]],
    ['seekData', [0, 0, 2]],
    ['seekData', [0, -1, 3]],
    ['fallocatePunch', [0, 0, null]],
    ['lockFile', [0, 1]],
    ['lockFile', [0, false, 1]],
    ['setFileLimit', [-1]],
    ['setFileLimit', [trap]],
    ['mount', ['a', 'b', 'c', 0, 'x\0y']],
    ['umount', [Buffer.from('/x'), 0]],
    ['lz4Decompress', [bytes, 5]],
    ['lz4Decompress', [new Uint16Array(2), bytes]],
    ['lz4Compress', [bytes, bytes]],
    ['zstdDecompress', [bytes.subarray(0, 3), bytes.subarray(2)]],
    ['zstdCompress', [bytes, Buffer.alloc(10), 23]],
    ['zstdCompress', [bytes, Buffer.alloc(10), trap]],
    ['zranInflate', [bytes, Buffer.alloc(32769), 0, 0, Buffer.alloc(10)]],
    ['zranInflate', [bytes, empty, 256, 0, Buffer.alloc(10)]],
    ['zranInflate', [bytes, empty, 0, 8, Buffer.alloc(10)]],
    ['setErrorClass', [1]],
  ]
  for (const [name, args] of calls) {
    const call = native[name] as (...args: unknown[]) => unknown
    t.throws(() => call(...args), badArgument, `${name}(${JSON.stringify(args)})`)
  }
})

t.test('mapFile', async t => {
  const dir = t.testdir({ file: 'hello', big: '' })
  t.test('shows the file, also after the fd is closed', async t => {
    const fd = openSync(join(dir, 'file'), 'r')
    const map = Buffer.from(native.mapFile(fd, 5, 'r'))
    closeSync(fd)
    t.equal(map.toString(), 'hello')
  })
  t.test('rw writes through', async t => {
    const path = join(dir, 'big')
    writeFileSync(path, Buffer.alloc(10000))
    const fd = openSync(path, 'r+')
    const map = new Uint8Array(native.mapFile(fd, 10000, 'rw'))
    map[9999] = 7
    closeSync(fd)
    t.equal(readFileSync(path)[9999], 7)
  })
  t.test('nothing of an empty file', async t => {
    const fd = openSync(join(dir, 'file'), 'r')
    t.equal(native.mapFile(fd, 0, 'r').byteLength, 0)
    closeSync(fd)
  })
  t.test('refuses more than there is, and what is no file', async t => {
    const fd = openSync(join(dir, 'file'), 'r')
    t.throws(() => native.mapFile(fd, 6, 'r'), { code: 'SYS_EFBIG', message: /^mmap of 6 bytes of fd \d+: / })
    closeSync(fd)
    t.throws(() => native.mapFile(fd, 5, 'r'), { code: 'SYS_EBADF' })
    const folder = openSync(dir, 'r')
    t.throws(() => native.mapFile(folder, 1, 'r'), { code: 'SYS_EINVAL' })
    closeSync(folder)
  })
  t.test('a page that vanishes reads as zeros and is counted', async t => {
    const path = join(dir, 'cut')
    writeFileSync(path, Buffer.alloc(20000, 'x'))
    const fd = openSync(path, 'r+')
    const map = Buffer.from(native.mapFile(fd, 20000, 'r'))
    t.equal(map[19999], 120)
    const before = native.mappingFaults()
    ftruncateSync(fd, 4096)
    t.equal(map[19999], 0)
    t.equal(map[4095], 120)
    t.equal(native.mappingFaults(), before + 1)
    closeSync(fd)
  })
  t.test('is unmapped when it is garbage', async t => {
    const path = join(dir, 'file')
    const script = `
      import { openSync, readFileSync } from 'node:fs'
      import { createRequire } from 'node:module'
      const addon = createRequire(import.meta.url)(${JSON.stringify(join(import.meta.dirname, '../build/Release/addon.node'))})
      const fd = openSync(${JSON.stringify(path)}, 'r')
      const count = () => readFileSync('/proc/self/maps', 'latin1').split(${JSON.stringify(path)}).length - 1
      for (let i = 0; i < 100; i++) addon.mapFile(fd, 5, 'r')
      const before = count()
      for (let i = 0; i < 50 && count() > 0; i++) { gc(); await new Promise(setImmediate) }
      console.log(before > 0, count())`
    const run = spawnSync(process.execPath, ['--expose-gc', '--input-type=module', '-e', script], {
      encoding: 'utf8',
      env: {},
    })
    t.equal(run.stdout, 'true 0\n', run.stderr)
  })
})

t.test('registered files have ids that are never used again', async t => {
  const fd = openSync(join(t.testdir({ file: 'hello' }), 'file'), 'r')
  const first = native.registerFile(fd, 5)
  t.ok(first >= 1)
  native.releaseFile(first)
  t.throws(() => native.releaseFile(first), badArgument)
  const second = native.registerFile(fd, 5)
  t.not(second, first)
  t.throws(() => native.registerFile(fd, 6), { code: 'SYS_EFBIG' })
  closeSync(fd)
  t.throws(() => native.registerFile(fd, 5), { code: 'SYS_EBADF' })
  native.releaseFile(second)
})

t.test('xattrs by byte paths, of symlinks too', async t => {
  const dir = t.testdir({})
  const path = Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff, 0xfe, 0x20])])
  writeFileSync(path, '')
  const value = Buffer.from([0, 1, 255])
  native.lsetxattr(path, Buffer.from('user.one'), value)
  native.lsetxattr(path, Buffer.from('user.empty'), empty)
  t.strictSame(Buffer.from(native.lgetxattr(path, Buffer.from('user.one'))), value)
  t.equal(native.lgetxattr(path, Buffer.from('user.empty')).length, 0)
  const names = Buffer.from(native.llistxattr(path)).toString('latin1').split('\0').sort()
  t.strictSame(names, ['', 'user.empty', 'user.one'])
  t.throws(() => native.lgetxattr(path, Buffer.from('user.two')), { code: 'SYS_ENODATA', errno: 'ENODATA' })
  const link = Buffer.from(join(t.testdir({ link: t.fixture('symlink', '/nowhere') }), 'link'))
  t.equal(native.llistxattr(link).length, 0)
  native.lsetxattr(link, Buffer.from('trusted.x'), value)
  t.strictSame(Buffer.from(native.lgetxattr(link, Buffer.from('trusted.x'))), value)
})

t.test('mknod makes devices and fifos', async t => {
  const dir = t.testdir({})
  native.mknod(Buffer.from(`${dir}/null`), 0o020644, 1, 3)
  native.mknod(Buffer.from(`${dir}/fifo`), 0o010644, 0, 0)
  const status = statSync(`${dir}/null`)
  t.ok(status.isCharacterDevice())
  t.equal(status.rdev, 0x103)
  t.ok(statSync(`${dir}/fifo`).isFIFO())
  t.throws(() => native.mknod(Buffer.from(`${dir}/fifo`), 0o010644, 0, 0), { code: 'SYS_EEXIST' })
})

t.test('holes are found and made', async t => {
  const path = join(t.testdir({}), 'holes')
  const fd = openSync(path, 'w+')
  ftruncateSync(fd, 8 << 20)
  t.equal(native.seekData(fd, 0, 3), -1)
  writeFileSync(path, Buffer.alloc(8 << 20, 1))
  t.equal(native.seekData(fd, 0, 4), 8 << 20)
  native.fallocatePunch(fd, 1 << 20, 1 << 20)
  t.equal(native.seekData(fd, 0, 4), 1 << 20)
  t.equal(native.seekData(fd, 1 << 20, 3), 2 << 20)
  t.equal(statSync(path).size, 8 << 20)
  t.equal(readFileSync(path)[(2 << 20) - 1], 0)
  t.throws(() => native.fallocatePunch(fd, 0, 0), { code: 'SYS_EINVAL' })
  closeSync(fd)
  t.throws(() => native.seekData(fd, 0, 3), { code: 'SYS_EBADF' })
})

t.test('locks exclude other descriptions of the file', async t => {
  const path = join(t.testdir({ lock: '' }), 'lock')
  const one = openSync(path, 'r')
  const two = openSync(path, 'r')
  t.equal(native.lockFile(one, false), true)
  t.equal(native.lockFile(two, false), false)
  closeSync(one)
  t.equal(native.lockFile(two, true), true)
  closeSync(two)
})

t.test('shared locks go together, and keep an exclusive one out', async t => {
  const path = join(t.testdir({ lock: '' }), 'lock')
  const [one, two, three] = [openSync(path, 'r'), openSync(path, 'r'), openSync(path, 'r')]
  t.equal(native.lockFile(one, false, true), true)
  t.equal(native.lockFile(two, false, true), true)
  t.equal(native.lockFile(three, false), false)
  closeSync(one)
  closeSync(two)
  t.equal(native.lockFile(three, false), true)
  t.equal(native.lockFile(three, false, true), true, 'made a shared one')
  closeSync(three)
})

t.test('the limit of open files', async t => {
  const [soft, hard] = native.getFileLimit()
  t.teardown(() => native.setFileLimit(soft))
  t.ok(soft <= hard)
  t.equal(native.setFileLimit(soft - 1), soft - 1)
  t.equal(native.getFileLimit()[0], soft - 1)
  // Above fs.nr_open even root gets EPERM: the soft limit goes as high as the hard one.
  t.equal(native.setFileLimit(2 ** 40), hard)
  t.equal(native.setFileLimit(Infinity), hard)
})

t.test('mount and umount name what failed', async t => {
  const dir = t.testdir({})
  t.throws(() => native.mount('none', dir, 'no-such-type', 0, ''), { code: 'SYS_ENODEV', syscall: 'mount' })
  t.throws(() => native.umount(dir, 0), { code: 'SYS_EINVAL', syscall: 'umount' })
  native.mount('none', dir, 'tmpfs', 0, 'size=1m')
  t.equal(statSync(dir).dev === statSync(`${dir}/..`).dev, false)
  native.umount(dir, 0)
})

t.test('lz4', async t => {
  t.test('a known block', async t => {
    const block = Buffer.from(`1f410100${'ff'.repeat(19)}82504141414141`, 'hex')
    const out = Buffer.alloc(5000)
    t.equal(native.lz4Decompress(block, out), 5000)
    t.ok(out.equals(Buffer.alloc(5000, 'A')))
  })
  t.test('what it compresses, the oracle decodes; truncated input never passes', async t => {
    for (const length of [0, 1, 13, 4096, 100_000]) {
      const plain = sample(length)
      const packed = Buffer.alloc(length + (length >> 3) + 64)
      const size = native.lz4Compress(plain, packed)
      const block = packed.subarray(0, size)
      t.ok(lz4Oracle(block).equals(plain), `${length} bytes`)
      const out = Buffer.alloc(length + 10)
      t.equal(native.lz4Decompress(block, out), length)
      t.ok(out.subarray(0, length).equals(plain))
      if (length > 1) {
        t.throws(() => native.lz4Decompress(block, out.subarray(0, length - 1)), corrupt)
        t.throws(() => native.lz4Decompress(block.subarray(0, size - 1), out), corrupt)
      }
    }
    t.throws(() => native.lz4Decompress(empty, Buffer.alloc(10)), corrupt)
  })
  t.test('0 when the result does not fit', async t => {
    t.equal(native.lz4Compress(sample(1000), Buffer.alloc(100)), 0)
  })
})

t.test('zstd', async t => {
  const plain = sample(300_000)
  t.test('decodes what zstd-napi encodes, and the other way round', async t => {
    const out = Buffer.alloc(plain.length)
    t.equal(native.zstdDecompress(compress(plain), out), plain.length)
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
    t.throws(() => native.zstdDecompress(packed, out.subarray(1)), corrupt)
    t.throws(() => native.zstdDecompress(packed.subarray(0, -1), out), corrupt)
    t.throws(() => native.zstdDecompress(packed.subarray(1), out), corrupt)
    t.throws(() => native.zstdDecompress(sample(1000), out), corrupt)
    t.throws(() => native.zstdDecompress(empty, out), corrupt)
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
      native.zranInflate(stream.subarray(offset), dictionary, stream[offset - 1] ?? 0, bits, out)
      t.equal(Buffer.concat([dictionary, out]).toString('hex'), whole.toString('hex'), `${bits} bits pending`)
      t.throws(
        () => native.zranInflate(stream.subarray(offset), empty, stream[offset - 1] ?? 0, bits, out),
        corrupt,
      )
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
    native.zranInflate(raw(file), empty, 0, 0, out)
    t.ok(out.equals(Buffer.concat([one, two, one])))
    const part = Buffer.alloc(one.length + 100)
    native.zranInflate(raw(file), empty, 0, 0, part)
    t.ok(part.equals(Buffer.concat([one, two]).subarray(0, part.length)))
  })
  t.test('uses a dictionary of 32 KiB', async t => {
    const dictionary = one.subarray(0, 32768)
    const packed = deflateRawSync(one.subarray(32768), { dictionary, level: constants.Z_BEST_COMPRESSION })
    const out = Buffer.alloc(one.length - 32768)
    native.zranInflate(packed, dictionary, 0, 0, out)
    t.ok(out.equals(one.subarray(32768)))
  })
  t.test('refuses windows that hold less than they should, or garbage', async t => {
    const member = gzipSync(one)
    const out = Buffer.alloc(one.length + 1)
    const fits = out.subarray(1)
    native.zranInflate(raw(member), empty, 0, 0, fits)
    t.ok(fits.equals(one), 'the trailer is not needed when the window ends with the member')
    native.zranInflate(raw(member).subarray(0, -8), empty, 0, 0, fits)
    t.throws(() => native.zranInflate(raw(member), empty, 0, 0, out), corrupt)
    t.throws(() => native.zranInflate(raw(member).subarray(0, -4), empty, 0, 0, out), corrupt)
    t.throws(() => native.zranInflate(raw(member).subarray(0, 1000), empty, 0, 0, fits), corrupt)
    t.throws(() => native.zranInflate(Buffer.concat([raw(member), sample(40)]), empty, 0, 0, out), corrupt)
    t.throws(() => native.zranInflate(Buffer.alloc(100, 0xff), empty, 0, 0, fits), corrupt)
    t.throws(() => native.zranInflate(empty, empty, 0, 0, fits), corrupt)
    native.zranInflate(empty, empty, 0, 0, empty)
  })
})

t.test('codecs take shared memory and work in Workers', async t => {
  const plain = sample(10_000)
  const packed = compress(plain)
  const shared = new Uint8Array(new SharedArrayBuffer(plain.length))
  const source = `
    import { createRequire } from 'node:module'
    import { workerData } from 'node:worker_threads'
    const addon = createRequire(import.meta.url)(workerData.addon)
    addon.setErrorClass(class extends Error { constructor(code) { super(code) } })
    addon.zstdDecompress(workerData.packed, workerData.shared)
    try { addon.zstdDecompress(workerData.packed, new Uint8Array(1)) } catch (e) { process.exit(e.message === 'CODEC_CORRUPT' ? 7 : 1) }`
  const worker = new Worker(
    new URL(
      `data:text/javascript,${encodeURIComponent(source.replaceAll('import.meta.url', 'workerData.addon'))}`,
    ),
    {
      workerData: { addon: join(import.meta.dirname, '../build/Release/addon.node'), packed, shared },
    },
  )
  t.equal(await new Promise(resolve => worker.once('exit', resolve)), 7)
  t.ok(Buffer.from(shared).equals(plain))
})
