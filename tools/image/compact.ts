/** `nydus-image compact` (nydus-image.md 3). */
import { writeFile } from 'node:fs/promises'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { NydusError } from '../../lib/base/errors.js'
import type { Io } from '../program.js'
import { openBackendOf, withBackend, type BackendValues } from './backend-option.js'
import { outputJson } from './output-json.js'
import { startProgress } from './progress.js'

interface Values extends BackendValues {
  readonly bootstrap: string
  readonly minUsedRatio: number
  readonly compactBlobSize: number
  readonly maxCompactSize: number
  readonly layersToCompact: number
  readonly chunkDict?: string
  readonly outputBootstrap?: string
  readonly outputJson?: string
}

/** A whole number, decimal or hexadecimal, up to `max`. */
function whole(max: number): (text: string) => number {
  return text => {
    const n = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : NaN
    if (!(n <= max)) throw new InvalidArgumentError(`It must be a number from 0 to ${max}.`)
    return n
  }
}

const size = whole(Number.MAX_SAFE_INTEGER)

export function compactCommand(program: Command, io: Io): void {
  const command = program
    .command('compact')
    .description('Replace blobs of which an image uses little, and small ones, by fewer')
    .requiredOption('-B, --bootstrap <file>', 'the image')
    .addOption(
      new Option('--min-used-ratio <percent>', 'replace blobs of which less is used; 0: none for that')
        .argParser(whole(99))
        .default(5),
    )
    .addOption(
      new Option('--compact-blob-size <bytes>', 'put blobs smaller than this together')
        .argParser(size)
        .default(10 << 20),
    )
    .addOption(
      new Option('--max-compact-size <bytes>', 'no larger than this together')
        .argParser(size)
        .default(100 << 20),
    )
    .addOption(
      new Option('--layers-to-compact <number>', 'leave images of fewer blobs alone; 0: none')
        .argParser(size)
        .default(32),
    )
    .addOption(
      new Option('--chunk-dict <file>', 'dictionary whose chunks are referred to').argParser(text =>
        text.replace(/^bootstrap=/, ''),
      ),
    )
    .option('-O, --output-bootstrap <file>', 'the new image (default: <bootstrap>.compact)')
    .option('-J, --output-json <file>', 'what was built, as JSON')
  withBackend(command).action(async (values: Values) => run(values, io))
}

async function run(values: Values, io: Io): Promise<void> {
  const started = performance.now()
  const { blobDir, ...elsewhere } = values
  if (blobDir === undefined)
    throw new NydusError(
      'CLI_USAGE',
      'EINVAL',
      'new blobs have no place to go: give their folder with --blob-dir',
    )
  const { compactImage } = await import('../../lib/image/compact.js')
  const backend = (await openBackendOf(elsewhere, io)) ?? (await openBackendOf({ blobDir }, io))
  if (backend === undefined) throw new RangeError('a folder is a backend')
  const progress = startProgress(io, 'compacting')
  try {
    const done = await compactImage(
      {
        bootstrap: values.bootstrap,
        backend,
        folder: blobDir,
        output: values.outputBootstrap ?? `${values.bootstrap}.compact`,
        chunkDict: values.chunkDict,
        minUsedRatio: values.minUsedRatio,
        compactBlobSize: values.compactBlobSize,
        maxCompactSize: values.maxCompactSize,
        layersToCompact: values.layersToCompact,
      },
      progress,
    )
    progress.stop()
    if (done === undefined) {
      io.stderr.write(`there is nothing to compact in ${values.bootstrap}\n`)
      return
    }
    if (values.outputJson !== undefined)
      await writeFile(
        values.outputJson,
        outputJson({
          bootstrap: done.bootstrap,
          blobs: done.blobIds,
          times: { compact: (performance.now() - started) / 1000 },
          events: { new_blobs: done.newIds.length },
          version: String(done.version),
          compressor: done.compressor,
        }),
      )
    io.stderr.write(
      `successfully compacted RAFS filesystem:\nmeta blob path: ${done.bootstrap}\ndata blobs: ${JSON.stringify(done.blobIds)}\n`,
    )
  } finally {
    progress.stop()
    await backend.close()
  }
}
