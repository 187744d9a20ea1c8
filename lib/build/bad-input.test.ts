/** What a build refuses, in which words, and that nothing is left under a final name (nydus-image.md 1, issue 5). */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { once } from 'node:events'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { pack, type Header } from 'tar-stream'
import { native } from '../native.js'
import { tempDir } from '../daemon/testing/temp-dir.js'
import { fixtureNamed } from '../../vm-tests/fixtures.js'
import { runTool, runToolWith, startTool } from './testing/image-tool.js'
import { needsRoot } from './testing/source-tree.js'

const MNT_DETACH = 2

type Entry = Partial<Header> & { readonly name: string; readonly content?: Buffer }

async function tarOf(...entries: readonly Entry[]): Promise<Buffer> {
  const archive = pack()
  for (const { content, ...headers } of entries) archive.entry(headers, content ?? '')
  archive.finalize()
  const parts: Buffer[] = []
  for await (const part of archive) parts.push(part as Buffer)
  return Buffer.concat(parts)
}

const file = (name: string, content = Buffer.from(name)): Entry => ({ name, content, size: content.length })

/** A folder with sources, and one for outputs. */
function places(t: Test): { dir: string; out: string; at: (name: string) => string } {
  const dir = tempDir(t)
  const out = join(dir, 'out')
  mkdirSync(out)
  return { dir, out, at: name => join(dir, name) }
}

t.test('bad input: a sentence that names the path, exit 1, no output', async t => {
  const { dir, out, at } = places(t)
  const good = await tarOf(file('a', Buffer.alloc(100_000, 'abc')), file('b'))
  const archive = (name: string, bytes: Uint8Array): string => {
    writeFileSync(at(name), bytes)
    return at(name)
  }
  mkdirSync(at('tree'))
  writeFileSync(at('tree/file'), 'content')
  writeFileSync(at('image.v5'), readFileSync(fixtureNamed('v5-lz4-blake3').bootstrap))
  writeFileSync(at('image.v6'), readFileSync(fixtureNamed('v6-zstd-blake3').bootstrap))
  const damaged = Buffer.from(good)
  damaged[120] = 0x78
  const gz = gzipSync(good)
  const broken = Buffer.from(gz)
  broken[200] = (broken[200] ?? 0) ^ 0xff
  const tar = ['-t', 'tar-rafs']
  const targz = ['-t', 'targz-rafs']
  const long = 'n'.repeat(300)
  const rows: [about: string, argv: readonly string[], message: RegExp][] = [
    ['no source', [at('none')], /none/],
    ['a file as a folder', [at('tree/file')], /tree\/file is not a folder; .*--type tar-rafs/],
    ['no archive', [...tar, at('none.tar')], /none\.tar/],
    ['a folder as an archive', [...tar, at('tree')], /tree/],
    ['an empty archive', [...tar, archive('empty.tar', Buffer.alloc(0))], /empty\.tar: .*empty/],
    ['no tar at all', [...tar, archive('text', Buffer.alloc(2000, 'words '))], /text: .*not a tar archive/],
    ['a damaged header', [...tar, archive('damaged.tar', damaged)], /damaged\.tar: .*header at byte 0/],
    [
      'a truncated tar: in a file',
      [...tar, archive('cut.tar', good.subarray(0, 50_000))],
      /cut\.tar: .*truncated/,
    ],
    [
      'a truncated tar: in a header',
      [...tar, archive('cut2.tar', good.subarray(0, 300))],
      /cut2\.tar: .*truncated/,
    ],
    ['a truncated gzip', [...targz, archive('cut.tgz', gz.subarray(0, gz.length - 20))], /cut\.tgz/],
    ['a damaged gzip', [...targz, archive('bad.tgz', broken)], /bad\.tgz/],
    [
      "'..' in a name",
      [...tar, archive('up.tar', await tarOf(file('x/../../etc/passwd')))],
      /up\.tar: .*'x\/\.\.\/\.\.\/etc\/passwd'.*'\.\.'/,
    ],
    [
      'a hard link to nothing',
      [...tar, archive('link.tar', await tarOf({ name: 'l', type: 'link', linkname: 'gone' }))],
      /link\.tar: .*'l'.*'gone'/,
    ],
    [
      'a long name',
      [...tar, archive('long.tar', await tarOf({ name: long, type: 'directory' }))],
      /long\.tar: .*300 bytes/,
    ],
    ['no parent', ['--parent-bootstrap', at('none.boot'), at('tree')], /none\.boot/],
    ['a parent that is no image', ['--parent-bootstrap', at('text'), at('tree')], /text/],
    [
      'a parent of the other version',
      ['--parent-bootstrap', at('image.v5'), at('tree')],
      /image\.v5 has RAFS version 5.*--fs-version 5/,
    ],
    [
      'a parent with other chunks',
      ['-v', '6', '--chunk-size', '0x10000', '--parent-bootstrap', at('image.v6'), at('tree')],
      /image\.v6 has a chunk size of 1048576.*--chunk-size/,
    ],
    [
      'a dictionary with another digester',
      ['--digester', 'sha256', '--chunk-dict', `bootstrap=${at('image.v6')}`, at('tree')],
      /image\.v6 has the digester blake3.*--digester/,
    ],
    ['no dictionary', ['--chunk-dict', at('none.dict'), at('tree')], /none\.dict/],
    ['no folder for the bootstrap', ['-B', at('none/boot'), at('tree')], /none\/boot/],
    ['no folder for blobs', ['-D', at('none'), at('tree')], /none is not a folder/],
    [
      'an attribute that nobody knows',
      ['--attributes', archive('attrs', Buffer.from('# rules\n*.bin type=remote\n')), at('tree')],
      /attrs, line 2/,
    ],
    [
      'an upload that cannot work',
      ['--backend-type', 'localfs', '--backend-config', `{"dir":"${at('none')}"}`, at('tree')],
      /none/,
    ],
  ]
  const before = readdirSync(dir).toSorted()
  for (const [about, argv, message] of rows) {
    const options = argv.includes('-D') ? [] : ['-D', out]
    const place = argv.includes('-B') ? [] : ['-B', join(out, 'boot')]
    const { code, stderr } = await runTool('create', ...options, ...place, ...argv)
    t.equal(code, 1, about)
    t.match(stderr, message, about)
    t.match(stderr, /^Error: [^\n]+\n$/, `${about}: one sentence`)
    if (about !== 'an upload that cannot work') t.strictSame(readdirSync(out), [], `${about}: no output`)
    t.strictSame(readdirSync(dir).toSorted(), before, `${about}: nothing beside it`)
  }
  const mixed = await runTool('merge', '-B', join(out, 'merged'), at('image.v5'), at('image.v6'))
  t.equal(mixed.code, 2)
  t.match(mixed.stderr, /^Error: Inconsistent RAFS Filesystem: .*image\.v5 is v5, .*image\.v6 is v6\n$/)
  t.notOk(readdirSync(out).includes('merged'))
})

t.test('good input that looks bad', async t => {
  const { out, at } = places(t)
  const build = async (name: string, bytes: Uint8Array, ...options: string[]) => {
    writeFileSync(at(name), bytes)
    const { code, stderr } = await runTool(
      'create',
      '-D',
      out,
      '-B',
      at(`${name}.boot`),
      ...options,
      at(name),
    )
    t.equal(code, 0, `${name}: ${stderr}`)
    const checked = await runTool('check', '-v', '-B', at(`${name}.boot`))
    return checked.stdout
      .split('\n')
      .filter(line => line.startsWith('inode'))
      .map(line => line.replace(/^inode \d+: /, ''))
  }
  const tar = await tarOf(
    file('/absolute'),
    file('./twice', Buffer.from('first')),
    file('twice', Buffer.from('second')),
    { name: 'dir', type: 'symlink', linkname: '/etc' },
    file('dir/inside'),
  )
  t.strictSame(await build('odd.tar', tar, '-t', 'tar-rafs'), [
    '"/"',
    '"/absolute"',
    '"/dir"',
    '"/twice"',
    '"/dir/inside"',
  ])
  t.strictSame(
    (await build('plain', tar, '-t', 'targz-rafs')).length,
    5,
    'a plain tar where a tar.gz is expected',
  )
})

t.test('a reader that may not read', { skip: needsRoot }, async t => {
  const { dir, out, at } = places(t)
  mkdirSync(at('tree/secret'), { recursive: true })
  writeFileSync(at('tree/file'), 'content')
  chmodSync(dir, 0o755)
  chmodSync(out, 0o777)
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
  const build = () =>
    startTool(['create', '-D', out, '-B', join(out, 'boot'), at('tree')], { wrapper: nobody }).ended
  for (const path of ['tree/file', 'tree/secret']) {
    chmodSync(at(path), 0)
    const { code, stderr } = await build()
    t.equal(code, 1)
    t.match(stderr, new RegExp(`^Error: cannot read .*${path}.*Permission denied.*$`, 'm'))
    t.strictSame(readdirSync(out), [])
    chmodSync(at(path), 0o755)
  }
  t.equal((await build()).code, 0)
})

t.test('a full disk', { skip: needsRoot }, async t => {
  const { dir, at } = places(t)
  const small = mkdtempSync(join(dir, 'small-'))
  native.mount('none', small, 'tmpfs', 0, 'size=256k')
  t.teardown(() => native.umount(small, MNT_DETACH))
  mkdirSync(at('tree'))
  writeFileSync(at('tree/big'), Buffer.alloc(3 << 20, 'x'))
  const { code, stderr } = await runTool(
    'create',
    '--compressor',
    'none',
    '-D',
    small,
    '-B',
    at('boot'),
    at('tree'),
  )
  t.equal(code, 1)
  t.match(stderr, /^Error: cannot write [^\n]*small-[^\n]*no space left[^\n]*\n$/)
  t.strictSame(readdirSync(small), [])
  t.notOk(readdirSync(dir).includes('boot'))
})

/** Starts a build that stands still: it reads a FIFO that nobody has filled yet. */
async function stalled(t: Test, out: string, source: string) {
  t.equal(spawnSync('mkfifo', [source]).status, 0)
  const running = startTool(['create', '-t', 'tar-rafs', '-D', out, '-B', join(out, 'boot'), source])
  const { createWriteStream } = await import('node:fs')
  const writer = createWriteStream(source)
  await once(writer, 'open')
  writer.on('error', () => undefined)
  return { running, writer }
}

t.test('told to stop, it leaves nothing behind', async t => {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    const { out, at } = places(t)
    const { running, writer } = await stalled(t, out, at('fifo'))
    t.match(readdirSync(out).toSorted(), [/^\.nydus-image-.*tmp$/, /^\.nydus-image-.*tmp$/], 'it has begun')
    running.kill(signal)
    t.equal((await running.ended).code, code, signal)
    t.strictSame(readdirSync(out), [], signal)
    writer.destroy()
  }
})

t.test('a source that changes while it is read', async t => {
  const { out, at } = places(t)
  const changes: [about: string, change: (path: string) => void, message: RegExp][] = [
    ['shorter', path => truncateSync(path, 10), /tree\/victim changed while it was read: it had 100 bytes/],
    [
      'longer',
      path => writeFileSync(path, Buffer.alloc(200)),
      /tree\/victim changed while it was read: it had 100 bytes, now it has 200/,
    ],
    [
      'touched',
      path => utimesSync(path, 5, 5),
      /tree\/victim changed while it was read: its modification time/,
    ],
    ['gone', path => rmSync(path), /cannot read .*tree\/victim/],
    ['a link', path => (rmSync(path), symlinkSync('/etc/passwd', path)), /cannot read .*tree\/victim/],
  ]
  for (const [about, change, message] of changes) {
    mkdirSync(at('tree'))
    writeFileSync(at('tree/victim'), Buffer.alloc(100, 'v'))
    // The build reads files while it still walks, so the change is put in between here.
    const { DirSource } = await import('./dir-source.js')
    const { JobPool } = await import('./job-pool.js')
    const source = new DirSource(at('tree'), 'oci')
    const [folder] = source.walk()
    const { tree } = source
    const node = folder?.first ?? 0
    change(at('tree/victim'))
    const pool = new JobPool({ compressor: 'none', digester: 'blake3', chunkSize: 0x1000, batchLimit: 0 }, 1)
    const slot = pool.take()
    const { size } = tree.stat(node)
    slot.addFile(
      source.path(0),
      tree.names.bytes,
      tree.nameOffset(node),
      tree.nameLength(node),
      0,
      size,
      tree.stat(node),
    )
    await t.rejects(pool.run(slot, 'files'), { message }, about)
    pool.close()
    rmSync(at('tree'), { recursive: true })
  }
  t.strictSame(readdirSync(out), [])
})

t.test('the list of a prefetch policy', async t => {
  const { out, at } = places(t)
  mkdirSync(at('tree/a'), { recursive: true })
  for (const name of ['a/x', 'b', 'z']) writeFileSync(at(`tree/${name}`), name.repeat(10))
  const blobs = new Set<string>()
  for (const list of ['', '/z\n', `${at('tree')}/z\nnowhere\n`]) {
    const argv = [
      'create',
      '--compressor',
      'none',
      '--prefetch-policy',
      'fs',
      '-D',
      out,
      '-B',
      join(out, 'boot'),
      at('tree'),
    ]
    const { code, stderr } = await runToolWith(list, ...argv)
    t.equal(code, 0, stderr)
    for (const name of readdirSync(out))
      if (name !== 'boot') blobs.add(readFileSync(join(out, name)).subarray(0, 4).toString())
  }
  t.strictSame(
    [...blobs].toSorted(),
    ['bbbb', 'zzzz'],
    'z comes first when it is asked for, as an image path or a path on disk',
  )
})
