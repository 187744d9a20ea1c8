/** `nydus-image create`: the options of today's form and of 2020's (nydus-image.md 2 and 4), as one. */
import { readFile, stat, writeFile } from 'node:fs/promises'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { checkBlobId } from '../../lib/base/blob-id.js'
import { explain, NydusError } from '../../lib/base/errors.js'
import type { CreateOptions, Created, CreateProgress, SourceType } from '../../lib/build/create.js'
import type { Compressor, Digester } from '../../lib/cache/cache.js'
import type { WhiteoutSpec } from '../../lib/build/whiteout.js'
import type { Io } from '../program.js'
import {
  createForeign,
  defaultChunkSize,
  FOREIGN_TYPES,
  foreignCompressor,
  isForeign,
} from './create-foreign.js'
import { stdinLines } from './stdin.js'
import { outputJson } from './output-json.js'
import { startProgress } from './progress.js'
import { openUpload, UPLOAD_TYPES, type Upload } from './upload.js'

const MIN_CHUNK = 0x1000
const MAX_CHUNK = 0x100_0000
/** Characters of a blob id. */
const V5_ID = 255
const V6_ID = 64

/** What commander hands to the action. */
interface Values {
  readonly type: string
  readonly bootstrap?: string
  readonly blobDir?: string
  readonly blob?: string
  readonly blobInlineMeta?: boolean
  readonly blobId?: string
  readonly blobDataSize?: number
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
  readonly parentBootstrap?: string
  readonly chunkDict?: string
  readonly blobCacheDir?: string
  readonly attributes?: string
  readonly externalBlob?: string
  readonly blobOffset: number
  readonly backendType?: string
  readonly backendConfig?: string
  readonly backendConfigFile?: string
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

/** `PATH` or `bootstrap=PATH`. */
const dictionary = (text: string): string => text.replace(/^bootstrap=/, '')

function integer(text: string): number {
  const n = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : NaN
  if (!Number.isSafeInteger(n)) throw new InvalidArgumentError('It must be a number, decimal or hex (0x…).')
  return n
}

function usage(text: string): NydusError {
  return new NydusError('CLI_USAGE', 'EINVAL', text)
}

const TYPES: Readonly<Record<string, SourceType>> = {
  'dir-rafs': 'dir-rafs',
  directory: 'dir-rafs',
  'tar-rafs': 'tar-rafs',
  'targz-rafs': 'targz-rafs',
  'estargz-rafs': 'estargz-rafs',
}

export function createCommand(program: Command, io: Io): void {
  program
    .command('create')
    .description('Build a RAFS image from a folder, a tar archive or an OCI layer')
    .argument('<source>', 'folder, or archive (a file, FIFO or device; it is read once, from start to end)')
    .addOption(
      new Option('-t, --type <type>', 'kind of source')
        .choices([...Object.keys(TYPES), ...FOREIGN_TYPES])
        .default('dir-rafs'),
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
      new Option('--blob-data-size <bytes>', 'size of the layer, for estargztoc-ref').argParser(integer),
    )
    .addOption(
      new Option('--chunk-size <bytes>', 'size of a chunk, a power of two from 0x1000 to 0x1000000')
        .argParser(powerOfTwo(MIN_CHUNK))
        .default(0x10_0000, '0x100000, for a table of contents 0x400000'),
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
    .addOption(
      new Option(
        '--chunk-dict <file>',
        'bootstrap (or bootstrap=FILE) whose chunks are not stored again',
      ).argParser(dictionary),
    )
    .option('--parent-bootstrap <file>', 'metadata of the layers below, upon which this one is laid')
    .addOption(
      new Option(
        '--blob-cache-dir <folder>',
        'write <id>.blob.data and <id>.blob.meta for a cache, and no blob',
      ).conflicts(['blob', 'blobDir', 'blobInlineMeta']),
    )
    .option(
      '--attributes <file>',
      'rules like those of gitattributes: data of files with type=external goes to a blob of its own (.nydusattributes)',
    )
    .option('--external-blob <file>', 'that blob (default: in --blob-dir, named by its id)')
    .addOption(
      new Option('--backend-type <type>', 'upload the data blob to such a storage').choices(UPLOAD_TYPES),
    )
    .option('--backend-config <json>', 'its settings, the `config` object of a backend')
    .option('--backend-config-file <file>', 'the same in a file')
    .option('-C, --config <file>', 'configuration of nydusd; accepted, a build reads no backend')
    .addOption(new Option('--disable-check', 'accepted; nothing is checked a second time').hideHelp())
    .addOption(
      new Option(
        '--blob-offset <bytes>',
        'bytes that stand in front of the blob in the file that readers get',
      )
        .argParser(integer)
        .default(0)
        .hideHelp(),
    )
    .option('-E, --encrypt', 'encrypt the data blob (v6)')
    .option('-J, --output-json <file>', 'what was built, as JSON')
    .action(async (source: string, values: Values, command: Command) => {
      const chunkSize =
        command.getOptionValueSource('chunkSize') === 'default'
          ? defaultChunkSize(values.type)
          : values.chunkSize
      await run(source, { ...values, chunkSize }, io)
    })
}

async function run(source: string, values: Values, io: Io): Promise<void> {
  const started = performance.now()
  const build = await buildOf(source, values)
  // Wrong settings are found before hours of work, not after them.
  const upload = values.backendType === undefined ? undefined : await uploadOf(values.backendType, values, io)
  const progress = startProgress(io, 'building')
  let created: Created
  try {
    created = await build(progress)
  } finally {
    progress.stop()
  }
  if (created.blob !== undefined && upload !== undefined) {
    const sending = startProgress(io, 'uploading')
    sending.found(1)
    try {
      await upload(created.blob.id, created.blob.path, bytes => sending.stored(0, bytes))
    } finally {
      sending.stop()
    }
  }
  if (values.outputJson !== undefined)
    await writeFile(
      values.outputJson,
      outputJson({
        bootstrap: created.bootstrap,
        blobs: created.blobIds,
        externalBlobs: created.externalIds,
        times: { total_build: (performance.now() - started) / 1000 },
        events: {
          blob_uncompressed_size: created.uncompressedSize,
          dedup_chunks: created.dedupChunks,
          dedup_uncompressed_size: created.dedupBytes,
          load_from_directory: created.files,
        },
        version: values.fsVersion,
        compressor: isForeign(values.type) ? foreignCompressor(values.type) : values.compressor,
      }),
    )
  io.stderr.write(
    `successfully built RAFS filesystem:\nmeta blob path: ${created.bootstrap === '' ? '<none>' : created.bootstrap}\n` +
      `data blob size: 0x${created.blobSize.toString(16)}\ndata blobs: ${JSON.stringify(created.blobIds)}\n` +
      (created.externalIds.length === 0 ? '' : `external blobs: ${JSON.stringify(created.externalIds)}\n`),
  )
}

async function uploadOf(type: string, values: Values, io: Io): Promise<Upload> {
  if (values.blobCacheDir !== undefined)
    throw usage('--blob-cache-dir writes no blob that --backend-type could upload')
  const out = values.blob === undefined ? undefined : await stat(values.blob).catch(() => undefined)
  if (out !== undefined && !out.isFile())
    throw usage(`--blob ${values.blob} is no file: what it swallows cannot be uploaded with --backend-type`)
  if (type === 'registry' && values.features === 'blob-toc' && values.fsVersion === '6')
    throw usage(
      'a registry names blobs by the sha256 of their bytes, but that of --features blob-toc is the id of a part of them: leave it out',
    )
  const { backendConfig, backendConfigFile } = values
  const given = {
    ...(backendConfig === undefined ? {} : { backendConfig }),
    ...(backendConfigFile === undefined ? {} : { backendConfigFile }),
  }
  return await openUpload(type, given, io)
}

type Build = (progress: CreateProgress) => Promise<Created>

async function buildOf(source: string, values: Values): Promise<Build> {
  const { type } = values
  if (!isForeign(type)) {
    const options = await optionsOf(source, values)
    return async progress => await (await import('../../lib/build/create.js')).createImage(options, progress)
  }
  const options = await optionsOf(source, { ...values, type: 'tar-rafs' })
  const refused: readonly [string, unknown][] = [
    ['--encrypt', values.encrypt],
    // The blocks of a tarfs image are those of its tar, and of no other file.
    ['--parent-bootstrap', type === 'tar-tarfs' && values.parentBootstrap],
    ['--chunk-dict', type === 'tar-tarfs' && values.chunkDict],
    ['--blob-cache-dir', values.blobCacheDir],
    ['--batch-size', values.batchSize > 0],
    ['--blob-offset', values.blobOffset !== 0],
    ['--attributes', values.attributes],
    ['--prefetch-policy blob', values.prefetchPolicy === 'blob'],
  ]
  const given = refused.flatMap(([name, value]) => (value === undefined || value === false ? [] : [name]))
  return progress =>
    createForeign(type, { ...options, blobDataSize: values.blobDataSize, refused: given }, progress)
}

function checkId(id: string, version: '5' | '6'): void {
  const limit = version === '6' ? V6_ID : V5_ID
  if (id.length > limit)
    throw usage(`--blob-id has ${id.length} characters, ${limit} are the limit of RAFS v${version}`)
  checkBlobId(id)
}

/** The words are those of the reference builder: callers compare them. */
function checkBlobCache(values: Values): void {
  if (values.type !== 'dir-rafs' && values.type !== 'directory' && !/^tar(gz)?-rafs$/.test(values.type))
    throw usage(`conversion type \`${values.type}\` conflicts with \`--blob-cache-dir\``)
}

async function externalOf(path: string, values: Values): Promise<CreateOptions['external']> {
  if (values.blobCacheDir !== undefined) throw usage('--attributes cannot be used with --blob-cache-dir')
  const bytes = await readFile(path).catch((error: unknown) => {
    throw new NydusError('BUILD_ATTRIBUTES', 'EIO', `cannot read --attributes ${path}: ${explain(error)}`)
  })
  const rules = (await import('../../lib/build/attributes.js')).Attributes.parse(path, bytes)
  if (values.externalBlob !== undefined) return { rules, blob: { file: values.externalBlob } }
  if (values.blobDir !== undefined) return { rules, blob: { folder: values.blobDir } }
  throw usage('the data of external files has no place to go: give --external-blob, or --blob-dir')
}

async function optionsOf(source: string, values: Values): Promise<CreateOptions> {
  const type = TYPES[values.type]
  if (type === undefined) throw usage(`--type ${values.type} is not known`)
  if (values.blobInlineMeta !== true && values.bootstrap === undefined && values.blobDir === undefined)
    throw usage('the metadata has no place to go: give --bootstrap, or --blob-dir, or --blob-inline-meta')
  if (values.blobCacheDir !== undefined) checkBlobCache(values)
  if (values.encrypt === true && values.fsVersion === '5') throw usage('--encrypt needs --fs-version 6')
  if (values.batchSize > 0 && values.fsVersion === '5') throw usage('--batch-size needs --fs-version 6')
  if (values.batchSize > values.chunkSize)
    throw usage(`--batch-size ${values.batchSize} is larger than --chunk-size ${values.chunkSize}`)
  if (values.blobId !== undefined) checkId(values.blobId, values.fsVersion)
  if (values.blobDir !== undefined && !(await stat(values.blobDir).catch(() => undefined))?.isDirectory())
    throw new NydusError('BUILD_OUTPUT', 'ENOENT', `--blob-dir ${values.blobDir} is not a folder`)
  return {
    type,
    source,
    version: values.fsVersion === '5' ? 5 : 6,
    compressor: values.blobCacheDir === undefined ? values.compressor : 'none',
    digester: values.digester,
    chunkSize: values.chunkSize,
    batchSize: values.batchSize,
    alignedChunk: values.alignedChunk === true,
    whiteoutSpec: values.whiteoutSpec,
    toc: values.features === 'blob-toc',
    inlineMeta: values.blobInlineMeta === true,
    encrypt: values.encrypt === true,
    prefetchPolicy: values.prefetchPolicy,
    prefetchPaths: values.prefetchPolicy === 'none' ? [] : await stdinLines(),
    blobId: values.blobId,
    blob:
      values.blobCacheDir !== undefined
        ? { file: '/dev/null' }
        : values.blob !== undefined
          ? { file: values.blob }
          : { folder: values.blobDir ?? '.' },
    bootstrap:
      values.blobInlineMeta === true
        ? undefined
        : values.bootstrap !== undefined
          ? { file: values.bootstrap }
          : { folder: values.blobDir ?? '.' },
    parent: values.parentBootstrap,
    chunkDict: values.chunkDict,
    blobCacheDir: values.blobCacheDir,
    blobOffset: values.blobOffset,
    external: values.attributes === undefined ? undefined : await externalOf(values.attributes, values),
  }
}
