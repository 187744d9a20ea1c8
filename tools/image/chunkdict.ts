/** `nydus-image chunkdict` (nydus-image.md 3). */
import { writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import type { Io } from '../program.js'
import { outputJson } from './output-json.js'

interface SaveValues {
  readonly database: string
}

interface GenerateValues extends SaveValues {
  readonly bootstrap: string
  readonly outputJson?: string
}

const DATABASE = 'sqlite://chunkdict.sqlite'

export function chunkdictCommand(program: Command, io: Io): void {
  const chunkdict = program
    .command('chunkdict')
    .description('Find the chunks that images share, for create --chunk-dict')
  chunkdict
    .command('generate')
    .description('Save the chunks of images, and make a dictionary of those that several have')
    .argument('<source...>', 'bootstraps, each in a folder that is named after its image, name:tag')
    .requiredOption('-B, --bootstrap <file>', 'where the dictionary goes')
    .option('--database <url>', 'SQLite file with the chunks of all images', DATABASE)
    .option('-D, --blob-dir <folder>', 'accepted: no blob is read')
    .option('-J, --output-json <file>', 'what was built, as JSON')
    .action(async (sources: string[], values: GenerateValues) => generate(sources, values, io))
  chunkdict
    .command('save')
    .description('Save the chunks of images in the database')
    .argument('<source...>', 'bootstraps, each in a folder that is named after its image, name:tag')
    .option('--database <url>', 'SQLite file with the chunks of all images', DATABASE)
    .option('-D, --blob-dir <folder>', 'accepted: no blob is read')
    .action(async (sources: string[], values: SaveValues) => save(sources, values))
}

async function generate(sources: readonly string[], values: GenerateValues, io: Io): Promise<void> {
  const started = performance.now()
  const { dictSource, generateDict } = await import('../../lib/image/chunk-dict.js')
  const { databasePath } = await import('../../lib/image/chunk-database.js')
  const done = await generateDict(sources.map(dictSource), databasePath(values.database), values.bootstrap)
  if (values.outputJson !== undefined)
    await writeFile(
      values.outputJson,
      outputJson({
        bootstrap: values.bootstrap,
        blobs: done.blobIds,
        times: { chunkdict: (performance.now() - started) / 1000 },
        events: { chunks: done.chunks },
        version: String(done.version),
        compressor: done.compressor,
      }),
    )
  io.stderr.write(
    `successfully generated chunk dictionary:\nmeta blob path: ${values.bootstrap}\nchunks: ${done.chunks}\n` +
      `data blobs: ${JSON.stringify(done.blobIds)}\n`,
  )
}

async function save(sources: readonly string[], values: SaveValues): Promise<void> {
  const { dictSource, saveChunks } = await import('../../lib/image/chunk-dict.js')
  const { databasePath } = await import('../../lib/image/chunk-database.js')
  await saveChunks(sources.map(dictSource), databasePath(values.database))
}
