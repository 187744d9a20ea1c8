/**
 * A tree becomes an image, the whole daemon serves it, and a guest sees the tree that went in: with what the reference
 * builder loses (the root's time, the links of a symlink). NYDUS_IMAGE and NYDUSD name other programs to try.
 */
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { FuseClient } from '../../addon/test/fuse-client.js'
import type { Daemon } from '../../vm-tests/daemon.js'
import { projectRoot } from '../../vm-tests/project.js'
import { connectGuest, startDaemon } from '../daemon/testing/daemon.js'
import { guestTree } from '../daemon/testing/guest-tree.js'
import { tempDir } from '../daemon/testing/temp-dir.js'
import { expectedRecords, fixtureNamed } from '../../vm-tests/fixtures.js'
import type { ManifestRecord } from '../../vm-tests/manifest.js'
import { runTool } from './testing/image-tool.js'
import { needsRoot, treeManifest, unpackTree } from './testing/source-tree.js'

const DIGESTERS = ['blake3', 'sha256']
const FORMS: Readonly<Record<string, readonly string[]>> = {
  plain: [],
  'small chunks': ['--chunk-size', '0x1000'],
  batch: ['--batch-size', '0x10000'],
  inline: ['--blob-inline-meta'],
}
/** Only with v6, and not with everything else. */
const V6_FORMS: readonly (readonly string[])[] = [
  ['--features', 'blob-toc'],
  ['--features', 'blob-toc', '--blob-inline-meta', '--batch-size', '0x4000'],
  ['--encrypt'],
  ['--encrypt', '--batch-size', '0x10000', '--features', 'blob-toc', '--blob-inline-meta'],
]

async function made(t: Test, argv: readonly string[]): Promise<void> {
  const { code, stderr } = await runTool(...argv)
  if (code !== 0) t.fail(`${argv.join(' ')}: ${stderr}`)
}

interface Guest {
  readonly daemon: Daemon
  readonly fuse: FuseClient
}

async function shows(
  t: Test,
  guest: Guest,
  folder: string,
  manifest: readonly ManifestRecord[],
  about: string,
): Promise<void> {
  const boot = readdirSync(folder).includes('boot') ? 'boot' : (readdirSync(folder)[0] ?? '')
  await guest.daemon.mount('/image', join(folder, boot), { blobs: folder, digestValidate: true })
  t.strictSame(await guestTree(guest.fuse, '/image'), manifest, about)
  await guest.daemon.umount('/image')
}

/** All forms of each version and compressor; the digesters, which know of neither, in turns. */
function* combinations(): Generator<readonly string[]> {
  let turn = 0
  for (const version of ['5', '6'])
    for (const compressor of ['none', 'lz4_block', 'zstd'])
      for (const [name, form] of Object.entries(FORMS))
        if (version === '6' || name !== 'batch')
          for (const digester of name === 'plain' ? DIGESTERS : [DIGESTERS[turn++ % 2] ?? ''])
            yield ['-v', version, '--compressor', compressor, '--digester', digester, ...form]
  for (const form of V6_FORMS) yield form
  yield ['-v', '5', '--aligned-chunk', '--compressor', 'lz4_block']
}

t.test('every combination of a folder', { skip: needsRoot }, async t => {
  const dir = tempDir(t)
  const daemon = await startDaemon(t)
  const guest = { daemon, fuse: await connectGuest(t, daemon) }
  const tree = unpackTree(join(dir, 'tree'))
  const manifest = treeManifest()
  let n = 0
  for (const options of combinations()) {
    const out = join(dir, `${n++}`)
    mkdirSync(out)
    const metadata = options.includes('--blob-inline-meta') ? [] : ['-B', join(out, 'boot')]
    await made(t, ['create', ...options, ...metadata, '-D', out, tree])
    await shows(t, guest, out, manifest, options.join(' '))
  }
})

t.test('layers: each upon the one below, and merged from blobs that hold their metadata', async t => {
  const dir = tempDir(t)
  const daemon = await startDaemon(t)
  const guest = { daemon, fuse: await connectGuest(t, daemon) }
  const manifest = expectedRecords(fixtureNamed('layers'))
  const archives = ['l1', 'l2', 'l3'].map(name =>
    join(projectRoot, 'vm-tests/fixtures/layers', `${name}.tar.gz`),
  )
  for (const version of ['5', '6']) {
    const out = join(dir, `upon-${version}`)
    mkdirSync(out)
    let parent: string[] = []
    for (const [i, archive] of archives.entries()) {
      const boot = i === 2 ? join(out, 'boot') : join(dir, `${version}-${i}`)
      await made(t, ['create', '-v', version, '-t', 'targz-rafs', ...parent, '-B', boot, '-D', out, archive])
      parent = ['--parent-bootstrap', boot]
    }
    await shows(t, guest, out, manifest, `v${version}, each upon the one below`)

    const merged = join(dir, `merged-${version}`)
    mkdirSync(merged)
    const sources: string[] = []
    for (const archive of archives) {
      const before = new Set(readdirSync(merged))
      await made(t, [
        'create',
        '-v',
        version,
        '-t',
        'targz-rafs',
        '--blob-inline-meta',
        '-D',
        merged,
        archive,
      ])
      sources.push(
        ...readdirSync(merged)
          .filter(name => !before.has(name))
          .map(name => join(merged, name)),
      )
    }
    await made(t, ['merge', '-B', join(merged, 'boot'), ...sources])
    await shows(t, guest, merged, manifest, `v${version}, merged`)
  }
})
