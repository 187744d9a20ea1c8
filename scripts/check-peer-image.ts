/**
 * Images that change hands: `node dist/scripts/check-peer-image.js [WORD…]` builds one of every kind with this project's
 * nydus-image, lets the reference (`scripts/bench/install-peers`) check it and serve it to a guest, and compares what the
 * guest sees with the tree that went in; then this project's check looks at the reference's images. As root: the tree has
 * devices and owners. With words, only combinations that have all of them. No part of `npm test`.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { explain } from '../lib/base/errors.js'
import { treeManifest, unpackTree } from '../lib/build/testing/source-tree.js'
import { expected, fixtureNamed, type Expected } from '../lib/rafs/testing/fixtures.js'
import { FIXTURES } from '../vm-tests/fixtures.js'
import { projectRoot } from '../vm-tests/project.js'
import { difference, serverNamed, treeOf } from './peer-tree.js'

const ours = join(projectRoot, 'dist/bin/nydus-image')
const peerServer = serverNamed('nydusd')
const peer = join(dirname(peerServer.program), 'nydus-image')
const fixtures = join(projectRoot, 'vm-tests/fixtures')
const layers = ['l1', 'l2', 'l3'].map(name => join(fixtures, 'layers', `${name}.tar.gz`))
const wanted = process.argv.slice(2)

function run(program: string, argv: readonly string[]): string | undefined {
  const { status, stderr, stdout } = spawnSync(program, argv, { encoding: 'utf8' })
  return status === 0 ? undefined : `${argv.join(' ')}: status ${status}: ${stderr}${stdout}`
}

function build(...argv: readonly string[]): void {
  const problem = run(ours, argv)
  if (problem !== undefined) throw new Error(problem)
}

interface Kind {
  readonly name: string
  readonly only?: 5 | 6
  readonly manifest: () => readonly Expected[]
  /** Builds into the folder `out`; returns the bootstrap's path. */
  make(out: string, options: readonly string[]): string
}

const root = mkdtempSync(join(tmpdir(), 'nydus-peer-image-'))
const tree = unpackTree(join(root, 'tree'))

/** The tree as an image, with these options more. */
function whole(name: string, more: readonly string[], only?: 5 | 6): Kind {
  return {
    name,
    ...(only === undefined ? {} : { only }),
    manifest: treeManifest,
    make(out, options) {
      build('create', ...options, ...more, '-B', join(out, 'boot'), '-D', out, tree)
      return join(out, 'boot')
    },
  }
}

function only(folder: string): string {
  const [name = '', ...others] = readdirSync(folder)
  if (others.length > 0) throw new Error(`${folder} has more than one file`)
  return join(folder, name)
}

const shownLayers = (): readonly Expected[] => expected(fixtureNamed('layers'))

/** Combined with every version, compressor and digester. */
const KINDS: readonly Kind[] = [
  whole('plain', []),
  whole('small chunks', ['--chunk-size', '0x1000']),
  whole('batch', ['--batch-size', '0x10000'], 6),
  whole('toc', ['--features', 'blob-toc'], 6),
  {
    name: 'inline',
    manifest: treeManifest,
    make(out, options) {
      build('create', ...options, '--blob-inline-meta', '-D', out, tree)
      return only(out)
    },
  },
  {
    name: 'layered',
    manifest: shownLayers,
    make(out, options) {
      let parent: readonly string[] = []
      for (const layer of layers) {
        const boot = join(out, `boot${parent.length === 0 ? '' : parent[1]?.length}`)
        build('create', ...options, '-t', 'targz-rafs', ...parent, '-B', boot, '-D', out, layer)
        parent = ['--parent-bootstrap', boot]
      }
      return parent[1] ?? ''
    },
  },
  {
    name: 'merged',
    manifest: shownLayers,
    make(out, options) {
      const sources = layers.map((layer, i) => {
        const folder = join(out, String(i))
        mkdirSync(folder)
        build('create', ...options, '-t', 'targz-rafs', '--blob-inline-meta', '-D', folder, layer)
        return only(folder)
      })
      build('merge', '-B', join(out, 'boot'), ...sources)
      // The reference's nydusd looks for all blobs in one folder.
      for (const source of sources) copyFileSync(source, join(out, source.slice(dirname(source).length + 1)))
      return join(out, 'boot')
    },
  },
]

/** Kinds that leave nothing to choose. */
const REFERENCES: readonly Kind[] = [[], ['--chunk-size', '0x10000'], ['--features', 'blob-toc']].map(
  more => ({
    name: ['zran', ...more].join(' '),
    manifest: () => expected(fixtureNamed('v6-zran')),
    make(out) {
      const layer =
        readdirSync(join(fixtures, 'v6-zran/blobs')).find(name => name.startsWith('738f465d')) ?? ''
      copyFileSync(join(fixtures, 'v6-zran/blobs', layer), join(out, layer))
      build('create', '-t', 'targz-ref', ...more, '-B', join(out, 'boot'), '-D', out, join(out, layer))
      return join(out, 'boot')
    },
  }),
)

function* combinations(): Generator<{ name: string; kind: Kind; options: readonly string[] }> {
  for (const version of [5, 6] as const)
    for (const compressor of ['none', 'lz4_block', 'zstd'])
      for (const digester of ['blake3', 'sha256'])
        for (const kind of KINDS)
          if (kind.only === undefined || kind.only === version)
            yield {
              name: `v${version} ${compressor} ${digester} ${kind.name}`,
              kind,
              options: ['-v', String(version), '--compressor', compressor, '--digester', digester],
            }
  for (const kind of REFERENCES) yield { name: `v6 ${kind.name}`, kind, options: [] }
}

/** The last lines, which say what is wrong, as one and without colours. */
function reason(text: string): string {
  const lines = stripVTControlCharacters(text)
    .split('\n')
    .map(line => line.trim())
  return lines
    .filter(line => line !== '')
    .slice(-3)
    .join(' ')
}

/** 2.2 has no batches, for instance. */
function unknown(problem: string): boolean {
  return /invalid blob features|0x40000080|INVALID_FEATURES/i.test(problem)
}

async function judge(kind: Kind, options: readonly string[]): Promise<string[]> {
  const out = mkdtempSync(join(root, 'image-'))
  const work = mkdtempSync(join(root, 'cache-'))
  const said: string[] = []
  const note = (what: string, problem: string | undefined): void => {
    if (problem === undefined) said.push(`${what} ok`)
    else if (unknown(problem)) said.push(`${what}: not known to it`)
    else {
      said.push(`${what} FAILED (${reason(problem)})`)
      process.exitCode = 1
    }
  }
  try {
    const bootstrap = kind.make(out, options)
    note('our check', run(ours, ['check', '-B', bootstrap]))
    note('its check', run(peer, ['check', '-B', bootstrap, '-D', out]))
    const serve = (): Promise<string | undefined> =>
      treeOf(peerServer, { bootstrap, blobs: out, workDir: work }).then(
        seen => difference(kind.manifest(), seen),
        (error: unknown) => explain(error),
      )
    const served = await serve()
    // Now and then it sleeps through the first kick of its queue.
    note('its nydusd', served?.startsWith('INIT of node 0') === true ? await serve() : served)
  } catch (error) {
    note('build', explain(error))
  } finally {
    rmSync(out, { recursive: true, force: true })
    rmSync(work, { recursive: true, force: true })
  }
  return said
}

process.on('exit', () => rmSync(root, { recursive: true, force: true }))
for (const { name, kind, options } of combinations()) {
  if (!wanted.every(word => name.split(' ').includes(word))) continue
  process.stdout.write(`${name}: ${(await judge(kind, options)).join(', ')}\n`)
}
if (wanted.length === 0)
  for (const { name, bootstrap } of FIXTURES) {
    const problem = run(ours, ['check', '-B', bootstrap])
    if (problem !== undefined) process.exitCode = 1
    const said = problem === undefined ? 'our check ok' : `our check FAILED (${reason(problem)})`
    process.stdout.write(`its ${name}: ${said}\n`)
  }
