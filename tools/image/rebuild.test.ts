/** compact and optimize: the images that come out, served by our daemon; what fails or is stopped leaves nothing. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { connectGuest, startDaemon } from '../../lib/daemon/testing/daemon.js'
import { guestTree } from '../../lib/daemon/testing/guest-tree.js'
import { tempDir } from '../../lib/daemon/testing/temp-dir.js'
import { RafsImage } from '../../lib/rafs/image.js'
import { BLOB_FEATURE } from '../../lib/cache/cache.js'
import { expectedRecords, fixtureNamed } from '../../vm-tests/fixtures.js'
import { projectRoot } from '../../vm-tests/project.js'
import { main } from '../nydus-image.js'

const launcher = `${projectRoot}/dist/bin/nydus-image`

/** The built program: its Workers are JavaScript. */
function run(...argv: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(launcher, argv, { encoding: 'utf8' })
  return { code: status, stdout, stderr }
}

/** The same in this process, for commands that need no Worker. */
async function runHere(...argv: readonly string[]) {
  const err: string[] = []
  const io = { stdout: { write: () => true }, stderr: { write: (text: string) => err.push(text) }, env: {} }
  return { code: await main(argv, io), stderr: err.join('') }
}

async function blobsOf(bootstrap: string) {
  const image = await RafsImage.open({ path: bootstrap, xattrs: false, validate: true })
  const { blobs } = image
  const prefetched = [...image.prefetchInos()].flatMap(ino => [...image.pathsOf(ino)].map(String))
  await image.close()
  return { blobs, prefetched }
}

t.test('served by the daemon, every rebuilt image shows what the old one showed', async t => {
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  for (const name of ['v5-zstd-sha256', 'v6-batch', 'layers']) {
    const { bootstrap, blobs } = fixtureNamed(name)
    const manifest = expectedRecords(fixtureNamed(name))
    const dir = tempDir(t)
    cpSync(blobs, join(dir, 'blobs'), { recursive: true })
    const folder = join(dir, 'blobs')
    const shows = async (image: string): Promise<void> => {
      await daemon.mount('/x', image, { blobs: folder, digestValidate: true })
      t.strictSame(await guestTree(fuse, '/x'), manifest, `${name}: ${image.slice(dir.length)}`)
      await daemon.umount('/x')
    }

    writeFileSync(join(dir, 'list'), '["/sizes", {"path": "/perm", "ranges": [[0, 10]]}, "/nothing"]')
    const fast = join(dir, 'fast')
    const list = ['--prefetch-files', join(dir, 'list')]
    const optimized = run(
      'optimize',
      '-B',
      bootstrap,
      '-D',
      blobs,
      ...list,
      '--output-blob-dir',
      folder,
      '-O',
      fast,
    )
    t.equal(optimized.code, 0, optimized.stderr)
    await shows(fast)
    const { blobs: table, prefetched } = await blobsOf(fast)
    t.match(prefetched, ['/sizes', '/perm'])
    const before = (await blobsOf(bootstrap)).blobs
    t.equal(table.length, before.length + 1)
    const added = table.find(({ id }) => before.every(old => old.id !== id))
    t.equal(statSync(join(folder, added?.id ?? '')).size, added?.compressedSize)
    if (!name.startsWith('v5')) t.ok((added?.features ?? 0) & BLOB_FEATURE.SEPARATED_PREFETCH)

    if (name !== 'layers') continue
    const compact = ['-D', folder, '-O', join(dir, 'small'), '-J', join(dir, 'out.json')]
    const nothing = run('compact', '-B', bootstrap, ...compact)
    t.match(nothing, { code: 0, stderr: /there is nothing to compact in / })
    const compacted = run(
      'compact',
      '-B',
      bootstrap,
      ...compact,
      '--layers-to-compact',
      '0',
      '--min-used-ratio',
      '99',
    )
    t.equal(compacted.code, 0, compacted.stderr)
    await shows(join(dir, 'small'))
    const small = (await blobsOf(join(dir, 'small'))).blobs
    t.equal(small.length, 1, 'three layers became one blob')
    t.match(JSON.parse(readFileSync(join(dir, 'out.json'), 'utf8')), {
      blobs: [small[0]?.id],
      fs_version: '6',
    })
  }
})

t.test('an encrypted image stays one', async t => {
  const dir = tempDir(t)
  mkdirSync(join(dir, 'tree'))
  mkdirSync(join(dir, 'blobs'))
  writeFileSync(join(dir, 'tree/secret'), 'nobody shall read this'.repeat(1000))
  writeFileSync(join(dir, 'tree/tiny'), 'x')
  writeFileSync(join(dir, 'list'), '/secret\n/tiny\n')
  const at = (name: string): string => join(dir, name)
  const created = run(
    'create',
    '-t',
    'dir-rafs',
    '-E',
    '-D',
    at('blobs'),
    '-B',
    at('boot'),
    '--compressor',
    'none',
    at('tree'),
  )
  t.equal(created.code, 0, created.stderr)
  const args = ['-D', at('blobs'), '-p', at('list'), '--output-blob-dir', at('blobs'), '-O', at('fast')]
  const optimized = run('optimize', '-B', at('boot'), ...args)
  t.equal(optimized.code, 0, optimized.stderr)
  for (const name of readdirSync(at('blobs')))
    t.notOk(readFileSync(join(at('blobs'), name)).includes('nobody shall'))
  const unpacked = run('unpack', '-B', at('fast'), '-D', at('blobs'), '-o', at('x.tar'))
  t.equal(unpacked.code, 0, unpacked.stderr)
  t.ok(readFileSync(at('x.tar')).includes('nobody shall read this'))
  t.match((await blobsOf(at('fast'))).blobs, [{ cipher: {} }])
})

t.test('bad input: one sentence, and nothing is left behind', async t => {
  const { bootstrap, blobs } = fixtureNamed('layers')
  const dir = tempDir(t)
  const at = (name: string): string => join(dir, name)
  mkdirSync(at('empty'))
  mkdirSync(at('cut'))
  for (const id of readdirSync(blobs))
    writeFileSync(join(at('cut'), id), readFileSync(join(blobs, id)).subarray(0, 3000))
  writeFileSync(at('list'), '/sizes\n')
  writeFileSync(at('other'), '/nothing\n')
  writeFileSync(at('broken'), '["/sizes"')
  const out = ['-O', at('out'), '--output-blob-dir', at('empty')]
  const files = (): string[] => readdirSync(dir, { recursive: true }).map(String).sort()
  const before = files()
  for (const [argv, code, message] of [
    [
      ['compact', '-B', bootstrap, '-D', at('empty'), '--layers-to-compact', '0', '-O', at('out')],
      1,
      /^Error: chunk \d+: blob \w{64} is in none of the places/,
    ],
    [
      ['compact', '-B', bootstrap, '-D', at('cut'), '--layers-to-compact', '0', '-O', at('out')],
      1,
      /^Error: chunk \d+: .*blob \w{64}/,
    ],
    [['compact', '-B', bootstrap], 2, /^Error: new blobs have no place to go/],
    [['compact', '-D', at('empty')], 2, /^error: required option '-B, --bootstrap <file>' not specified/],
    [
      ['compact', '-B', bootstrap, '-D', at('empty'), '--min-used-ratio', '100'],
      2,
      /It must be a number from 0 to 99/,
    ],
    [
      ['optimize', '-B', bootstrap, '-D', blobs, '-p', at('other'), ...out],
      1,
      /^Error: none of the 1 paths of the list is a file/,
    ],
    [
      ['optimize', '-B', bootstrap, '-D', blobs, '-p', at('broken'), ...out],
      1,
      /broken: starts like JSON, but is none/,
    ],
    [
      ['optimize', '-B', bootstrap, '-D', blobs, '-p', at('none'), ...out],
      1,
      /none cannot be read: no such file or folder/,
    ],
    [['optimize', '-B', bootstrap, '-p', at('list'), ...out], 1, /^Error: no data source/],
    [
      ['optimize', '-B', bootstrap, '-D', at('empty'), '-p', at('list'), ...out],
      1,
      /is in none of the places/,
    ],
    [['unpack', '-B', bootstrap, '-D', at('cut'), '-o', at('out')], 1, /^Error: \/\w+.*: .*blob \w{64}/],
    [
      ['export', '--block', '-B', bootstrap, '-D', at('empty'), '-O', at('out')],
      1,
      /is in none of the places/,
    ],
    [['export', '-B', bootstrap, '-D', at('empty')], 2, /^Error: say --block/],
  ] as const) {
    const needsWorkers = argv[0] === 'compact' && code === 1
    const done = needsWorkers ? run(...argv) : await runHere(...argv)
    t.equal(done.code, code, argv.join(' '))
    t.match(done.stderr, message)
    t.equal(done.stderr.trimEnd().split('\n').length, 1, done.stderr)
  }
  t.strictSame(files(), before)
})

t.test('Ctrl-C leaves no file', async t => {
  const { bootstrap } = fixtureNamed('layers')
  const dir = tempDir(t)
  // A storage that never answers: the command waits for its first chunk.
  const server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  await once(server, 'listening')
  const backend = JSON.stringify({
    addr: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    timeout: 60,
  })
  const argv = [
    'unpack',
    '-B',
    bootstrap,
    '--backend-type',
    'http-proxy',
    '--backend-config',
    backend,
    '-o',
    join(dir, 'x.tar'),
  ]
  const child = spawn(launcher, argv, { stdio: 'ignore' })
  await once(server, 'request')
  t.match(readdirSync(dir), [/^\.nydus-image-/], 'it is at work')
  child.kill('SIGINT')
  t.strictSame(await once(child, 'exit'), [null, 'SIGINT'])
  t.strictSame(readdirSync(dir), [])
})
