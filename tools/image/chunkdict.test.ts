/** chunkdict: what images share becomes a dictionary that create refers to, with the blobs as they are. */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { tempDir } from '../../lib/daemon/testing/temp-dir.js'
import { RafsImage } from '../../lib/rafs/image.js'
import { fixtureNamed } from '../../vm-tests/fixtures.js'
import { main } from '../nydus-image.js'

async function run(...argv: readonly string[]) {
  const err: string[] = []
  const io = { stdout: { write: () => true }, stderr: { write: (text: string) => err.push(text) }, env: {} }
  return { code: await main(argv, io), stderr: err.join('') }
}

/** A copy of a fixture's bootstrap as `NAME:TAG/bootstrap`. */
function imageIn(dir: string, nameTag: string, fixture: string): string {
  mkdirSync(join(dir, nameTag))
  copyFileSync(fixtureNamed(fixture).bootstrap, join(dir, nameTag, 'bootstrap'))
  return join(dir, nameTag, 'bootstrap')
}

/** Digests of the chunks of all files. */
async function digestsOf(bootstrap: string): Promise<Set<string>> {
  const image = await RafsImage.open({ path: bootstrap, xattrs: false, validate: true })
  const out = new Set<string>()
  for (const ino of image.files(image.rootIno))
    for (const { want } of image.chunks(ino))
      out.add(Buffer.from(want.digest ?? want.record?.digest ?? []).toString('hex'))
  await image.close()
  return out
}

t.test('a dictionary holds what two images have in common, and nothing else', async t => {
  const dir = tempDir(t)
  const one = imageIn(dir, 'one:1', 'v6-zstd-blake3')
  const two = imageIn(dir, 'two:1', 'layers')
  const args = [
    '--database',
    `sqlite://${join(dir, 'db')}`,
    '-B',
    join(dir, 'dict'),
    '-J',
    join(dir, 'out.json'),
  ]
  t.match(await run('chunkdict', 'generate', one, two, ...args), { code: 0 })
  const [ofOne, ofTwo] = [await digestsOf(one), await digestsOf(two)]
  const common = [...ofOne].filter(digest => ofTwo.has(digest))
  t.ok(common.length > 10)
  t.strictSame(await digestsOf(join(dir, 'dict')), new Set(common))
  t.match(JSON.parse(readFileSync(join(dir, 'out.json'), 'utf8')), { blobs: [/^c6550c0a/], fs_version: '6' })
  t.match(await run('check', join(dir, 'dict'), '-D', fixtureNamed('v6-zstd-blake3').blobs), {
    code: 0,
    stderr: '',
  })
})

t.test('save: later images are compared with those of before', async t => {
  const dir = tempDir(t)
  const one = imageIn(dir, 'one:1', 'v6-zstd-blake3')
  const two = imageIn(dir, 'two:1', 'layers')
  const database = ['--database', `sqlite://${join(dir, 'db')}`]
  t.strictSame(await run('chunkdict', 'save', one, ...database), { code: 0, stderr: '' })
  t.strictSame(
    await run('chunkdict', 'save', one, ...database),
    { code: 0, stderr: '' },
    'once more changes nothing',
  )
  t.match(await run('chunkdict', 'generate', two, ...database, '-B', join(dir, 'dict')), { code: 0 })
  const [ofOne, ofTwo] = [await digestsOf(one), await digestsOf(two)]
  t.strictSame(await digestsOf(join(dir, 'dict')), new Set([...ofTwo].filter(digest => ofOne.has(digest))))
})

t.test('bad input: one sentence, and nothing is left behind', async t => {
  const dir = tempDir(t)
  const one = imageIn(dir, 'one:1', 'v6-zstd-blake3')
  const five = imageIn(dir, 'five:1', 'v5-lz4-blake3')
  copyFileSync(one, join(dir, 'bootstrap'))
  writeFileSync(join(dir, 'text'), 'no database')
  const before = readdirSync(dir).sort()
  const out = ['-B', join(dir, 'dict')]
  const db = ['--database', `sqlite://${join(dir, 'db')}`]
  for (const [argv, code, message] of [
    [
      [join(dir, 'bootstrap'), ...db],
      2,
      /lies in a folder called .*: it must be called after the image, name:tag$/,
    ],
    [[one, five, ...db], 1, /is RAFS v6 .* is v5 .*: one dictionary cannot hold both$/],
    [
      [one, '--database', `sqlite://${join(dir, 'text')}`],
      1,
      /database .*text cannot be used: file is not a database$/,
    ],
    [[one, '--database', 'mysql://x'], 2, /--database mysql:\/\/x is no sqlite:\/\/ URL/],
    [[join(dir, 'none:1/bootstrap'), ...db], 1, /none:1\/bootstrap: No such file/],
  ] as const) {
    const done = await run('chunkdict', 'generate', ...argv, ...out)
    t.equal(done.code, code, done.stderr)
    t.match(done.stderr.trimEnd(), message)
  }
  t.strictSame(readdirSync(dir).sort(), before)
})
