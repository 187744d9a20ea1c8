/**
 * A folder with everything that is hard to archive, packed by GNU tar in each of its formats, becomes an image; a guest
 * sees the folder again. As root, who may give files away and set trusted xattrs.
 */
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { connectGuest, startDaemon } from '../daemon/testing/daemon.js'
import { guestTree } from '../daemon/testing/guest-tree.js'
import { tempDir } from '../daemon/testing/temp-dir.js'
import { folderTree } from '../image/testing/folder-tree.js'
import { native } from '../native.js'
import { differences, type ManifestRecord } from '../../vm-tests/manifest.js'
import { runTool } from './testing/image-tool.js'
import { needsRoot } from './testing/source-tree.js'

const BLOCK = 4096
const bytes = (...values: number[]): Buffer => Buffer.from(values)

/** A path below `folder` whose name need not be text. */
function at(folder: string, ...names: (string | Buffer)[]): Buffer {
  return Buffer.concat([Buffer.from(folder), ...names.flatMap(name => [Buffer.from('/'), Buffer.from(name)])])
}

/** A file with data in so many blocks, each behind a hole; the last one, too, is followed by a hole. */
function sparse(path: string | Buffer, runs: number): void {
  const file = openSync(path, 'w')
  for (let i = 0; i < runs; i++)
    writeSync(file, Buffer.alloc(BLOCK, `run ${i} `), 0, BLOCK, (2 + i * 4) * BLOCK)
  ftruncateSync(file, (4 + runs * 4) * BLOCK + 123)
  closeSync(file)
}

function hardTree(folder: string): string {
  mkdirSync(folder, { mode: 0o751 })
  sparse(join(folder, 'holes'), 0)
  sparse(join(folder, 'few'), 3)
  // More runs than a header of GNU's old format has room for (4), and than a block behind it (21).
  sparse(join(folder, 'many'), 60)
  sparse(join(folder, 'n'.repeat(200)), 2)
  symlinkSync('few', join(folder, 'symlink'))
  linkSync(join(folder, 'symlink'), join(folder, 'symlink too'))
  linkSync(join(folder, 'few'), join(folder, 'few too'))
  mkdirSync(at(folder, bytes(0xff, 0x2e)))
  writeFileSync(at(folder, bytes(0xff, 0x2e), bytes(0xc3)), 'half a letter')
  symlinkSync(bytes(0xfe, 0xff), at(folder, bytes(0x80, 0x81)))
  writeFileSync(at(folder, 'new\nline'), '')
  const old = new Date(-1000)
  utimesSync(join(folder, 'few'), old, old)
  utimesSync(folder, 1_234_567, 1_234_567)
  return folder
}

/** Values that no text could hold: NULs, line feeds, equals signs, none at all, and some as long as allowed. */
const XATTRS: readonly [file: string, name: string, value: Buffer][] = [
  ['few', 'user.binary', bytes(0, 1, 0x0a, 0x3d, 0xff, 0)],
  ['few', 'user.empty', bytes()],
  ['few', 'user.long', Buffer.alloc(3000, 0x0a)],
  // The capability to bind low ports, as setcap writes it.
  ['many', 'security.capability', Buffer.from('0100000200040000000000000000000000000000', 'hex')],
  ['symlink', 'trusted.link', bytes(0)],
  ['', 'user.root', bytes(0xe2, 0x28)],
]

function setXattrs(folder: string): void {
  for (const [file, name, value] of XATTRS) native.lsetxattr(at(folder, file), Buffer.from(name), value)
  utimesSync(folder, 1_234_567, 1_234_567)
}

const daemon = await startDaemon(t)
const fuse = await connectGuest(t, daemon)

const BOTH = ['5', '6']

async function shows(
  t: Test,
  source: string,
  type: string,
  wanted: readonly ManifestRecord[],
  about: string,
  versions = BOTH,
): Promise<void> {
  for (const version of versions) {
    const dir = tempDir(t)
    const boot = join(dir, 'boot')
    const { code, stderr } = await runTool('create', '-v', version, '-t', type, '-B', boot, '-D', dir, source)
    t.equal(code, 0, stderr)
    await daemon.mount('/image', boot, { blobs: dir, digestValidate: true })
    t.strictSame(differences(wanted, await guestTree(fuse, '/image')), [], `${about}, v${version}`)
    await daemon.umount('/image')
  }
}

t.test(
  'sparse files, odd names and links of links, in every format of GNU tar',
  { skip: needsRoot },
  async t => {
    const dir = tempDir(t)
    const tree = hardTree(join(dir, 'tree'))
    const wanted = folderTree(tree)
    t.equal(wanted.find(({ path }) => path === '/symlink')?.nlink, 2)
    t.match(wanted[0], { mtime: 1_234_567, mode: 0o751 })
    await shows(t, tree, 'dir-rafs', wanted, 'the folder')
    // What an archive gives is the same tree for the writers of both versions: they take turns.
    for (const [i, format] of [
      ['--format=gnu'],
      ['--format=gnu', '--sparse'],
      ['--format=posix'],
      ...['0.0', '0.1', '1.0'].map(version => ['--format=posix', '--sparse', `--sparse-version=${version}`]),
    ].entries()) {
      const archive = join(dir, 'tar')
      execFileSync('tar', ['-c', ...format, '--hole-detection=seek', '-f', archive, '-C', tree, '.'])
      if (format.includes('--sparse'))
        t.ok(readFileSync(archive).length < 1_000_000, 'the holes are not in it')
      await shows(t, archive, 'tar-rafs', wanted, format.join(' '), [BOTH[i % 2] ?? ''])
    }
  },
)

t.test('xattrs that are not text', { skip: needsRoot }, async t => {
  const dir = tempDir(t)
  const tree = hardTree(join(dir, 'tree'))
  setXattrs(tree)
  const wanted = folderTree(tree)
  t.equal(
    wanted.filter(({ xattrs }) => xattrs !== undefined).length,
    6,
    'on all names of the files that have some',
  )
  await shows(t, tree, 'dir-rafs', wanted, 'the folder')
  const archive = join(dir, 'tar')
  execFileSync('tar', [
    '-c',
    '--format=posix',
    '--xattrs',
    '--xattrs-include=*',
    '-f',
    archive,
    '-C',
    tree,
    '.',
  ])
  await shows(t, archive, 'tar-rafs', wanted, 'the archive')
})

t.test('whiteouts of names that are not UTF-8', async t => {
  const dir = tempDir(t)
  const [lower, upper] = [join(dir, 'lower'), join(dir, 'upper')]
  const folder = bytes(0xfd)
  for (const layer of [lower, upper]) {
    mkdirSync(layer)
    mkdirSync(at(layer, folder))
  }
  for (const name of [bytes(0xff), bytes(0xff, 0x61), bytes(0xfe)]) writeFileSync(at(lower, name), 'below')
  writeFileSync(at(lower, folder, bytes(0xff)), 'below')
  writeFileSync(at(upper, Buffer.concat([Buffer.from('.wh.'), bytes(0xff)])), '')
  writeFileSync(at(upper, folder, '.wh..wh..opq'), '')
  writeFileSync(at(upper, folder, bytes(0xfe)), 'above')
  for (const [i, layer] of [lower, upper].entries())
    execFileSync('tar', ['-c', '-f', join(dir, `${i}.tar`), '-C', layer, '.'])
  const left = ['/', '/\xfd', '/\xfd/\xfe', '/\xfe', '/\xffa']
  for (const version of ['5', '6'])
    for (const [type, sources] of [
      ['dir-rafs', [lower, upper]],
      ['tar-rafs', [join(dir, '0.tar'), join(dir, '1.tar')]],
    ] as const) {
      const out = tempDir(t)
      let parent: string[] = []
      for (const [i, source] of sources.entries()) {
        const boot = join(out, `boot${i}`)
        const ran = await runTool(
          'create',
          '-v',
          version,
          '-t',
          type,
          ...parent,
          '-B',
          boot,
          '-D',
          out,
          source,
        )
        t.equal(ran.code, 0, ran.stderr)
        parent = ['--parent-bootstrap', boot]
      }
      await daemon.mount('/image', join(out, 'boot1'), { blobs: out })
      const paths = (await guestTree(fuse, '/image')).map(({ path }) => path)
      t.strictSame(paths, left, `${type}, v${version}`)
      await daemon.umount('/image')
    }
})
