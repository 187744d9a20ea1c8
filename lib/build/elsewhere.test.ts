/** Data that does not lie where it usually does: in an external blob, behind bytes of somebody else. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { projectRoot } from '../../vm-tests/project.js'
import { connectGuest, startDaemon } from '../daemon/testing/daemon.js'
import { guestTree, nodeAt, readAll } from '../daemon/testing/guest-tree.js'
import { tempDir } from '../daemon/testing/temp-dir.js'
import { RafsImage } from '../rafs/image.js'
import { expectedRecords, fixtureNamed } from '../../vm-tests/fixtures.js'
import { runTool } from './testing/image-tool.js'
import { sha256 } from '../../vm-tests/manifest.js'

const LAYER = '738f465d584b2cfbc7ff4474ab857f6977e4f34b193d66fbfea4e91a0f9d9f8c'
const layer = join(projectRoot, 'vm-tests/fixtures/v6-zran/blobs', LAYER)
const EXTERNAL = 0x800

const daemon = await startDaemon(t)
const fuse = await connectGuest(t, daemon)

async function made(t: Test, ...argv: readonly string[]): Promise<string> {
  const { code, stderr } = await runTool('create', ...argv)
  t.equal(code, 0, stderr)
  return stderr
}

async function shows(t: Test, boot: string, blobs: string, about: string): Promise<void> {
  await daemon.mount('/image', boot, { blobs, digestValidate: true })
  try {
    t.strictSame(await guestTree(fuse, '/image'), expectedRecords(fixtureNamed('v6-zran')), about)
  } finally {
    await daemon.umount('/image')
  }
}

t.test('external blobs: a guest sees one tree', async t => {
  const dir = tempDir(t)
  const rules = join(dir, 'rules')
  // Half of all files, and with them chunks that both halves have.
  writeFileSync(
    rules,
    '/many/*[a-k] type=external\n/sizes type=external\ncopy[12] type=external\nf1048577 !type\n',
  )
  let n = 0
  for (const options of [
    ['-v', '5', '--compressor', 'lz4_block'],
    ['-v', '6', '--batch-size', '0x10000'],
    ['-v', '6', '--features', 'blob-toc', '--encrypt'],
    ['-v', '6', '--blob-inline-meta'],
  ]) {
    const out = join(dir, `${n++}`)
    mkdirSync(out)
    const boot = options.includes('--blob-inline-meta') ? [] : ['-B', join(dir, 'boot')]
    const json = join(dir, 'json')
    await made(
      t,
      ...options,
      ...boot,
      '-D',
      out,
      '--attributes',
      rules,
      '-J',
      json,
      '-t',
      'targz-rafs',
      layer,
    )
    const result = JSON.parse(readFileSync(json, 'utf8')) as { blobs: string[]; external_blobs: string[] }
    t.equal(result.external_blobs.length, 1)
    t.strictSame([...result.blobs, ...result.external_blobs].sort(), readdirSync(out).sort())
    const bootstrap = boot[1] ?? join(out, result.blobs[0] ?? '')
    await shows(t, bootstrap, out, options.join(' '))
    const image = await RafsImage.open({ path: bootstrap, xattrs: false, validate: true })
    t.strictSame(
      image.blobs.filter(({ features }) => (features & EXTERNAL) !== 0).map(({ id }) => id),
      result.external_blobs,
    )
    await image.close()
    t.equal((await runTool('check', bootstrap)).code, 0)
  }
})

t.test("the image's own files do without the external blob", async t => {
  const dir = tempDir(t)
  const tree = join(dir, 'tree')
  mkdirSync(tree)
  const content = Buffer.alloc(200_000, 'model')
  for (const name of ['a-big', 'b-small', 'c-big']) writeFileSync(join(tree, name), content)
  const rules = join(dir, 'rules')
  writeFileSync(rules, '*-big type=external\n/c-big !type\n')
  const external = join(dir, 'external')
  await made(t, '-D', dir, '-B', join(dir, 'boot'), '--attributes', rules, '--external-blob', external, tree)
  t.notOk(readdirSync(dir).includes('external'), 'what the image has is not stored a second time')

  writeFileSync(join(tree, 'a-big'), Buffer.alloc(300_000, 'other'))
  const said = await made(
    t,
    '-D',
    dir,
    '-B',
    join(dir, 'boot'),
    '--attributes',
    rules,
    '--external-blob',
    external,
    tree,
  )
  const id = /external blobs: \["(\w+)"\]/.exec(said)?.[1] ?? ''
  t.equal(sha256(readFileSync(external)), id)
  await daemon.mount('/image', join(dir, 'boot'), { blobs: dir })
  for (const name of ['b-small', 'c-big'])
    t.ok(content.equals(await readAll(fuse, await nodeAt(fuse, `/image/${name}`), content.length)), name)
  await t.rejects(readAll(fuse, await nodeAt(fuse, '/image/a-big'), 300_000), { message: /EIO/ })
  renameSync(external, join(dir, id))
  const read = await readAll(fuse, await nodeAt(fuse, '/image/a-big'), 300_000)
  t.ok(read.equals(Buffer.alloc(300_000, 'other')), 'and it is read once the blob is there')
  await daemon.umount('/image')
})

t.test('--blob-offset: the blob is read behind the bytes that were put in front of it', async t => {
  const dir = tempDir(t)
  for (const options of [
    ['-v', '5', '--compressor', 'lz4_block'],
    ['-v', '6', '--batch-size', '0x10000'],
    ['-v', '6', '--features', 'blob-toc', '--encrypt'],
  ]) {
    const folder = join(dir, 'blobs')
    mkdirSync(folder)
    const boot = join(dir, 'boot')
    const blob = join(dir, 'blob')
    const said = await made(
      t,
      ...options,
      '--blob-offset',
      '512',
      '-B',
      boot,
      '-b',
      blob,
      '-t',
      'targz-rafs',
      layer,
    )
    const id = /data blobs: \["(\w+)"\]/.exec(said)?.[1] ?? ''
    writeFileSync(join(folder, id), Buffer.concat([Buffer.alloc(512, 'tar header'), readFileSync(blob)]))
    await shows(t, boot, folder, options.join(' '))
    rmSync(folder, { recursive: true })
  }
  const refused = await runTool(
    'create',
    '-t',
    'targz-ref',
    '--blob-offset',
    '1',
    '-B',
    join(dir, 'b'),
    layer,
  )
  t.equal(refused.code, 2)
  t.match(refused.stderr, 'conflicts with `--blob-offset`')
})
