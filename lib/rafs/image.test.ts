import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { compress } from 'zstd-napi'
import { explain } from '../base/errors.js'
import { newAttr } from '../vfs/filesystem.js'
import { openRafs } from './fs.js'
import { RafsImage } from './image.js'
import { InodeV5, V5_ROOT_INDEX } from './layout/v5.js'
import { recordV5 } from './testing/fixtures.js'
import { fixtureNamed } from '../../vm-tests/fixtures.js'
import { rawInline, tocInline, TOC_COMPRESSION } from './testing/inline.js'
import { Entries, Extents, latin1 } from './testing/sinks.js'

const V5 = readFileSync(fixtureNamed('v5-lz4-blake3').bootstrap)
const V6 = readFileSync(fixtureNamed('v6-zstd-blake3').bootstrap)
const TOC_INLINE = fixtureNamed('v6-toc-inline').bootstrap
const TOC_ID = TOC_INLINE.split('/').at(-1) ?? ''

function open(path: string | Buffer, options: { workDir?: string; validate?: boolean } = {}) {
  return RafsImage.open({ path, xattrs: true, validate: false, ...options })
}

/** Opens, counts the entries below the root, closes. */
async function count(path: string, workDir?: string): Promise<number> {
  const image = await open(path, workDir === undefined ? {} : { workDir })
  try {
    return [...image.walk()].length
  } finally {
    await image.close()
  }
}

/** No descriptor and no temporary file is left behind by what `run` does. */
async function leavesNothing(t: Test, run: () => Promise<void>): Promise<void> {
  const left = () => ({
    fds: readdirSync('/proc/self/fd').length,
    temp: readdirSync(tmpdir()).filter(name => name.includes('image.boot')),
  })
  const before = left()
  await run()
  t.strictSame(left(), before)
}

t.test('what is no image is refused with one sentence', async t => {
  const dir = t.testdir({
    folder: {},
    empty: '',
    text: 'hello\n'.repeat(1000),
    tiny: Buffer.alloc(1200),
    short: V6.subarray(0, 1200),
    'short-v5': V5.subarray(0, 5000),
    'old-v5': Buffer.concat([V5.subarray(0, 4), Buffer.from([0, 4, 0, 0]), V5.subarray(8)]),
    cut: V6.subarray(0, V6.length - 4096),
    'blob-without': tocInline(Buffer.alloc(10), V6, V6, TOC_COMPRESSION.NONE).fill(
      0x41,
      10 + V6.length + 512 + 8,
      10 + V6.length + 512 + 12,
    ),
  })
  symlinkSync('nowhere', join(dir, 'dangling'))
  execFileSync('mkfifo', [join(dir, 'fifo')])
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ['missing', 'RAFS_NOT_FOUND', /No such file or directory \(os error 2\)/],
    ['dangling', 'RAFS_NOT_FOUND', /No such file or directory/],
    ['folder', 'RAFS_IS_FOLDER', /is a folder; wanted the bootstrap file/],
    ['fifo', 'RAFS_NOT_FILE', /not a regular file/],
    ['empty', 'RAFS_NOT_BOOTSTRAP', /is empty/],
    ['text', 'RAFS_NOT_BOOTSTRAP', /is not a RAFS bootstrap: magic 0x6c6c6568/],
    ['tiny', 'RAFS_NOT_BOOTSTRAP', /1200 bytes are less than any superblock/],
    ['short', 'RAFS_TRUNCATED', /ends at 1200, inside its superblock/],
    ['short-v5', 'RAFS_TRUNCATED', /has 5000 bytes/],
    ['old-v5', 'RAFS_BAD_VERSION', /version is 0x400, wanted 0x500/],
    ['cut', 'RAFS_TRUNCATED', /chunk table takes/],
    ['blob-without', 'RAFS_NOT_BOOTSTRAP', /table of contents names no image\.boot/],
  ]
  await leavesNothing(t, async () => {
    for (const [name, code, message] of cases)
      await t.rejects(
        open(join(dir, name)),
        { name: 'NydusError', code, message: new RegExp(`${name}.*${message.source}`) },
        name,
      )
  })
})

t.test('a file that may not be read', async t => {
  const path = join(t.testdir({ boot: V6 }), 'boot')
  chmodSync(path, 0)
  const root = process.geteuid?.() === 0
  // Root may read everything: be nobody for a moment.
  if (root) process.seteuid?.(65534)
  try {
    await t.rejects(open(path), { code: 'RAFS_UNREADABLE', message: /cannot be opened/ })
  } finally {
    if (root) process.seteuid?.(0)
  }
})

t.test('a path of bytes that are no UTF-8', async t => {
  const path = Buffer.concat([Buffer.from(`${t.testdir()}/`), Buffer.of(0xff, 0x62)])
  writeFileSync(path, V6)
  const image = await open(path)
  t.equal(image.version, 6)
  await image.close()
})

t.test('a root that is no folder', async t => {
  const bytes = Buffer.from(V5)
  bytes.writeUInt32LE(0o100644, recordV5(bytes, V5_ROOT_INDEX) + InodeV5.at.mode)
  await leavesNothing(t, async () => {
    await t.rejects(open(join(t.testdir({ boot: bytes }), 'boot')), {
      code: 'RAFS_BAD_ROOT',
      message: /inode 1/,
    })
  })
})

t.test(
  'digest_validate: a changed digest below the root of a v5 image makes that folder EIO, in the root it refuses the mount',
  async t => {
    const image = await open(fixtureNamed('v5-zstd-sha256').bootstrap)
    const file = image.resolve(latin1('/dedup/shifted')) ?? 0
    const folder = image.resolve(latin1('/dedup')) ?? 0
    await image.close()
    const bytes = readFileSync(fixtureNamed('v5-zstd-sha256').bootstrap)
    const changeDigest = (ino: number) => {
      const at = recordV5(bytes, ino) + InodeV5.at.digest
      bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
    }
    changeDigest(file)
    const dir = t.testdir({ boot: bytes })
    for (const validate of [false, true]) {
      const damaged = await open(join(dir, 'boot'), { validate })
      const fs = openRafs(damaged.handle([]))
      const wanted = validate ? -5 : 0
      for (let again = 0; again < 2; again++) {
        t.equal(fs.getattr(file, newAttr()), wanted)
        t.equal(fs.getattr(folder, newAttr()), wanted)
      }
      t.equal(fs.getattr(fs.lookup(1, latin1('xattr'), 0, 5), newAttr()), 0)
      await damaged.close()
    }
    changeDigest(folder)
    writeFileSync(join(dir, 'boot'), bytes)
    await t.rejects(open(join(dir, 'boot'), { validate: true }), {
      code: 'RAFS_BAD_ROOT',
      message: /digest is wrong/,
    })
  },
)

t.test('digest_validate: chunk digests of v6 come from the chunk table', async t => {
  const image = await open(fixtureNamed('v6-lz4-64k').bootstrap, { validate: true })
  t.teardown(() => image.close())
  const v5 = await open(fixtureNamed('v5-zstd-sha256').bootstrap)
  t.teardown(() => v5.close())
  let compared = 0
  for (const { ino, type, path } of image.walk()) {
    if (type !== 0o100000) continue
    const [chunk, ...more] = [...image.chunks(ino)]
    const [record] = [...v5.chunks(v5.resolve(path) ?? 0)]
    // Files of one small chunk have the same digest in both images (both sha256).
    if (chunk === undefined || more.length > 0) continue
    compared++
    t.strictSame(chunk.want.digest, record?.want.record?.digest, path.toString('latin1'))
    t.strictSame(image.chunkDigest(chunk.blob, chunk.want.index), chunk.want.digest)
  }
  t.ok(compared > 200)
  t.equal(image.chunkDigest(0, 1 << 20), undefined)
  t.equal(image.chunkDigest(3, 0), undefined)
})

t.test('wants that no lane could have named', async t => {
  const v5 = await open(fixtureNamed('v5-lz4-blake3').bootstrap)
  const v6 = await open(fixtureNamed('v6-lz4-64k').bootstrap)
  for (const image of [v5, v6])
    for (const [blob, ref] of [
      [0, -1],
      [0, NaN],
      [0, 0.5],
      [0, 2 ** 53],
      [0, 2 ** 52],
      [0, image.bootstrapLength],
      [0, 8192],
      [1, 0],
      [-1, 0],
    ] as const)
      t.throws(() => image.want(blob, ref), { name: 'NydusError', code: 'RAFS_BAD_CHUNK' }, `${blob} ${ref}`)
  await Promise.all([v5.close(), v6.close()])
})

t.test('resolve, walk and pathsOf', async t => {
  const image = await open(fixtureNamed('v6-zstd-blake3').bootstrap)
  t.teardown(() => image.close())
  t.equal(image.resolve(latin1('/')), image.rootIno)
  t.equal(image.resolve(latin1('//deep/./level0/../level0/')), image.resolve(latin1('/deep/level0')))
  t.equal(image.resolve(latin1('/deep/nothing')), undefined)
  t.equal(image.resolve(latin1('/dedup/copy0/x')), undefined)
  const all = [...image.walk()]
  for (const { path, ino } of all) t.equal(image.resolve(path), ino, path.toString('latin1'))
  const [twice] = all.filter(
    ({ ino, type }, i) => type === 0o100000 && all.findIndex(e => e.ino === ino) !== i,
  )
  t.ok([...image.pathsOf(twice?.ino ?? 0)].length >= 2)
  const below = [...image.files(image.resolve(latin1('/dedup')) ?? 0)]
  t.equal(below.length, 4)
  t.strictSame([...image.files(below[0] ?? 0)], [below[0]])
  t.throws(() => [...image.walk(77_777_777)], { code: 'RAFS_BAD_INODE' })
})

t.test('a blob with its bootstrap: kept in the work_dir, used again, replaced when it is wrong', async t => {
  const workDir = join(t.testdir(), 'made', 'when needed')
  const kept = join(workDir, `${TOC_ID}.image.boot`)
  await leavesNothing(t, async () => {
    t.equal(await count(TOC_INLINE, workDir), 413)
    t.strictSame(readdirSync(workDir), [`${TOC_ID}.image.boot`])
    const { ino } = statSync(kept)
    t.equal(await count(TOC_INLINE, workDir), 413)
    t.equal(statSync(kept).ino, ino, 'the file of the first mount is used')
    for (const damage of [
      () => truncateSync(kept, 20_000),
      () => writeFileSync(kept, Buffer.alloc(statSync(kept).size)),
      () => writeFileSync(`${kept}.toc_downloading`, 'left by a daemon that was killed'),
    ]) {
      damage()
      t.equal(await count(TOC_INLINE, workDir), 413)
    }
    const image = await open(TOC_INLINE, { workDir })
    t.equal(image.blobs[0]?.id, TOC_ID)
    await image.close()
  })
})

t.test('many mounts of the same blob at once, and a work_dir that cannot be used', async t => {
  const dir = t.testdir({ file: '' })
  await leavesNothing(t, async () => {
    t.strictSame(
      await Promise.all(Array.from({ length: 8 }, () => count(TOC_INLINE, dir))),
      Array(8).fill(413),
    )
    t.strictSame(readdirSync(dir).sort(), [`${TOC_ID}.image.boot`, 'file'].sort())
    t.equal(await count(TOC_INLINE, join(dir, 'file')), 413)
    t.equal(await count(TOC_INLINE), 413)
  })
})

t.test('bootstraps behind data, raw and compressed, v5 and v6', async t => {
  const data = Buffer.alloc(5000, 'SFAR')
  const zstd = compress(V6)
  const dir = t.testdir({
    'c0de.v6': rawInline(data, V6),
    'c0de.v5': rawInline(data, V5),
    'c0de.no-data': rawInline(Buffer.alloc(0), V6),
    'c0de.toc': tocInline(data, V6, V6, TOC_COMPRESSION.NONE),
    'c0de.zstd': tocInline(data, zstd, V6, TOC_COMPRESSION.ZSTD),
    work: {},
  })
  await leavesNothing(t, async () => {
    for (const name of ['c0de.v6', 'c0de.v5', 'c0de.no-data', 'c0de.toc', 'c0de.zstd'])
      t.equal(await count(join(dir, name), join(dir, 'work')), 413, name)
  })
  t.strictSame(readdirSync(join(dir, 'work')), ['c0de.image.boot'])
})

t.test('blobs whose end lies', async t => {
  const data = Buffer.alloc(5000)
  const zstd = compress(V6)
  const good = tocInline(data, zstd, V6, TOC_COMPRESSION.ZSTD)
  const entry = good.length - 512 - 128
  const patched = (patch: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(good)
    patch(bytes)
    return bytes
  }
  const files: Readonly<Record<string, readonly [Buffer, string, RegExp]>> = {
    digest: [
      patched(b => b.writeUInt8(b.readUInt8(entry + 24) ^ 1, entry + 24)),
      'RAFS_BAD_DIGEST',
      /sha256/,
    ],
    frame: [patched(b => b.fill(0x55, 5000, 5100)), 'RAFS_BAD_TOC', /no zstd frame/],
    longer: [patched(b => b.writeUInt32LE(4096, entry + 72)), 'RAFS_BAD_TOC', /more bytes than the 4096/],
    shorter: [patched(b => b.writeUInt32LE(V6.length + 1, entry + 72)), 'RAFS_TRUNCATED', /bytes instead of/],
    huge: [patched(b => b.writeUInt32LE(2, entry + 76)), 'RAFS_BAD_TOC', /claims 8\d+ bytes/],
    none: [patched(b => b.writeUInt32LE(4, entry)), 'RAFS_BAD_TOC', /unknown compression 4/],
    behind: [
      patched(b => b.writeUInt32LE(good.length, entry + 56)),
      'RAFS_BAD_TOC',
      /behind the table of contents/,
    ],
    claims: [rawInline(Buffer.alloc(0), V6).subarray(512), 'RAFS_TRUNCATED', /claims 98304 bytes/],
    checksum: [
      patched(b => b.writeUInt8(0x37, good.length - 512 + 148)),
      'RAFS_NOT_BOOTSTRAP',
      /not a RAFS bootstrap/,
    ],
  }
  const contents = Object.fromEntries(Object.entries(files).map(([name, [bytes]]) => [name, bytes]))
  const dir = t.testdir({ ...contents, work: {} })
  await leavesNothing(t, async () => {
    for (const [name, [, code, message]] of Object.entries(files))
      await t.rejects(open(join(dir, name), { workDir: join(dir, 'work') }), { code, message }, name)
    t.strictSame(readdirSync(join(dir, 'work')), [])
  })
})

t.test('no room for the bootstrap anywhere', async t => {
  const dir = t.testdir()
  const was = process.env['TMPDIR']
  process.env['TMPDIR'] = join(dir, 'not there')
  t.teardown(() => {
    if (was === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = was
  })
  const error: unknown = await open(TOC_INLINE).catch((reason: unknown) => reason)
  t.match(error, { code: 'RAFS_NO_TEMP' })
  t.match(explain(error), /no room for its bootstrap of \d+ bytes in .*not there/)
})

t.test('a bootstrap that is cut under the mapping reads as zeros: errors, no crash', async t => {
  for (const name of ['v5-lz4-blake3', 'v6-zstd-blake3']) {
    const path = join(t.testdir({ boot: readFileSync(fixtureNamed(name).bootstrap) }), 'boot')
    const image = await open(path)
    const fs = openRafs(image.handle([]))
    const inos = [...image.walk()].map(entry => entry.ino)
    truncateSync(path, 4096)
    const attr = newAttr()
    const failed = inos.filter(ino => {
      fs.readdir(ino, 0, new Entries())
      fs.read(ino, 0, 1 << 20, new Extents())
      return fs.getattr(ino, attr) === -5
    })
    t.ok(failed.length > inos.length - 20, `${name}: ${failed.length} of ${inos.length}`)
    await image.close()
  }
})
