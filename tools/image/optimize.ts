/** `nydus-image optimize` (nydus-image.md 3). */
import { readFile, writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { NydusError } from '../../lib/base/errors.js'
import type { Io } from '../program.js'
import { openBackendOf, withBackend, type BackendValues } from './backend-option.js'
import { outputJson } from './output-json.js'
import { startProgress } from './progress.js'

interface Values extends BackendValues {
  readonly bootstrap: string
  readonly prefetchFiles: string
  readonly outputBlobDir: string
  readonly outputBootstrap: string
  readonly outputJson?: string
}

export function optimizeCommand(program: Command, io: Io): void {
  const command = program
    .command('optimize')
    .description('Copy the files that are wanted first into a blob of their own')
    .requiredOption('-B, --bootstrap <file>', 'the image')
    .requiredOption('-p, --prefetch-files <file>', 'paths of the image, one a line, or a JSON array of them')
    .requiredOption('--output-blob-dir <folder>', 'where the new blob goes')
    .option('-O, --output-bootstrap <file>', 'the new image', 'optimized_bootstrap')
    .option('-J, --output-json <file>', 'what was built, as JSON')
  withBackend(command).action(async (values: Values) => run(values, io))
}

async function run(values: Values, io: Io): Promise<void> {
  const started = performance.now()
  const { parsePrefetchList } = await import('../../lib/image/prefetch.js')
  const { optimizeImage } = await import('../../lib/image/optimize.js')
  const { reason } = await import('../../lib/daemon/reason.js')
  const list = await readFile(values.prefetchFiles, 'utf8').catch((error: unknown) => {
    throw new NydusError(
      'PREFETCH_LIST',
      'ENOENT',
      `--prefetch-files ${values.prefetchFiles} cannot be read: ${reason(error)}`,
    )
  })
  const paths = parsePrefetchList(list, `--prefetch-files ${values.prefetchFiles}`)
  const backend = await openBackendOf(values, io)
  if (backend === undefined)
    throw new NydusError(
      'IMAGE_BLOBS',
      'EINVAL',
      'no data source: give --blob-dir, --config, or --backend-type with --backend-config',
    )
  const progress = startProgress(io, 'optimizing')
  try {
    const done = await optimizeImage(
      {
        bootstrap: values.bootstrap,
        backend,
        paths,
        folder: values.outputBlobDir,
        output: values.outputBootstrap,
      },
      progress,
    )
    progress.stop()
    if (values.outputJson !== undefined)
      await writeFile(
        values.outputJson,
        outputJson({
          bootstrap: done.bootstrap,
          blobs: done.blobIds,
          times: { optimize: (performance.now() - started) / 1000 },
          events: { prefetch_paths: paths.length },
          version: String(done.version),
          compressor: done.compressor,
        }),
      )
    io.stderr.write(
      `successfully optimized RAFS filesystem:\nmeta blob path: ${done.bootstrap}\nprefetch blob: ${done.newIds.join('')}\n` +
        `data blobs: ${JSON.stringify(done.blobIds)}\n`,
    )
  } finally {
    progress.stop()
    await backend.close()
  }
}
