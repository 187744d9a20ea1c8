/** `nydus-image stat` (nydus-image.md 3): its text and its JSON. */
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Option, type Command } from 'commander'
import { NydusError } from '../../lib/base/errors.js'
import type { ImageStatistics, SharedChunks, Statistics } from '../../lib/image/statistics.js'
import type { Io } from '../program.js'

interface Values {
  readonly bootstrap?: string
  readonly blobDir?: string
  readonly target?: string
  readonly outputJson?: string
}

/** Rows of the table of thresholds. */
const THRESHOLDS = 20
const FIRST_CHUNK_BIT = 12

export function statCommand(program: Command, io: Io): void {
  program
    .command('stat')
    .description('Count what an image is made of, or what images have in common')
    .option('-B, --bootstrap <file>', 'one image')
    .option(
      '-D, --blob-dir <folder>',
      'all images whose bootstraps (or blobs with inlined metadata) are in a folder',
    )
    .option('-T, --target <file>', 'an image that could share the chunks of those')
    .addOption(
      new Option('--digester <name>', 'accepted: images say theirs')
        .choices(['blake3', 'sha256'])
        .default('blake3'),
    )
    .option('-C, --config <file>', 'accepted: no blob is read')
    .option('-J, --output-json <file>', 'write JSON there instead of text to standard output')
    .action(async (values: Values) => run(values, io))
}

async function bootstrapsIn(folder: string): Promise<string[]> {
  const { RafsImage } = await import('../../lib/rafs/image.js')
  const { reason } = await import('../../lib/daemon/reason.js')
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    throw new NydusError('STAT_FOLDER', 'ENOENT', `--blob-dir ${folder} cannot be read: ${reason(error)}`)
  })
  const out: string[] = []
  for (const name of entries
    .filter(entry => entry.isFile())
    .map(entry => entry.name)
    .sort()) {
    const path = join(folder, name)
    try {
      await (await RafsImage.open({ path, xattrs: false, validate: false })).close()
      out.push(path)
    } catch (error) {
      // Blobs without metadata lie there as well.
      if (!(error instanceof NydusError) || error.code !== 'RAFS_NOT_BOOTSTRAP') throw error
    }
  }
  if (out.length === 0) throw new NydusError('STAT_FOLDER', 'ENOENT', `no file in ${folder} is a bootstrap`)
  return out
}

async function run(values: Values, io: Io): Promise<void> {
  const { bootstrap, blobDir } = values
  if (bootstrap === undefined && blobDir === undefined)
    throw new NydusError('STAT_NO_IMAGE', 'EINVAL', 'one of `--bootstrap` and `--blob-dir` must be specified')
  const base = bootstrap !== undefined ? [bootstrap] : await bootstrapsIn(blobDir ?? '')
  const { statistics } = await import('../../lib/image/statistics.js')
  const { loadImage } = await import('../../lib/build/load-image.js')
  const several = bootstrap === undefined
  const found = await statistics(base, several, values.target, (path, chunks) => loadImage(path, chunks, 0))
  if (values.outputJson !== undefined) {
    await writeFile(values.outputJson, JSON.stringify(json(found, several, values.target !== undefined)))
    return
  }
  if (values.target !== undefined) io.stdout.write(text('Target', found.target))
  io.stdout.write(text('Base', found.base))
  if (several) io.stdout.write(thresholds(found.shared, found.base))
}

function json({ base, target }: Statistics, several: boolean, hasTarget: boolean): object {
  const part = (from: ImageStatistics): object => ({
    dirs: from.dirs,
    files: from.files,
    symlinks: from.symlinks,
    chunks: from.chunks,
    file_size: from.fileSize,
    comp_size: from.compSize,
    uncomp_size: from.uncompSize,
    padding_size: from.uncompSize - from.fileSize,
    chunk_sizes: from.chunkSizes,
    file_sizes: from.fileSizes,
    dedup_chunks: from.dedup.chunks,
    dedup_comp_size: from.dedup.compSize,
    dedup_uncomp_size: from.dedup.uncompSize,
    own_chunks: from.own.chunks,
    own_comp_size: from.own.compSize,
    own_uncomp_size: from.own.uncompSize,
    ref_chunks: from.ref.chunks,
    ref_comp_size: from.ref.compSize,
    ref_uncomp_size: from.ref.uncompSize,
  })
  return {
    dedup_enabled: several,
    target_enabled: hasTarget,
    base_image: part(base),
    target_image: part(target),
  }
}

/** Width of the names in front of the figures. */
const NAME = 24

function text(what: string, from: ImageStatistics): string {
  const line = (name: string, value: number): string => `${`${name}:`.padEnd(NAME)}${value}\n`
  const histogram = (counts: readonly number[], first: number): string =>
    counts.map((count, i) => `${i + first}:\t\t\t${count}\n`).join('')
  return (
    `${what} Image Statistics:\n\n` +
    line('Directories', from.dirs) +
    line('Files', from.files) +
    line('Symlinks', from.symlinks) +
    line('Chunks', from.chunks) +
    line('File Size', from.fileSize) +
    line('Padding Size', from.uncompSize - from.fileSize) +
    line('Uncompressed Size', from.uncompSize) +
    line('Compressed Size', from.compSize) +
    `\nFile Size Bits:\t\tFile Count:\n${histogram(from.fileSizes, 0)}` +
    `\nChunk Size Bits:\tChunk Count:\n${histogram(from.chunkSizes, FIRST_CHUNK_BIT)}\n` +
    `Raw Content Size:\t${from.fileSize}\nComp Content Size:\t${from.compSize}\nRaw Chunk Count:\t${from.chunks}\n` +
    `Dedup Comp Size:\t${from.dedup.compSize}\nDedup Uncomp Size:\t${from.dedup.uncompSize}\nDedup Chunk Count:\t${from.dedup.chunks}\n` +
    `Owned Comp Size:\t${from.own.compSize}\nOwned Uncomp Size:\t${from.own.uncompSize}\nOwned Chunk Count:\t${from.own.chunks}\n` +
    `Referenced Comp Size:\t${from.ref.compSize}\nReferenced Uncomp Size:\t${from.ref.uncompSize}\nReferenced Chunk Count:\t${from.ref.chunks}\n\n\n`
  )
}

function thresholds(shared: SharedChunks, base: ImageStatistics): string {
  const hex = (n: number): string => `0x${n.toString(16)}`.padEnd(16)
  const rows = Array.from({ length: THRESHOLDS }, (_, i) => {
    const { base: common, rest } = shared.split(i + 1)
    return (
      String(i + 1).padEnd(NAME) +
      hex(base.own.chunks) +
      hex(common.chunks + rest.chunks) +
      hex(base.own.compSize) +
      hex(common.compSize) +
      hex(rest.compSize) +
      hex(base.own.uncompSize) +
      hex(common.uncompSize) +
      hex(rest.uncompSize)
    )
  })
  return (
    'Chunk Deduplication Statistics:\nGlobal Dedup Thresh:\tRaw Chunks:\tDedup Chunks:\tComp Content Size:\tComp Base Size:\t' +
    `Comp Image Size:\tUncomp Content Size:\tUncomp Base Size\tUncomp Image Size\n${rows.join('\n')}\n`
  )
}
