/** `nydus-image check` (nydus-image.md 3). */
import { writeFile } from 'node:fs/promises'
import { Option, type Command } from 'commander'
import { NydusError } from '../../lib/base/errors.js'
import type { Io } from '../program.js'
import { outputJson } from './output-json.js'

interface Values {
  readonly bootstrap?: string
  readonly blobDir?: string
  readonly verbose?: boolean
  readonly outputJson?: string
}

/** Commands that look into an image take it as an argument or by `-B`. */
export function bootstrapOf(argument: string | undefined, option: string | undefined): string {
  const path = argument ?? option
  if (path === undefined)
    throw new NydusError('CLI_USAGE', 'EINVAL', 'no bootstrap: give its path, or --bootstrap')
  return path
}

export function checkCommand(program: Command, io: Io): void {
  program
    .command('check')
    .description('Check the metadata of an image: every inode, name and chunk')
    .argument('[bootstrap]', 'bootstrap, or a blob with inlined metadata')
    .option('-B, --bootstrap <file>', 'the same')
    .addOption(new Option('-D, --blob-dir <folder>', 'folder of the data blobs, to be looked at too'))
    .option('-v, --verbose', 'print the tree')
    .option('-J, --output-json <file>', 'what was found, as JSON')
    .action(async (argument: string | undefined, values: Values) => run(argument, values, io))
}

async function run(argument: string | undefined, values: Values, io: Io): Promise<void> {
  const started = performance.now()
  const { checkImage, featureWords } = await import('../../lib/build/check.js')
  const bootstrap = bootstrapOf(argument, values.bootstrap)
  const report = await checkImage({
    bootstrap,
    blobDir: values.blobDir,
    seen: (path, ino) => {
      if (values.verbose === true) io.stdout.write(`inode ${ino}: ${JSON.stringify(path.toString())}\n`)
    },
  })
  io.stdout.write('RAFS filesystem metadata is valid, referenced data blobs:\n')
  for (const blob of report.blobs)
    io.stdout.write(
      `\t ${blob.blobIndex}: ${blob.id}, compressed size ${blob.compressedSize}, uncompressed size ${blob.uncompressedSize}, ` +
        `chunk size: ${blob.chunkSize}, chunk count: ${blob.chunkCount}, features: ${featureWords(blob.features)}\n`,
    )
  if (values.outputJson !== undefined)
    await writeFile(
      values.outputJson,
      outputJson({
        bootstrap,
        blobs: report.blobs.map(blob => blob.id),
        times: { check: (performance.now() - started) / 1000 },
        events: { names: report.names, chunks: report.chunks },
        version: String(report.version),
        compressor: report.blobs[0]?.compressor ?? 'none',
      }),
    )
}
