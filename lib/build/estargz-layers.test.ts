/** eStargz layers upon each other (`--parent-bootstrap`), referred to as a whole or by their tables of contents. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { connectGuest, startDaemon } from '../daemon/testing/daemon.js'
import { guestTree } from '../daemon/testing/guest-tree.js'
import { tempDir } from '../daemon/testing/temp-dir.js'
import { sha256, type ManifestRecord } from '../../vm-tests/manifest.js'
import { fileRecord, makeStargz, OWNER, type StargzFile } from './testing/estargz-file.js'
import { runTool } from './testing/image-tool.js'

const CHUNK = 64 << 10
const big = randomBytes(3 * CHUNK + 1000)
const [old, changed, added] = [9_000, 70_000, 40_000].map(size => randomBytes(size)) as [
  Buffer,
  Buffer,
  Buffer,
]

const LAYERS: readonly (readonly StargzFile[])[] = [
  [
    { name: 'lib/', type: 'dir', mode: 0o755 },
    { name: 'lib/big', content: big },
    { name: 'lib/gone', content: old },
    { name: 'lib/hard', type: 'hardlink', target: 'lib/gone' },
    { name: 'lib/text', content: old, xattrs: { 'user.colour': 'blue' } },
    { name: 'old/', type: 'dir', mode: 0o755 },
    { name: 'old/hidden', content: old },
    { name: 'tree/', type: 'dir', mode: 0o755 },
    { name: 'tree/leaf', content: old },
  ],
  [
    { name: 'lib/', type: 'dir', mode: 0o700 },
    { name: 'lib/.wh.gone', content: Buffer.alloc(0) },
    { name: 'lib/again', content: big },
    { name: 'lib/text', content: changed },
    { name: 'old/', type: 'dir', mode: 0o755 },
    { name: 'old/.wh..wh..opq', content: Buffer.alloc(0) },
    { name: 'old/added', content: added },
    { name: 'tree', type: 'symlink', target: 'old', mode: 0o777 },
  ],
  // Nothing that is not below already, but for its names.
  [
    { name: 'lib/', type: 'dir', mode: 0o700 },
    { name: 'lib/third', content: added },
  ],
]

const MERGED: readonly ManifestRecord[] = [
  { path: '/', type: 'dir', mode: 0o755, uid: 0, gid: 0, mtime: 0 },
  { path: '/lib', type: 'dir', mode: 0o700, ...OWNER },
  fileRecord('/lib/again', big),
  fileRecord('/lib/big', big),
  fileRecord('/lib/hard', old),
  fileRecord('/lib/text', changed),
  fileRecord('/lib/third', added),
  { path: '/old', type: 'dir', mode: 0o755, ...OWNER },
  fileRecord('/old/added', added),
  { path: '/tree', type: 'symlink', mode: 0o777, ...OWNER, nlink: 1, target: 'old' },
]

interface Layer {
  readonly id: string
  /** Options that name the source, by type. */
  options(type: string): readonly string[]
}

/** The layers and their tables as files in `dir`, named by their digests. */
async function writeLayers(dir: string): Promise<Layer[]> {
  return await Promise.all(
    LAYERS.map(async files => {
      const { bytes, toc } = await makeStargz(files, { chunkSize: CHUNK })
      const id = sha256(bytes)
      const path = join(dir, id)
      writeFileSync(path, bytes)
      writeFileSync(`${path}.json`, toc)
      const options = (type: string) =>
        type === 'estargztoc-ref'
          ? ['--blob-id', id, '--blob-data-size', String(bytes.length), `${path}.json`]
          : type === 'targz-rafs'
            ? ['--digester', 'sha256', path]
            : [path]
      return { id, options }
    }),
  )
}

function create(type: string, boot: string, dir: string, ...more: readonly string[]) {
  return runTool('create', '-t', type, '--chunk-size', String(CHUNK), '-B', boot, '-D', dir, ...more)
}

t.test('a guest sees the layers as one tree, whatever each is built as', async t => {
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  for (const types of [
    ['estargz-ref', 'estargz-ref', 'estargz-ref'],
    ['estargztoc-ref', 'estargztoc-ref', 'estargztoc-ref'],
    ['estargz-ref', 'estargztoc-ref', 'targz-ref'],
    ['estargztoc-ref', 'targz-ref', 'estargz-ref'],
    ['targz-rafs', 'estargz-ref', 'estargztoc-ref'],
    ['targz-rafs', 'estargztoc-ref', 'estargz-ref'],
  ] as const)
    await t.test(types.join(', '), async t => {
      const dir = tempDir(t)
      const layers = await writeLayers(dir)
      const boot = (i: number) => join(dir, `${i}.boot`)
      const blobs: string[] = []
      for (const [i, type] of types.entries()) {
        const parent = i === 0 ? [] : ['--parent-bootstrap', boot(i - 1)]
        const before = readdirSync(dir)
        const ran = await create(type, boot(i), dir, ...parent, ...(layers[i]?.options(type) ?? []))
        t.equal(ran.code, 0, ran.stderr)
        const listed = JSON.parse(/data blobs: (\[.*\])/.exec(ran.stderr)?.[1] ?? '[]') as string[]
        if (i === 2) {
          t.strictSame(listed, blobs, 'the last layer has no data of its own, and is not referred to')
          t.strictSame(readdirSync(dir).sort(), [...before, '2.boot'].sort(), 'so there is no index of it')
        } else {
          const own = type === 'targz-rafs' ? listed[0] : layers[i]?.id
          t.strictSame(listed, [...blobs, own])
          blobs.push(...listed.slice(blobs.length))
        }
      }
      t.equal((await runTool('check', boot(2))).code, 0, 'our check finds nothing wrong')
      for (const digestValidate of [false, true]) {
        const workDir = join(dir, `cache${digestValidate}`)
        await daemon.mount('/layers', boot(2), { blobs: dir, digestValidate, workDir })
        t.strictSame(await guestTree(fuse, '/layers'), MERGED)
        await daemon.umount('/layers')
      }
    })
})

t.test('parents that do not fit are refused in one sentence, and nothing is left', async t => {
  const dir = tempDir(t)
  const [below, layer] = await writeLayers(dir)
  const source = join(dir, below?.id ?? '')
  const parent = (name: string) => ['--parent-bootstrap', join(dir, name)]
  t.equal((await create('estargz-rafs', join(dir, 'blake3'), dir, source)).code, 0)
  t.equal((await runTool('create', '-t', 'estargz-ref', '-B', join(dir, 'large'), '-D', dir, source)).code, 0)
  t.equal(
    (await runTool('create', '-v', '5', '-B', join(dir, 'v5'), '-D', dir, '-t', 'targz-rafs', source)).code,
    0,
  )
  const out = join(dir, 'out')
  mkdirSync(out)
  for (const type of ['estargz-ref', 'estargztoc-ref'])
    for (const [name, sentence] of [
      ['blake3', /blake3 has the digester blake3, this image sha256: build the other with --digester sha256/],
      ['large', /large has a chunk size of 1048576, this image 65536: build with --chunk-size 1048576/],
      ['v5', /v5 has RAFS version 5, this image 6/],
      ['none', /none: No such file or directory/],
    ] as const) {
      const ran = await create(type, join(out, 'boot'), out, ...parent(name), ...(layer?.options(type) ?? []))
      t.equal(ran.code, 1, `${type}, ${name}`)
      t.match(ran.stderr, sentence)
      t.match(ran.stderr, /^Error: [^\n]*\n$/)
      t.strictSame(readdirSync(out), [])
    }
})
