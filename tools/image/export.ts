/** `nydus-image export` (nydus-image.md 3). */
import { basename, join } from 'node:path'
import { InvalidArgumentError, Option, type Command } from 'commander'
import type { BackendConfig } from '../../lib/backend/backend.js'
import { NydusError } from '../../lib/base/errors.js'
import { silentLog } from '../../lib/base/log.js'
import type { Io } from '../program.js'
import { warn } from './log-options.js'
import { startProgress } from './progress.js'

interface Values {
  readonly block?: boolean
  readonly bootstrap?: string
  readonly localfsDir?: string
  readonly config?: string
  readonly output?: string
  readonly threads?: number
  readonly verity?: boolean
}

const MAX_THREADS = 32
/** Enough to have requests under way while chunks are decoded. */
const REMOTE_THREADS = 4

function threads(text: string): number {
  const n = Number(text)
  if (!Number.isInteger(n) || n < 1 || n > MAX_THREADS)
    throw new InvalidArgumentError(`It must be a number from 1 to ${MAX_THREADS}.`)
  return n
}

export function exportCommand(program: Command, io: Io): void {
  program
    .command('export')
    .description("Make a disk image of a v6 image that the kernel's EROFS mounts")
    .argument('[bootstrap]', 'bootstrap, or a blob with inlined metadata')
    .option('--block', 'a block device image: the only kind there is')
    .option('-B, --bootstrap <file>', 'the same as the argument')
    .addOption(
      new Option('-D, --localfs-dir <folder>', 'folder of the data blobs, each named by its id').conflicts(
        'config',
      ),
    )
    .option('-C, --config <file>', 'blob cache entry, which names bootstrap and backend')
    .option(
      '-O, --output <file>',
      'the disk image (default: <bootstrap name>.disk in the folder of the blobs)',
    )
    .addOption(
      new Option(
        '--threads <number>',
        `that read and decode side by side, 1 to ${MAX_THREADS} (default: ${REMOTE_THREADS}; 1 for blobs in a folder, where one keeps a disk busy)`,
      ).argParser(threads),
    )
    .option('--verity', 'append a dm-verity hash tree and print the options that veritysetup needs')
    .action(async (argument: string | undefined, values: Values) => run(argument, values, io))
}

function usage(text: string): NydusError {
  return new NydusError('CLI_USAGE', 'EINVAL', text)
}

interface Source {
  readonly bootstrap: string
  readonly backend: BackendConfig
  /** Where the disk goes when nobody says it. */
  readonly folder: string
}

async function sourceOf(argument: string | undefined, values: Values, io: Io): Promise<Source> {
  const bootstrap = argument ?? values.bootstrap
  if (values.config !== undefined) return await entrySource(values.config, bootstrap, io)
  if (bootstrap === undefined) throw usage('no bootstrap: give its path, --bootstrap, or --config')
  const dir = values.localfsDir
  if (dir === undefined) throw usage('no blobs: give their folder with --localfs-dir, or --config')
  return {
    bootstrap,
    folder: dir,
    backend: { type: 'localfs', localfs: { dir, blob_file: '', alt_dirs: [] } },
  }
}

async function entrySource(path: string, bootstrap: string | undefined, io: Io): Promise<Source> {
  const { loadBlobEntry } = await import('../../lib/daemon/config.js')
  const { entry, warnings } = await loadBlobEntry(path)
  for (const warning of warnings) warn(io, warning)
  const { metadata_path, backend, cache } = entry.config
  const metadata = bootstrap ?? metadata_path
  if (metadata === null) throw usage(`blob cache entry ${path} has no metadata_path: give --bootstrap`)
  return { bootstrap: metadata, backend, folder: cache.filecache?.work_dir ?? '.' }
}

async function run(argument: string | undefined, values: Values, io: Io): Promise<void> {
  if (values.block !== true) throw usage('say --block: a block device image is the only kind there is')
  const source = await sourceOf(argument, values, io)
  const path = values.output ?? join(source.folder, `${basename(source.bootstrap)}.disk`)
  const { RafsImage } = await import('../../lib/rafs/image.js')
  const { openBackend } = await import('../../lib/backend/open.js')
  const { exportImage } = await import('../../lib/image/export.js')
  const { written } = await import('../../lib/image/output.js')
  const image = await RafsImage.open({ path: source.bootstrap, xattrs: true, validate: true })
  const progress = startProgress(io, 'exporting')
  try {
    const backend = await openBackend(source.backend, { log: silentLog })
    try {
      const { verity } = await written(path, output =>
        exportImage(image, backend, output, values.verity === true, progress, {
          count: values.threads ?? (source.backend.type === 'localfs' ? 1 : REMOTE_THREADS),
          bootstrap: source.bootstrap,
          backend: source.backend,
        }),
      )
      if (verity !== undefined)
        io.stdout.write(
          'dm-verity options: --no-superblock --format=1 -s "" --hash=sha256 --data-block-size=4096 --hash-block-size=4096 ' +
            `--data-blocks ${verity.dataBlocks} --hash-offset ${verity.hashOffset} ${verity.rootHash}\n`,
        )
    } finally {
      await backend.close()
    }
  } finally {
    progress.stop()
    await image.close()
  }
}
