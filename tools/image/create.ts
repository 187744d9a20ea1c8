/** `nydus-image create`: the options of today's form and of 2020's (nydus-image.md 2 and 4), as one. */
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { NydusError } from '../../lib/base/errors.js'
import type { CreateOptions, Created, SourceType } from '../../lib/build/create.js'
import type { Compressor, Digester } from '../../lib/cache/cache.js'
import type { WhiteoutSpec } from '../../lib/build/whiteout.js'
import type { Io } from '../program.js'
import { outputJson } from './output-json.js'
import { startProgress } from './progress.js'

const MIN_CHUNK = 0x1000
const MAX_CHUNK = 0x100_0000

/** What commander hands to the action. */
interface Values {
  readonly type: string
  readonly bootstrap?: string
  readonly blobDir?: string
  readonly blob?: string
  readonly blobInlineMeta?: boolean
  readonly blobId?: string
  readonly chunkSize: number
  readonly batchSize: number
  readonly compressor: Compressor
  readonly digester: Digester
  readonly fsVersion: '5' | '6'
  readonly features?: 'blob-toc'
  readonly alignedChunk?: boolean
  readonly whiteoutSpec: WhiteoutSpec
  readonly prefetchPolicy: 'none' | 'fs' | 'blob'
  readonly encrypt?: boolean
  readonly outputJson?: string
}

function powerOfTwo(min: number): (text: string) => number {
  return text => {
    const n = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : NaN
    if (n === 0 && min === 0) return 0
    if (!(n >= MIN_CHUNK && n <= MAX_CHUNK) || Math.log2(n) % 1 !== 0)
      throw new InvalidArgumentError(
        `It must be a power of two from 0x1000 to 0x1000000${min === 0 ? ', or 0' : ''}.`,
      )
    return n
  }
}

function usage(text: string): NydusError {
  return new NydusError('CLI_USAGE', 'EINVAL', text)
}

const TYPES: Readonly<Record<string, SourceType>> = {
  'dir-rafs': 'dir-rafs',
  directory: 'dir-rafs',
  'tar-rafs': 'tar-rafs',
  'targz-rafs': 'targz-rafs',
  'estargz-rafs': 'targz-rafs',
}

export function createCommand(program: Command, io: Io): void {
  program
    .command('create')
    .description('Build a RAFS image from a folder, a tar archive or an OCI layer')
    .argument('<source>', 'folder, or archive (a file, FIFO or device; it is read once, from start to end)')
    .addOption(
      new Option('-t, --type <type>', 'kind of source').choices(Object.keys(TYPES)).default('dir-rafs'),
    )
    .option('-B, --bootstrap <file>', 'where the metadata goes')
    .addOption(
      new Option('-D, --blob-dir <folder>', 'folder for the data blob, which is named by its id').conflicts(
        'blob',
      ),
    )
    .option('-b, --blob <file>', 'where the data blob goes (a FIFO is fine)')
    .addOption(
      new Option('--blob-inline-meta', 'metadata goes into the data blob').conflicts(['bootstrap', 'blobId']),
    )
    .addOption(new Option('--inline-bootstrap', 'the same').implies({ blobInlineMeta: true }).hideHelp())
    .option('--blob-id <id>', 'id of the data blob instead of its sha256')
    .addOption(
      new Option('--chunk-size <bytes>', 'size of a chunk, a power of two from 0x1000 to 0x1000000')
        .argParser(powerOfTwo(MIN_CHUNK))
        .default(0x10_0000, '0x100000'),
    )
    .addOption(
      new Option(
        '--batch-size <bytes>',
        'small files are compressed together up to this size; 0: each by itself',
      )
        .argParser(powerOfTwo(0))
        .default(0),
    )
    .addOption(
      new Option('--compressor <name>', 'of data chunks')
        .choices(['none', 'lz4_block', 'zstd'])
        .default('zstd'),
    )
    .addOption(
      new Option('--digester <name>', 'of data chunks').choices(['blake3', 'sha256']).default('blake3'),
    )
    .addOption(new Option('-v, --fs-version <version>', 'RAFS version').choices(['5', '6']).default('6'))
    .addOption(
      new Option('--features <name>', 'blob-toc: add a table of contents to the blob').choices(['blob-toc']),
    )
    .option('--aligned-chunk', 'align chunks to 4096 bytes in the cache (v5; v6 always does)')
    .option(
      '--repeatable',
      'same input, same bytes: always so here; accepted for the scripts that ask for it',
    )
    .addOption(
      new Option('--whiteout-spec <spec>', 'how the source marks what is gone')
        .choices(['oci', 'overlayfs', 'none'])
        .default('oci'),
    )
    .addOption(
      new Option('--prefetch-policy <policy>', 'fs, blob: paths to prefetch are read from stdin, one a line')
        .choices(['fs', 'blob', 'none'])
        .default('none'),
    )
    .option('-E, --encrypt', 'encrypt the data blob (v6)')
    .option('-J, --output-json <file>', 'what was built, as JSON')
    .action(async (source: string, values: Values) => run(source, values, io))
}

async function run(source: string, values: Values, io: Io): Promise<void> {
  const started = performance.now()
  const options = await optionsOf(source, values)
  const progress = startProgress(io, 'building')
  const { createImage } = await import('../../lib/build/create.js')
  let created: Created
  try {
    created = await createImage(options, progress)
  } finally {
    progress.stop()
  }
  if (values.outputJson !== undefined)
    await writeFile(
      values.outputJson,
      outputJson({
        bootstrap: created.bootstrap,
        blobs: created.blobIds,
        times: { total_build: (performance.now() - started) / 1000 },
        events: {
          blob_uncompressed_size: created.uncompressedSize,
          dedup_chunks: created.dedupChunks,
          dedup_uncompressed_size: created.dedupBytes,
          load_from_directory: created.files,
        },
        version: values.fsVersion,
        compressor: values.compressor,
      }),
    )
  io.stderr.write(
    `successfully built RAFS filesystem:\nmeta blob path: ${created.bootstrap === '' ? '<none>' : created.bootstrap}\n` +
      `data blob size: 0x${created.blobSize.toString(16)}\ndata blobs: ${JSON.stringify(created.blobIds)}\n`,
  )
}

async function optionsOf(source: string, values: Values): Promise<CreateOptions> {
  const type = TYPES[values.type]
  if (type === undefined) throw usage(`--type ${values.type} is not known`)
  if (values.blobInlineMeta !== true && values.bootstrap === undefined && values.blobDir === undefined)
    throw usage('the metadata has no place to go: give --bootstrap, or --blob-dir, or --blob-inline-meta')
  if (values.encrypt === true && values.fsVersion === '5') throw usage('--encrypt needs --fs-version 6')
  if (values.batchSize > 0 && values.fsVersion === '5') throw usage('--batch-size needs --fs-version 6')
  if (values.batchSize > values.chunkSize)
    throw usage(`--batch-size ${values.batchSize} is larger than --chunk-size ${values.chunkSize}`)
  if ((values.blobId?.length ?? 0) > 255)
    throw usage(`--blob-id has ${values.blobId?.length} characters, 255 are the limit`)
  if (values.blobDir !== undefined && !(await stat(values.blobDir).catch(() => undefined))?.isDirectory())
    throw new NydusError('BUILD_OUTPUT', 'ENOENT', `--blob-dir ${values.blobDir} is not a folder`)
  return {
    type,
    source,
    version: values.fsVersion === '5' ? 5 : 6,
    compressor: values.compressor,
    digester: values.digester,
    chunkSize: values.chunkSize,
    batchSize: values.batchSize,
    alignedChunk: values.alignedChunk === true,
    whiteoutSpec: values.whiteoutSpec,
    toc: values.features === 'blob-toc',
    inlineMeta: values.blobInlineMeta === true,
    encrypt: values.encrypt === true,
    prefetchPolicy: values.prefetchPolicy,
    prefetchPaths: values.prefetchPolicy === 'none' ? [] : (await readFile('/dev/stdin', 'utf8')).split('\n'),
    blobId: values.blobId,
    blob: values.blob !== undefined ? { file: values.blob } : { folder: values.blobDir ?? '.' },
    bootstrap:
      values.blobInlineMeta === true ? undefined : (values.bootstrap ?? join(values.blobDir ?? '.', '')),
  }
}
