/** stat and inspect: what they print, compared with what the reference (2.2) printed for the same images. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { tempDir } from '../../lib/daemon/testing/temp-dir.js'
import { fixtureNamed } from '../../vm-tests/fixtures.js'
import { projectRoot } from '../../vm-tests/project.js'
import { main } from '../nydus-image.js'

async function run(...argv: readonly string[]) {
  const out: string[] = []
  const err: string[] = []
  const io = {
    stdout: { write: (text: string) => out.push(text) },
    stderr: { write: (text: string) => err.push(text) },
    env: {},
  }
  const code = await main(argv, io)
  return { code, stdout: out.join(''), stderr: err.join('') }
}

const v5 = fixtureNamed('v5-lz4-blake3')
const layers = fixtureNamed('layers')
const boots = join(projectRoot, 'vm-tests/fixtures/layers/boots')

t.test('stat: one image, a folder of images, and a target', async t => {
  const dir = tempDir(t)
  const json = async (...argv: readonly string[]): Promise<unknown> => {
    const done = await run('stat', ...argv, '-J', join(dir, 'out.json'))
    t.strictSame(done, { code: 0, stdout: '', stderr: '' })
    return JSON.parse(readFileSync(join(dir, 'out.json'), 'utf8'))
  }
  t.match(await json('-B', v5.bootstrap), {
    dedup_enabled: false,
    target_enabled: false,
    base_image: {
      dirs: 56,
      files: 344,
      symlinks: 9,
      chunks: 349,
      file_size: 18135752,
      comp_size: 1496566,
      uncomp_size: 19353600,
      padding_size: 1217848,
      chunk_sizes: [4725, 2525, 1428, 879, 605, 466, 399, 366, 349],
      own_chunks: 331,
      own_comp_size: 1386121,
      own_uncomp_size: 8558561,
      ref_chunks: 0,
    },
  })
  t.match(await json('-D', boots, '-T', layers.bootstrap), {
    dedup_enabled: true,
    target_enabled: true,
    base_image: { dirs: 65, files: 352, own_chunks: 337, dedup_chunks: 335, dedup_comp_size: 956076 },
    target_image: {
      chunks: 40,
      own_chunks: 0,
      ref_chunks: 26,
      ref_comp_size: 872730,
      ref_uncomp_size: 8433401,
    },
  })
  const { stdout } = await run('stat', '-D', boots)
  t.match(stdout, 'Uncompressed Size:      20414464\n')
  t.match(stdout, '\n24:\t\t\t1\n')
  t.match(
    stdout,
    '\n2                       0x151           0x14f           0x13e892        0x551e6         0x944c6         0x929884        0x10007b        0x72978e        \n',
  )
})

t.test('inspect --request: JSON for programs', async t => {
  const ask = async (request: string, image = v5.bootstrap): Promise<string> => {
    const done = await run('inspect', image, '--request', request)
    t.match(done, { code: 0, stderr: '' })
    return done.stdout
  }
  const id = 'f80c54be4ee3a7787f3f669b1a24d28b3975ba8e21a9ae74a9e6ffd13f01be49'
  t.equal(await ask('stats'), '{"inodes_count":409}\n')
  t.equal(
    await ask('blobs'),
    `[{"blob_id":"${id}","compressed_size":1386121,"decompressed_size":8558561,"readahead_offset":0,"readahead_size":0}]\n`,
  )
  t.equal(await ask('prefetch'), '[]\n')
  t.equal(await ask('exit'), 'null\n')
  t.equal(
    await ask('icheck 3'),
    '/deep\n\nInode Number:       3\nName:               "deep"\nSize:               4096\nParent:             1\n' +
      'Mode:               0x41ED\nPermissions:        40755\nNlink:              3\nUID:                0\n' +
      'GID:                0\nMtime:              1554686560\nMtimeNsec:          430783055\nBlocks:             8\nnull\n',
  )
  t.match(
    await ask('ls', fixtureNamed('v6-lz4-64k').bootstrap),
    'd    136      "dedup"\nd    154      "deep"\n',
  )
  t.match(
    await ask('stat /sizes/f1048577'),
    '  Chunk list:\n        0 ->\n        file offset: 0, chunk index: 315\n' +
      '        compressed size: 13863, decompressed size: 1048576\n        compressed offset: 259466, decompressed offset: 2432353\n' +
      `        blob id: ${id}\n        chunk id: 2497d2a68dfcb86b1f995f1072a8a4a438be2ede7dbdb9221e1007b796c5bb51\n    \n        1 ->\n`,
  )
  const shared = await ask('chunk 0', fixtureNamed('v6-lz4-64k').bootstrap)
  t.equal(shared.match(/^File: copy[012] .*Parent Path: \/dedup\/ /gm)?.length, 3)
  t.match(shared, 'Chunk ID: 9d47935ac03cd56c8b5321bdba1957fb67a2592c2823958f3d12b1543087c1d9, \n')

  for (const [request, message] of [
    ['bogus', 'Error: Unsupported command: bogus\n'],
    ['help', 'Error: Unsupported command: help\n'],
    ['stat nothing', 'Error: nothing is not in the image\n'],
    ['cd sizes/f0', 'Error: sizes/f0 is not a folder\n'],
    ['icheck x', 'Error: an inode is a number, not "x"\n'],
  ] as const)
    t.strictSame(await run('inspect', v5.bootstrap, '-R', request), { code: 1, stdout: '', stderr: message })
})

t.test('inspect: the prompt keeps its folder, survives mistakes, and ends with its input', async t => {
  const launcher = `${projectRoot}/dist/bin/nydus-image`
  const input = 'cd sizes\nstat f0\nbogus\ncd ..\nls\n'
  const { status, stdout, stderr } = spawnSync(launcher, ['inspect', v5.bootstrap], {
    input,
    encoding: 'utf8',
  })
  t.equal(status, 0, stderr)
  const answers = stdout.split('Inspecting RAFS :> ')
  t.equal(answers[1], '')
  t.match(answers[2], 'Name:               "f0"\nSize:               0\nParent:             9\n')
  t.match(answers[3], /^Unsupported command: bogus\n[^]*icheck INODE/)
  t.equal(answers[4], '')
  t.match(answers[5], 'd    2        "dedup"\n')
  t.equal(answers[6], '\n')
})

t.test('what cannot be looked at is one sentence', async t => {
  const dir = tempDir(t)
  const at = (name: string): string => join(dir, name)
  mkdirSync(at('empty'))
  writeFileSync(at('cut'), readFileSync(layers.bootstrap).subarray(0, 12288))
  writeFileSync(at('text'), 'x'.repeat(10_000))
  for (const [argv, code, message] of [
    [['stat'], 1, /^Error: one of `--bootstrap` and `--blob-dir` must be specified\n$/],
    [['stat', '-D', at('none')], 1, /^Error: --blob-dir .*none cannot be read: no such file or folder\n$/],
    [['stat', '-D', at('empty')], 1, /^Error: no file in .*empty is a bootstrap\n$/],
    [['stat', '-B', at('text')], 1, /^Error: .*text: is not a RAFS bootstrap: [^\n]*\n$/],
    [['stat', '-B', at('cut')], 1, /^Error: .*cut: [^\n]* truncated[^\n]*\n$/],
    [['inspect', at('cut'), '-R', 'ls'], 1, /^Error: .*cut: [^\n]* truncated[^\n]*\n$/],
    [['inspect'], 2, /^Error: no bootstrap: give its path, or --bootstrap\n$/],
    [['inspect', '--bogus'], 2, /^error: unknown option '--bogus'\n/],
  ] as const) {
    const done = await run(...argv)
    t.equal(done.code, code, argv.join(' '))
    t.match(done.stderr, message)
    t.equal(done.stdout, '')
  }
})
