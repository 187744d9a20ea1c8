/** `nydus-image unpack` (nydus-image.md 3). */
import type { Command } from 'commander'
import type { Backend } from '../../lib/backend/backend.js'
import { NydusError } from '../../lib/base/errors.js'
import type { RafsImage } from '../../lib/rafs/image.js'
import type { Io } from '../program.js'
import { openBackendOf, withBackend, type BackendValues } from './backend-option.js'
import { warn } from './log-options.js'
import { startProgress } from './progress.js'

interface Values extends BackendValues {
  readonly bootstrap?: string
  readonly output: string
}

export function unpackCommand(program: Command, io: Io): void {
  const command = program
    .command('unpack')
    .description('Make a tar archive of an image')
    .argument('[bootstrap]', 'bootstrap, or a blob with inlined metadata')
    .option('-B, --bootstrap <file>', 'the same')
    .option('-b, --blob <file>', 'the data blob of an image that has one; may hold the metadata as well')
    .requiredOption('-o, --output <tar>', 'where the archive goes: a file, a FIFO, or - for standard output')
  withBackend(command).action(async (argument: string | undefined, values: Values) =>
    run(argument, values, io),
  )
}

async function run(argument: string | undefined, values: Values, io: Io): Promise<void> {
  const bootstrap = argument ?? values.bootstrap ?? values.blob
  if (bootstrap === undefined)
    throw new NydusError(
      'CLI_USAGE',
      'EINVAL',
      'no bootstrap: give its path, or --bootstrap, or --blob for one that holds it',
    )
  const { RafsImage } = await import('../../lib/rafs/image.js')
  const image = await RafsImage.open({ path: bootstrap, xattrs: true, validate: true })
  try {
    const backend = await blobsOf(image, values, bootstrap, io)
    try {
      await unpack(image, backend, values.output, io)
    } finally {
      await backend.close()
    }
  } finally {
    await image.close()
  }
}

async function unpack(image: RafsImage, backend: Backend, path: string, io: Io): Promise<void> {
  const { unpackImage } = await import('../../lib/image/unpack.js')
  const { written } = await import('../../lib/image/output.js')
  const progress = startProgress(io, 'unpacking')
  progress.found(image.facts.inodes_count)
  let left: readonly string[]
  try {
    ;({ left } = await written(path, output => unpackImage(image, backend, output, progress)))
  } finally {
    progress.stop()
  }
  for (const socket of left) warn(io, `${socket} is a socket, which tar archives cannot hold: left out`)
}

/** The storage that was named; the reference asks for one even when the image has no data. */
async function blobsOf(image: RafsImage, values: Values, bootstrap: string, io: Io): Promise<Backend> {
  const blobs = image.blobs.length + image.blobs.filter(blob => blob.metaBlobId !== undefined).length
  if (values.blob !== undefined && blobs > 1)
    throw new NydusError(
      'IMAGE_BLOBS',
      'EINVAL',
      `${bootstrap} refers to ${blobs} blobs: give the folder that has them with --blob-dir instead of --blob`,
    )
  const backend = await openBackendOf(values, io)
  if (backend === undefined)
    throw new NydusError(
      'IMAGE_BLOBS',
      'EINVAL',
      'no data source: give --blob, --blob-dir, --config, or --backend-type with --backend-config',
    )
  return backend
}
