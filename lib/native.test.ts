import { closeSync, ftruncateSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { NydusError } from './base/errors.js'
import { native } from './native.js'

const empty = new Uint8Array(0)

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
    ['lz4Compress', [bytes, 5]],
    ['lz4Compress', [new Uint16Array(2), bytes]],
    ['lz4Compress', [bytes, bytes]],
    ['lz4Compress', [bytes.subarray(0, 3), bytes.subarray(2)]],
    ['zstdCompress', [bytes, Buffer.alloc(10), 23]],
    ['zstdCompress', [bytes, Buffer.alloc(10), trap]],
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
