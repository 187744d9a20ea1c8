/** `create` as users meet it: where outputs go, what is said where, what lies first in a blob. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { imageTool, runTool, runToolWith, startTool } from '../../lib/build/testing/image-tool.js'
import { connectGuest, startDaemon } from '../../lib/daemon/testing/daemon.js'
import { guestTree } from '../../lib/daemon/testing/guest-tree.js'
import { tempDir } from '../../lib/daemon/testing/temp-dir.js'
import { projectRoot } from '../../vm-tests/project.js'
import { timeText } from './progress.js'
import { sha256 } from '../../vm-tests/manifest.js'

const LAYER = '738f465d584b2cfbc7ff4474ab857f6977e4f34b193d66fbfea4e91a0f9d9f8c'
const layer = join(projectRoot, 'vm-tests/fixtures/v6-zran/blobs', LAYER)
const KIB = 1024

async function good(t: Test, ...argv: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runTool(...argv)
  t.equal(code, 0, stderr)
  return stdout
}

/** Files of distinct content, by name. */
function folderOf(dir: string, sizes: Readonly<Record<string, number>>): string {
  const tree = join(dir, 'tree')
  mkdirSync(tree)
  for (const [name, size] of Object.entries(sizes)) writeFileSync(join(tree, name), Buffer.alloc(size, name))
  return tree
}

t.test('--blob-cache-dir: what a daemon would have cached', async t => {
  const dir = tempDir(t)
  const [made, cached, blobs] = ['made', 'cached', 'blobs'].map(name => join(dir, name))
  if (made === undefined || cached === undefined || blobs === undefined) throw new Error('no folders')
  for (const folder of [made, cached, blobs]) mkdirSync(folder)
  const source = ['-t', 'targz-rafs', layer]
  await good(t, 'create', '--blob-cache-dir', made, '-B', join(dir, 'boot'), ...source)
  await good(t, 'create', '--compressor', 'none', '-D', blobs, '-B', join(dir, 'plain'), ...source)
  t.ok(readFileSync(join(dir, 'boot')).equals(readFileSync(join(dir, 'plain'))), 'the same image')
  const daemon = await startDaemon(t)
  const fuse = await connectGuest(t, daemon)
  await daemon.mount('/image', join(dir, 'boot'), { blobs, workDir: cached, digestValidate: true })
  await guestTree(fuse, '/image')
  await daemon.umount('/image')
  const [id = ''] = readdirSync(blobs)
  t.strictSame(readdirSync(made).toSorted(), [`${id}.blob.data`, `${id}.blob.meta`])
  for (const name of readdirSync(made))
    t.equal(sha256(readFileSync(join(made, name))), sha256(readFileSync(join(cached, name))), name)
})

t.test('without a name the bootstrap is named by its digest', async t => {
  const dir = tempDir(t)
  const tree = folderOf(dir, { file: 10 })
  const out = join(dir, 'out')
  mkdirSync(out)
  const json = join(dir, 'json')
  await good(t, 'create', '-D', out, '-J', json, tree)
  const result = JSON.parse(readFileSync(json, 'utf8')) as { bootstrap: string; blobs: string[] }
  t.equal(result.bootstrap, join(out, sha256(readFileSync(result.bootstrap))))
  t.strictSame(
    readdirSync(out)
      .map(name => join(out, name))
      .toSorted(),
    [result.bootstrap, ...result.blobs.map(id => join(out, id))].toSorted(),
  )
})

t.test('prefetch policies: what is listed, and what lies first in the blob', async t => {
  const dir = tempDir(t)
  const tree = folderOf(dir, { a: 5 * KIB, b: 6 * KIB, c: 7 * KIB, d: 8 * KIB })
  const list = `/c\n${tree}/b\n/none\n/c\n`
  for (const version of ['5', '6'])
    for (const policy of ['fs', 'blob', 'none']) {
      const about = `v${version}, ${policy}`
      const [boot, blob] = [join(dir, 'boot'), join(dir, 'blob')]
      const argv = ['create', '-v', version, '--compressor', 'none', '-B', boot, '-b', blob, tree]
      const ran = await runToolWith(list, ...argv, '--prefetch-policy', policy)
      t.equal(ran.code, 0, ran.stderr)
      const inspect = async (request: string): Promise<unknown> =>
        JSON.parse(await good(t, 'inspect', '-B', boot, '-R', request)) as unknown
      const listed = (await inspect('prefetch')) as { path: string[] }[]
      t.strictSame(
        listed.flatMap(({ path }) => path),
        policy === 'fs' ? ['/c', '/b'] : [],
        `${about}: the list`,
      )
      const order = policy === 'none' ? 'abcd' : 'cbad'
      const bytes = readFileSync(blob)
      let at = 0
      for (const name of order) {
        t.equal(bytes.toString('latin1', at, at + 1), name, `${about}: ${name} at ${at}`)
        at += { a: 5, b: 6, c: 7, d: 8 }[name as 'a'] * KIB
      }
      // Only v5 has a place for how much is to be read ahead (rafs-v6.md 5.1).
      const size = version === '5' && policy === 'blob' ? 13 * KIB : 0
      t.match(await inspect('blobs'), [{ readahead_offset: 0, readahead_size: size }], `${about}: readahead`)
      if (size === 0) continue
      const upper = ['--compressor', 'none', '-B', `${boot}2`, '-D', dir, '--parent-bootstrap', boot, tree]
      await good(t, 'create', '-v', version, ...upper)
      const [kept] = JSON.parse(await good(t, 'inspect', '-B', `${boot}2`, '-R', 'blobs')) as unknown[]
      t.match(kept, { readahead_size: size }, 'and layers above keep it')
    }
})

t.test('--log-level and --log-file, in front of the command and behind it', async t => {
  const dir = tempDir(t)
  const tree = folderOf(dir, { file: 10 })
  const create = ['create', '-B', join(dir, 'boot'), '-D', dir, tree]
  const failing = ['create', '-B', join(dir, 'boot'), '-D', dir, join(dir, 'none')]
  const log = join(dir, 'log')
  for (const [where, place] of [
    [
      'in front',
      (...options: string[]) =>
        (argv: string[]) => [...options, ...argv],
    ],
    [
      'behind',
      (...options: string[]) =>
        (argv: string[]) => [...argv, ...options],
    ],
  ] as const) {
    const quiet = place('--log-level', 'warn')
    t.strictSame(await runTool(...quiet(create)), { code: 0, stdout: '', stderr: '' }, `${where}: no news`)
    t.match((await runTool(...quiet(failing))).stderr, /^Error: cannot read .*none/, `${where}: errors`)
    t.match(
      (await runTool(...place('-l', 'info')(create))).stderr,
      /^successfully built RAFS filesystem:\n/,
      where,
    )

    writeFileSync(log, 'before\n')
    const filed = place('-L', log)
    t.equal((await runTool(...filed(create))).stderr, '', `${where}: into the file`)
    t.match((await runTool(...filed(failing))).stderr, /^Error: /, `${where}: errors on stderr, too`)
    const [before, news, ...more] = readFileSync(log, 'utf8').trimEnd().split('\n')
    t.equal(before, 'before', 'the file is continued')
    t.match(news, /^\[\d{4}-\d\d-\d\dT[\d:.]+Z\] INFO successfully built RAFS filesystem:$/)
    t.match(more.at(-1), /^\[\d{4}-\d\d-\d\dT[\d:.]+Z\] ERROR Error: cannot read .*none/)
    const nowhere = place('--log-file', join(dir, 'none/log'))
    const { code, stderr } = await runTool(...nowhere(create))
    t.equal(code, 1)
    t.match(stderr, /^Error: --log-file .*none\/log cannot be written: [^\n]+\n$/)
    t.equal((await runTool(...place('-l', 'loud')(create))).code, 2, `${where}: no such level`)
  }
})

t.test('progress: on a terminal only', async t => {
  const dir = tempDir(t)
  const tree = folderOf(dir, Object.fromEntries(Array.from({ length: 1200 }, (_, i) => [`f${i}`, 10])))
  const argv = ['create', '-B', join(dir, 'boot'), '-D', dir, tree]
  const piped = await startTool(argv).ended
  t.equal(piped.code, 0)
  t.match(
    piped.stderr,
    /^successfully built RAFS filesystem:\nmeta blob path: [^\n]+\ndata blob size: 0x\w+\ndata blobs: [^\n]+\n$/,
  )
  t.equal(piped.stdout, '')
  const command = [imageTool, ...argv].map(word => `'${word}'`).join(' ')
  const shown = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8' })
  t.equal(shown.status, 0)
  t.match(shown.stdout, /building \[.*\d+\/\d+ entries {2}\d+ MiB {2}\d+ MiB\/s/)
  t.match(shown.stdout, '\x1b[?25h', 'the cursor is back')
  t.strictSame([0.4, 59.4, 60, 725, 3599.6, 10_920].map(timeText), [
    '0s',
    '59s',
    '1m00s',
    '12m05s',
    '1h00m',
    '3h02m',
  ])
})

t.test('what stood under a name stays when a build fails or is stopped', async t => {
  const dir = tempDir(t)
  const [boot, blob] = [join(dir, 'boot'), join(dir, 'blob')]
  const old = (): void => {
    for (const path of [boot, blob]) writeFileSync(path, 'an image of yesterday')
  }
  const kept = (about: string): void => {
    for (const path of [boot, blob]) t.equal(readFileSync(path, 'utf8'), 'an image of yesterday', about)
    t.strictSame(
      readdirSync(dir).filter(name => name.includes('tmp')),
      [],
      `${about}: nothing beside it`,
    )
  }
  old()
  writeFileSync(join(dir, 'cut.tgz'), readFileSync(layer).subarray(0, 500_000))
  const failed = await runTool('create', '-B', boot, '-b', blob, '-t', 'targz-rafs', join(dir, 'cut.tgz'))
  t.equal(failed.code, 1)
  kept('a build that failed')

  spawnSync('mkfifo', [join(dir, 'fifo')])
  const running = startTool(['create', '-B', boot, '-b', blob, '-t', 'targz-rafs', join(dir, 'fifo')])
  // Opening it for writing waits for the build; what it is given is too little.
  const writer = await import('node:fs/promises').then(fs => fs.open(join(dir, 'fifo'), 'w'))
  await writer.write(readFileSync(layer).subarray(0, 500_000))
  running.kill('SIGINT')
  t.equal((await running.ended).code, 130)
  await writer.close()
  kept('a build that was stopped')
})
