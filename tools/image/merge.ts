/** `nydus-image merge` (nydus-image.md 3). */
import { writeFile } from 'node:fs/promises'
import { Option, type Command } from 'commander'
import type { Io } from '../program.js'
import { stdinLines } from './stdin.js'
import { outputJson } from './output-json.js'

interface Values {
  readonly bootstrap: string
  readonly parentBootstrap?: string
  readonly chunkDict?: string
  readonly blobDigests?: readonly string[]
  readonly originalBlobIds?: readonly string[]
  readonly blobSizes?: readonly string[]
  readonly blobTocDigests?: readonly string[]
  readonly blobTocSizes?: readonly string[]
  readonly prefetchPolicy: 'none' | 'fs' | 'blob'
  readonly outputJson?: string
}

const list = (text: string): readonly string[] => text.split(',').map(part => part.trim())
/** `bootstrap=PATH` or `PATH`. */
const dictionary = (text: string): string => text.replace(/^bootstrap=/, '')

export function mergeCommand(program: Command, io: Io): void {
  program
    .command('merge')
    .description('Lay the bootstraps of layers over each other, lowest first, into one')
    .argument(
      '<source...>',
      'bootstraps, or blobs with inlined metadata; each is named by the id of its blob',
    )
    .requiredOption('-B, --bootstrap <file>', 'where the merged metadata goes')
    .option('--parent-bootstrap <file>', 'image below the lowest source')
    .addOption(
      new Option('--chunk-dict <file>', 'dictionary that the layers were built with').argParser(dictionary),
    )
    .addOption(new Option('--blob-digests <list>', 'ids of the blobs, one for each source').argParser(list))
    .addOption(
      new Option('--original-blob-ids <list>', 'ids of the layers that zran blobs refer to').argParser(list),
    )
    .addOption(new Option('--blob-sizes <list>', 'sizes of the blobs in bytes').argParser(list))
    .addOption(new Option('--blob-toc-digests <list>', 'digests of the tables of contents').argParser(list))
    .addOption(
      new Option('--blob-toc-sizes <list>', 'sizes of the tables of contents in bytes').argParser(list),
    )
    .addOption(
      new Option('--prefetch-policy <policy>', 'fs, blob: paths to prefetch are read from stdin, one a line')
        .choices(['fs', 'blob', 'none'])
        .default('none'),
    )
    .option('-J, --output-json <file>', 'what was built, as JSON')
    .action(async (sources: string[], values: Values) => run(sources, values, io))
}

async function run(sources: readonly string[], values: Values, io: Io): Promise<void> {
  const started = performance.now()
  const { mergeImages } = await import('../../lib/build/merge.js')
  const merged = await mergeImages({
    sources,
    parent: values.parentBootstrap,
    chunkDict: values.chunkDict,
    bootstrap: values.bootstrap,
    blobDigests: values.blobDigests ?? [],
    originalBlobIds: values.originalBlobIds ?? [],
    blobSizes: (values.blobSizes ?? []).map(Number),
    tocDigests: values.blobTocDigests ?? [],
    tocSizes: (values.blobTocSizes ?? []).map(Number),
    prefetchPaths: values.prefetchPolicy === 'none' ? [] : await stdinLines(),
  })
  if (values.outputJson !== undefined)
    await writeFile(
      values.outputJson,
      outputJson({
        bootstrap: values.bootstrap,
        blobs: merged.blobIds,
        times: { total_build: (performance.now() - started) / 1000 },
        events: { load_from_bootstrap: merged.files },
        version: String(merged.version),
        compressor: merged.compressor,
      }),
    )
  io.stderr.write(
    `successfully merged ${sources.length} layers:\nmeta blob path: ${values.bootstrap}\ndata blobs: ${JSON.stringify(merged.blobIds)}\n`,
  )
}
