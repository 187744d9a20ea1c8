/** Images that refer to a layer as it is: what the reference builder makes of it, and what a guest sees of it. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import t from 'tap'
import { compress } from 'zstd-napi'
import { projectRoot } from '../../vm-tests/project.js'
import { connectGuest, startDaemon } from '../daemon/testing/daemon.js'
import { guestTree } from '../daemon/testing/guest-tree.js'
import { tempDir } from '../daemon/testing/temp-dir.js'
import { RafsImage } from '../rafs/image.js'
import { expectedRecords, fixtureNamed } from '../../vm-tests/fixtures.js'
import { runTool } from './testing/image-tool.js'
import { sha256 } from '../../vm-tests/manifest.js'

const BLOBS = join(projectRoot, 'vm-tests/fixtures/v6-zran/blobs')
const META = 'c72372a42d2f9ab85e2c1710c2c234984adad4365d588ed4782dcbb930a006c6'
/** What the reference builder (2.2) names the index of the same layer, unpacked. */
const PLAIN_META = '4f6356dbf939e81535686a0f7367ccb06188eee408e000d27164cf00a9a6adc8'
const LAYER = '738f465d584b2cfbc7ff4474ab857f6977e4f34b193d66fbfea4e91a0f9d9f8c'
const targz = readFileSync(join(BLOBS, LAYER))
const tar = gunzipSync(targz)

/** The archive as gzip members of uneven sizes and all kinds of blocks: stored, fixed, dynamic; none begins at a header. */
function members(): Buffer {
  const parts: Buffer[] = []
  for (let at = 0, i = 0; at < tar.length; i++) {
    const length = [700_001, 13, 2_500_003, 90_001][i % 4] ?? 0
    parts.push(gzipSync(tar.subarray(at, at + length), { level: [6, 0, 9, 1][i % 4] ?? 6 }))
    at += length
  }
  return Buffer.concat(parts)
}

t.test('the index of a layer is byte for byte that of the reference builder', async t => {
  const dir = tempDir(t)
  const ran = await runTool(
    'create',
    '-t',
    'targz-ref',
    '-B',
    join(dir, 'boot'),
    '-D',
    dir,
    join(BLOBS, LAYER),
  )
  t.equal(ran.code, 0, ran.stderr)
  t.match(ran.stderr, `data blobs: ["${LAYER}"]`)
  t.strictSame(readdirSync(dir).sort(), ['boot', META].sort())
  t.ok(readFileSync(join(dir, META)).equals(readFileSync(join(BLOBS, META))))
  const [ours, theirs] = [join(dir, 'boot'), fixtureNamed('v6-zran').bootstrap]
  const images = await Promise.all(
    [ours, theirs].map(path => RafsImage.open({ path, xattrs: false, validate: true })),
  )
  t.strictSame(images[0]?.blobs, images[1]?.blobs, 'the same blob table')
  for (const image of images) await image.close()
})

t.test('and so is that of a plain tar', async t => {
  const dir = tempDir(t)
  writeFileSync(join(dir, 'tar'), tar)
  const out = join(dir, 'out')
  mkdirSync(out)
  const ran = await runTool('create', '-t', 'targz-ref', '-B', join(dir, 'boot'), '-D', out, join(dir, 'tar'))
  t.equal(ran.code, 0, ran.stderr)
  t.strictSame(readdirSync(out), [PLAIN_META])
})

interface Case {
  readonly name: string
  readonly type: string
  readonly layer: Buffer
  readonly options?: readonly string[]
}
const CASES: readonly Case[] = [
  { name: 'tar.gz', type: 'targz-ref', layer: targz },
  { name: 'tar.gz, small chunks', type: 'targz-ref', layer: targz, options: ['--chunk-size', '0x10000'] },
  { name: 'many gzip members', type: 'targz-ref', layer: members() },
  { name: 'zeros behind the end', type: 'targz-ref', layer: Buffer.concat([targz, Buffer.alloc(10_240)]) },
  { name: 'plain tar', type: 'targz-ref', layer: tar },
  { name: 'tar.gz, table of contents', type: 'targz-ref', layer: targz, options: ['--features', 'blob-toc'] },
  { name: 'tarfs', type: 'tar-tarfs', layer: tar },
]

t.test('a guest sees the layer, through the whole daemon', async t => {
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  const manifest = expectedRecords(fixtureNamed('v6-zran'))
  const dir = tempDir(t)
  for (const [i, { name, type, layer, options = [] }] of CASES.entries())
    await t.test(name, async t => {
      const folder = join(dir, String(i))
      mkdirSync(folder)
      writeFileSync(join(folder, sha256(layer)), layer)
      const bootstrap = join(dir, `${i}.boot`)
      const ran = await runTool(
        ...['create', '-t', type, '-B', bootstrap, '-D', folder, ...options, join(folder, sha256(layer))],
      )
      t.equal(ran.code, 0, ran.stderr)
      t.match(ran.stderr, `data blobs: ["${sha256(layer)}"]`)
      t.equal((await runTool('check', bootstrap)).code, 0, 'our check finds nothing wrong')
      // Windows are cut out of the stream anew when there is no cache to keep them.
      for (const workDir of i < 1 ? [join(dir, `${i}.cache`), undefined] : [join(dir, `${i}.cache`)]) {
        await daemon.mount('/layer', bootstrap, {
          blobs: folder,
          digestValidate: true,
          ...(workDir && { workDir }),
        })
        t.strictSame(await guestTree(fuse, '/layer'), manifest)
        await daemon.umount('/layer')
      }
    })
  for (const features of [[], ['--features', 'blob-toc']])
    await t.test(`all metadata in one file ${features.join(' ')}`, async t => {
      const folder = join(dir, `inline${features.length}`)
      mkdirSync(folder)
      copyFileSync(join(BLOBS, LAYER), join(folder, LAYER))
      const blob = join(folder, 'e'.repeat(64))
      const ran = await runTool(
        ...['create', '-t', 'targz-ref', '--blob-inline-meta', ...features, '-b', blob, join(folder, LAYER)],
      )
      t.equal(ran.code, 0, ran.stderr)
      await daemon.mount('/layer', blob, { blobs: folder, workDir: join(dir, 'cache') })
      t.strictSame(await guestTree(fuse, '/layer'), manifest)
      await daemon.umount('/layer')
    })
})

const LAYERS = ['l1', 'l2', 'l3'].map(name => join(projectRoot, 'vm-tests/fixtures/layers', `${name}.tar.gz`))

t.test('layers by reference: each upon the one below, whatever that one is', async t => {
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  for (const [first, then] of [
    ['targz-ref', 'targz-ref'],
    ['targz-rafs', 'targz-ref'],
  ] as const) {
    const dir = tempDir(t)
    let parent: string[] = []
    for (const [i, layer] of LAYERS.entries()) {
      copyFileSync(layer, join(dir, sha256(readFileSync(layer))))
      const type = i % 2 === 0 ? first : then
      const digester = type === 'targz-rafs' ? ['--digester', 'sha256'] : []
      const boot = join(dir, `boot${i}`)
      const ran = await runTool('create', '-t', type, ...digester, ...parent, '-B', boot, '-D', dir, layer)
      t.equal(ran.code, 0, ran.stderr)
      parent = ['--parent-bootstrap', boot]
    }
    const boot = join(dir, 'boot2')
    t.equal((await runTool('check', boot)).code, 0)
    await daemon.mount('/layers', boot, { blobs: dir, digestValidate: true, workDir: join(dir, 'cache') })
    t.strictSame(
      await guestTree(fuse, '/layers'),
      expectedRecords(fixtureNamed('layers')),
      `${first}, ${then}`,
    )
    await daemon.umount('/layers')
  }
})

t.test('a dictionary: chunks that it has are not looked for in the layer', async t => {
  const dir = tempDir(t)
  const layer = join(BLOBS, LAYER)
  const create = (...argv: string[]) => runTool('create', ...argv, '-D', dir, layer)
  const own = await create('-t', 'targz-rafs', '--digester', 'sha256', '-B', join(dir, 'dict'))
  const id = /data blobs: \["(\w+)"\]/.exec(own.stderr)?.[1] ?? ''
  const before = readdirSync(dir)
  const ran = await create('-t', 'targz-ref', '--chunk-dict', join(dir, 'dict'), '-B', join(dir, 'boot'))
  t.equal(ran.code, 0, ran.stderr)
  t.match(ran.stderr, `data blobs: ["${id}"]`, 'all of them, so that the layer is not needed')
  t.strictSame(readdirSync(dir).toSorted(), [...before, 'boot'].toSorted(), 'and no index of it')
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  await daemon.mount('/layer', join(dir, 'boot'), { blobs: dir, digestValidate: true })
  t.strictSame(await guestTree(fuse, '/layer'), expectedRecords(fixtureNamed('v6-zran')))
  await daemon.umount('/layer')

  await create('-t', 'targz-rafs', '-B', join(dir, 'blake3'))
  const refused = await create(
    '-t',
    'targz-ref',
    '--parent-bootstrap',
    join(dir, 'blake3'),
    '-B',
    join(dir, 'b'),
  )
  t.equal(refused.code, 1)
  t.match(
    refused.stderr,
    /has the digester blake3, this image sha256: build the other with --digester sha256/,
  )
})

t.test('tar.gz and tar.zst give the image that the tar gives', async t => {
  const dir = tempDir(t)
  const ids: string[] = []
  // Two frames, the second without a content size or checksum in its head: what `cat a.zst b.zst` gives.
  const zstd = Buffer.concat([compress(tar.subarray(0, 1_000_000)), compress(tar.subarray(1_000_000))])
  for (const [name, bytes] of Object.entries({
    tar,
    'tar.gz': targz,
    'tar.zst': zstd,
    'members.gz': members(),
  })) {
    writeFileSync(join(dir, name), bytes)
    const ran = await runTool('create', '-t', 'tar-rafs', '-B', join(dir, 'boot'), '-D', dir, join(dir, name))
    t.equal(ran.code, 0, ran.stderr)
    ids.push(/data blobs: (.*)/.exec(ran.stderr)?.[1] ?? '', sha256(readFileSync(join(dir, 'boot'))))
  }
  for (let i = 2; i < ids.length; i++) t.equal(ids[i], ids[i - 2])
})

/** GNU tar's old format: a file of which only the middle is in the archive. */
function sparseTar(dir: string): Buffer {
  const path = join(dir, 'holes')
  const file = openSync(path, 'w')
  writeSync(file, 'data', 500_000)
  ftruncateSync(file, 1_000_000)
  closeSync(file)
  return execFileSync('tar', ['-c', '--sparse', '--format=gnu', '-C', dir, 'holes'])
}

t.test('what cannot be referred to is told in one sentence, and leaves nothing', async t => {
  const dir = tempDir(t)
  writeFileSync(join(dir, 'one'), randomBytes(30_000))
  writeFileSync(join(dir, 'two'), randomBytes(30_000))
  const good = execFileSync('tar', ['-c', '-C', dir, 'one', 'two'])
  const packed = gzipSync(good)
  const zstd = compress(good)
  const flipped = Buffer.from(packed)
  flipped.writeUInt8((flipped.at(-6) ?? 0) ^ 1, flipped.length - 6)
  const garbage = Buffer.concat([packed, Buffer.from('garbage')])
  const sparse = sparseTar(dir)
  const cases: readonly [what: string, types: string, bytes: Uint8Array, sentence: RegExp][] = [
    ['empty', 'targz-ref targz-rafs tar-tarfs', Buffer.alloc(0), /empty/],
    [
      'cut in the gzip header',
      'targz-ref targz-rafs',
      packed.subarray(0, 7),
      /truncated: it ends after 7 bytes/,
    ],
    [
      'cut in the data',
      'targz-ref targz-rafs',
      packed.subarray(0, 30_000),
      /truncated: it ends after 30000 bytes/,
    ],
    ['cut in the trailer', 'targz-ref targz-rafs', packed.subarray(0, -3), /truncated/],
    ['a wrong checksum', 'targz-ref targz-rafs', flipped, /damaged: incorrect (data|length) check/],
    ['garbage behind the end', 'targz-ref targz-rafs', garbage, /bytes that are no gzip data follow its end/],
    [
      'garbage behind zeros',
      'targz-ref',
      Buffer.concat([packed, Buffer.alloc(99), garbage]),
      /follow its end/,
    ],
    ['a tar cut short, packed', 'targz-ref targz-rafs', gzipSync(good.subarray(0, 40_000)), /truncated/],
    ['a tar cut short', 'targz-ref tar-tarfs', good.subarray(0, 40_000), /truncated/],
    ['no archive', 'targz-ref tar-tarfs', Buffer.alloc(4096, 'x'), /not a tar archive/],
    ['zstd', 'targz-ref', zstd, /packed with zstd/],
    ['zstd cut short', 'tar-rafs', zstd.subarray(0, 50_000), /truncated: it ends after 50000 bytes/],
    ['zstd and garbage', 'tar-rafs', Buffer.concat([zstd, Buffer.from('garbage')]), /damaged/],
    ['packed for tarfs', 'tar-tarfs', packed, /packed with gzip/],
    ['a sparse file', 'targz-ref tar-tarfs', sparse, /'holes' \(header at byte 0\) is a sparse file/],
    ['a sparse file, packed', 'targz-ref', gzipSync(sparse), /'holes' \(header at byte 0\) is a sparse file/],
  ]
  for (const [what, types, bytes, sentence] of cases)
    for (const type of types.split(' ')) {
      const source = join(dir, 'source file')
      writeFileSync(source, bytes)
      const out = join(dir, 'out')
      mkdirSync(out, { recursive: true })
      const ran = await runTool('create', '-t', type, '-B', join(out, 'boot'), '-D', out, source)
      t.equal(ran.code, 1, `${type}, ${what}`)
      t.match(ran.stderr, sentence, `${type}, ${what}`)
      t.match(ran.stderr, /^Error: [^\n]*source file[^\n]*\n$/, 'one line that names the file')
      t.strictSame(readdirSync(out), [], 'nothing is left')
    }
})

t.test('options that such an image has no use for are refused', async t => {
  const dir = tempDir(t)
  const source = join(BLOBS, LAYER)
  for (const [type, options, sentence] of [
    ['targz-ref', ['--encrypt'], 'conversion type `targz-ref` conflicts with `--encrypt`'],
    ['targz-ref', ['--blob-id', 'x'], 'conversion type `targz-ref` conflicts with `--blob-id`'],
    ['targz-ref', ['--blob-cache-dir', dir], 'conversion type `targz-ref` conflicts with `--blob-cache-dir`'],
    ['targz-ref', ['-v', '5'], '--type targz-ref needs --fs-version 6'],
    ['tar-tarfs', ['--blob-cache-dir', dir], 'conversion type `tar-tarfs` conflicts with `--blob-cache-dir`'],
    ['tar-tarfs', ['--chunk-dict', 'x'], 'conversion type `tar-tarfs` conflicts with `--chunk-dict`'],
    ['estargztoc-ref', [], '--type estargztoc-ref needs --blob-id: the sha256 of the layer, 64 hex digits'],
  ] as const) {
    const ran = await runTool('create', '-t', type, '-B', join(dir, 'boot'), ...options, source)
    t.equal(ran.code, 2)
    t.equal(ran.stderr, `Error: ${sentence}\n`)
  }
})
