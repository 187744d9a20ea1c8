/** One image of every kind that nydus-image builds: what hand-run checks go through. As root: the tree has devices and owners. */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { treeManifest, unpackTree } from '../lib/build/testing/source-tree.js'
import { expectedRecords, fixtureNamed } from '../vm-tests/fixtures.js'
import type { ManifestRecord } from '../vm-tests/manifest.js'
import { projectRoot } from '../vm-tests/project.js'

export const ours = join(projectRoot, 'dist/bin/nydus-image')
const fixtures = join(projectRoot, 'vm-tests/fixtures')
const layers = ['l1', 'l2', 'l3'].map(name => join(fixtures, 'layers', `${name}.tar.gz`))

/** undefined, or what went wrong. */
export function run(program: string, argv: readonly string[]): string | undefined {
  const { status, stderr, stdout } = spawnSync(program, argv, { encoding: 'utf8' })
  return status === 0 ? undefined : `${argv.join(' ')}: status ${status}: ${stderr}${stdout}`
}

function build(...argv: readonly string[]): void {
  const problem = run(ours, argv)
  if (problem !== undefined) throw new Error(problem)
}

/** A kind of image, and what it must show. */
export interface Kind {
  readonly name: string
  readonly only?: 5 | 6
  readonly manifest: () => readonly ManifestRecord[]
  /** Builds into the folder `out`; returns the bootstrap's path. */
  make(out: string, options: readonly string[]): string
}

/** A folder for what is built; it goes with the process. */
export const root = mkdtempSync(join(tmpdir(), 'nydus-kinds-'))
process.on('exit', () => rmSync(root, { recursive: true, force: true }))
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

const shownLayers = (): readonly ManifestRecord[] => expectedRecords(fixtureNamed('layers'))

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
    manifest: () => expectedRecords(fixtureNamed('v6-zran')),
    make(out) {
      const layer =
        readdirSync(join(fixtures, 'v6-zran/blobs')).find(name => name.startsWith('738f465d')) ?? ''
      copyFileSync(join(fixtures, 'v6-zran/blobs', layer), join(out, layer))
      build('create', '-t', 'targz-ref', ...more, '-B', join(out, 'boot'), '-D', out, join(out, layer))
      return join(out, 'boot')
    },
  }),
)

export interface Combination {
  readonly name: string
  readonly kind: Kind
  readonly options: readonly string[]
}

function* all(): Generator<Combination> {
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

/** One of every kind; with words, only those whose names have all of them. */
export function combinations(wanted: readonly string[]): Combination[] {
  return [...all()].filter(({ name }) => wanted.every(word => name.split(' ').includes(word)))
}
