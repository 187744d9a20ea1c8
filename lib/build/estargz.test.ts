/** eStargz layers: converted, referred to as a whole, and referred to by their table of contents alone. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { connectGuest, startDaemon } from '../daemon/testing/daemon.js'
import { guestTree } from '../daemon/testing/guest-tree.js'
import { tempDir } from '../daemon/testing/temp-dir.js'
import { sha256, type ManifestRecord } from '../../vm-tests/manifest.js'
import { fileRecord, makeStargz, OWNER, type StargzFile, type TocEntry } from './testing/estargz-file.js'
import { runTool } from './testing/image-tool.js'

const CHUNK = 64 << 10
const big = randomBytes(3 * CHUNK + 1000)
const text = Buffer.from('a line of text\n'.repeat(500))

const FILES: readonly StargzFile[] = [
  { name: '.no.prefetch.landmark', content: Buffer.from([0xf]) },
  { name: 'etc/', type: 'dir', mode: 0o755 },
  { name: 'etc/big', content: big, mode: 0o4755 },
  { name: 'etc/copy', content: big },
  { name: 'etc/empty', content: Buffer.alloc(0) },
  { name: 'etc/null', type: 'char', mode: 0o666 },
  { name: 'etc/soft', type: 'symlink', target: '../etc/text', mode: 0o777 },
  { name: 'etc/text', content: text, xattrs: { 'user.colour': 'blue' } },
  { name: 'etc/hard', type: 'hardlink', target: 'etc/text' },
]

function manifest(): ManifestRecord[] {
  const linked = { nlink: 2, xattrs: { 'user.colour': Buffer.from('blue').toString('hex') } }
  return [
    { path: '/', type: 'dir', mode: 0o755, uid: 0, gid: 0, mtime: 0 },
    { path: '/etc', type: 'dir', mode: 0o755, ...OWNER },
    fileRecord('/etc/big', big, { mode: 0o4755 }),
    fileRecord('/etc/copy', big),
    fileRecord('/etc/empty', Buffer.alloc(0)),
    fileRecord('/etc/hard', text, linked),
    { path: '/etc/null', type: 'chr', mode: 0o666, ...OWNER, nlink: 1, rdev: [1, 3] },
    { path: '/etc/soft', type: 'symlink', mode: 0o777, ...OWNER, nlink: 1, target: '../etc/text' },
    fileRecord('/etc/text', text, linked),
  ]
}

t.test('a guest sees the layer, however it is built', async t => {
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  const dir = tempDir(t)
  const { bytes, toc } = await makeStargz(FILES, { chunkSize: CHUNK })
  const id = sha256(bytes)
  const layer = join(dir, id)
  writeFileSync(layer, bytes)
  writeFileSync(join(dir, 'toc.json'), toc)
  const chunk = ['--chunk-size', String(CHUNK)]
  for (const [type, source, options] of [
    ['estargz-rafs', layer, []],
    ['estargz-ref', layer, []],
    ['targz-ref', layer, chunk],
    [
      'estargztoc-ref',
      join(dir, 'toc.json'),
      [...chunk, '--blob-id', id, '--blob-data-size', String(bytes.length)],
    ],
  ] as const)
    await t.test(type, async t => {
      const boot = join(dir, `${type}.boot`)
      const ran = await runTool('create', '-t', type, '-B', boot, '-D', dir, ...options, source)
      t.equal(ran.code, 0, ran.stderr)
      if (type !== 'estargz-rafs') t.match(ran.stderr, `data blobs: ["${id}"]`)
      for (const digestValidate of [false, true]) {
        const workDir = join(dir, `${type}${digestValidate}`)
        await daemon.mount('/layer', boot, { blobs: dir, digestValidate, workDir })
        t.strictSame(await guestTree(fuse, '/layer'), manifest())
        await daemon.umount('/layer')
      }
    })
})

interface Lie {
  readonly what: string
  readonly types: string
  readonly lie?: (entries: TocEntry[]) => void
  readonly footer?: (offset: number) => number
  readonly sentence: RegExp
}

function find(entries: readonly TocEntry[], name: string): TocEntry {
  const entry = entries.find(candidate => candidate['name'] === name)
  if (entry === undefined) throw new Error(`no entry ${name}`)
  return entry
}

/** Changes fields of the first entry of that name. */
const change =
  (name: string, fields: TocEntry) =>
  (entries: TocEntry[]): void => {
    Object.assign(find(entries, name), fields)
  }

const WHOLE = 'estargz-rafs estargz-ref'
const LIES: readonly Lie[] = [
  {
    what: 'a file that is not there',
    types: WHOLE,
    lie: entries => entries.push({ name: 'etc/ghost', type: 'reg', size: 0 }),
    sentence: /table of contents lists 'etc\/ghost', the archive does not have it/,
  },
  {
    what: 'a file that it leaves out',
    types: WHOLE,
    lie: entries => entries.splice(entries.indexOf(find(entries, 'etc/text')), 1),
    sentence: /'\/etc\/text' is in the archive, but not in its table of contents/,
  },
  {
    what: 'another size',
    types: WHOLE,
    lie: change('etc/text', { size: 7 }),
    sentence: /'etc\/text' has 7 bytes in its table of contents, 7500 in the archive/,
  },
  {
    what: 'another type',
    types: WHOLE,
    lie: change('etc/soft', { type: 'fifo' }),
    sentence: /'etc\/soft' is a fifo in its table of contents/,
  },
  {
    what: 'a footer that points elsewhere',
    types: WHOLE,
    footer: offset => offset - 1000,
    sentence: /its footer says that the table of contents starts at byte \d+, it does not/,
  },
  {
    what: 'a field of the wrong type',
    types: `${WHOLE} estargztoc-ref`,
    lie: change('etc/text', { size: 'large' }),
    sentence: /table of contents is damaged at entries\.\d+\.size/,
  },
  {
    what: 'a digest that is none',
    types: `${WHOLE} estargztoc-ref`,
    lie: change('etc/text', { chunkDigest: 'md5:00' }),
    sentence: /table of contents is damaged at entries\.\d+\.chunkDigest/,
  },
  {
    what: 'a chunk behind the end',
    types: 'estargztoc-ref',
    lie: change('etc/text', { offset: 1e9 }),
    sentence: /'etc\/text': chunk 0 starts at byte 1000000000, the layer has/,
  },
  {
    what: 'a path that leaves the root',
    types: 'estargztoc-ref',
    lie: entries => entries.push({ name: '../x', type: 'reg', size: 0 }),
    sentence: /'\.\.\/x': '\.\.' could leave the image's root/,
  },
  {
    what: 'a link to nothing',
    types: 'estargztoc-ref',
    lie: change('etc/hard', { linkName: 'etc/ghost' }),
    sentence: /'etc\/hard': a hard link to 'etc\/ghost', which does not come earlier/,
  },
  {
    what: 'a chunk that is missing',
    types: 'estargztoc-ref',
    lie: entries => entries.splice(entries.indexOf(find(entries, 'etc/big')) + 1, 1),
    sentence: /'etc\/big': its 197608 bytes are 3 chunks in the table/,
  },
  {
    what: 'a chunk of another size',
    types: 'estargztoc-ref',
    lie: change('etc/big', { chunkSize: 5 }),
    sentence: /'etc\/big': chunk 0 has 5 bytes at 0, 65536 at 0 expected/,
  },
  {
    what: 'a chunk without a digest',
    types: 'estargztoc-ref',
    lie: change('etc/text', { chunkDigest: '', digest: '' }),
    sentence: /'etc\/text': chunk 0 has no digest/,
  },
]

t.test('a table of contents that lies is told in one sentence, and leaves nothing', async t => {
  const dir = tempDir(t)
  for (const { what, types, lie, footer, sentence } of LIES) {
    const { bytes, toc } = await makeStargz(FILES, {
      chunkSize: CHUNK,
      ...(lie && { lie }),
      ...(footer && { footer }),
    })
    for (const type of types.split(' ')) {
      const byToc = type === 'estargztoc-ref'
      const source = join(dir, 'the source')
      writeFileSync(source, byToc ? toc : bytes)
      const out = join(dir, 'out')
      mkdirSync(out, { recursive: true })
      const options = byToc ? ['--blob-id', sha256(bytes), '--blob-data-size', String(bytes.length)] : []
      const ran = await runTool(
        ...['create', '-t', type, '-B', join(out, 'boot'), '-D', out, '--chunk-size', String(CHUNK)],
        ...[...options, source],
      )
      t.equal(ran.code, 1, `${type}, ${what}`)
      t.match(ran.stderr, sentence, `${type}, ${what}`)
      t.match(ran.stderr, /^Error: [^\n]*the source[^\n]*\n$/, 'one line that names the file')
      t.strictSame(readdirSync(out), [], 'nothing is left')
    }
  }
})

t.test('a tar.gz that is no eStargz', async t => {
  const dir = tempDir(t)
  const { bytes } = await makeStargz(FILES)
  const layer = join(dir, 'layer')
  writeFileSync(layer, bytes.subarray(0, -51))
  for (const type of WHOLE.split(' ')) {
    const ran = await runTool('create', '-t', type, '-B', join(dir, 'boot'), '-D', dir, layer)
    t.equal(ran.code, 1)
    t.match(ran.stderr, /layer: it has no eStargz footer: use --type targz-rafs or targz-ref/)
  }
  t.strictSame(readdirSync(dir), ['layer'])
})
