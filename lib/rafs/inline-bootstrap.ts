/**
 * The bootstrap inside a self-contained blob: where it is (rafs-v6.md §9), and its bytes.
 *
 *     … · bootstrap (raw) · T(image.boot)
 *     … · bootstrap (raw or zstd) · T(image.boot) · TOC entries · T(rafs.blob.toc)
 *
 * Tar headers T stand behind their content, so the file is read from its end.
 */
import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { NydusError } from '../base/errors.js'
import { TarHeader, TOC_COMPRESSION, TOC_NAME, TocEntry } from './layout/v6.js'
import { MAX_BOOTSTRAP_SIZE } from './ref-v6.js'

export interface InlineBootstrap {
  readonly offset: number
  readonly storedSize: number
  readonly size: number
  readonly compression: 'none' | 'zstd'
  /** sha256 of the uncompressed bytes; only a table of contents tells. */
  readonly digest?: Uint8Array
}

/** Five kinds of entries exist; room for those of later builders. */
const MAX_TOC_ENTRIES = 64
const TAR_MAGIC = Buffer.from('ustar  \0', 'latin1')
/** Bytes read, decoded and written at a time. */
const PIECE = 256 << 10

/** Looks for a bootstrap at the end of a file of `size` bytes; undefined when there is none. `name` is for errors. */
export async function findInlineBootstrap(
  file: FileHandle,
  size: number,
  name: string,
): Promise<InlineBootstrap | undefined> {
  const last = await readTarHeader(file, size - TarHeader.size)
  if (last === undefined) return undefined
  const end = size - TarHeader.size - last.size
  if (last.name !== TOC_NAME.TOC && last.name !== TOC_NAME.BOOTSTRAP) return undefined
  if (end < 0)
    throw new NydusError(
      'RAFS_TRUNCATED',
      'EINVAL',
      `${name}: the section ${last.name} at its end claims ${last.size} bytes of a file of ${size}: it is truncated`,
    )
  if (last.name === TOC_NAME.BOOTSTRAP)
    return { offset: end, storedSize: last.size, size: last.size, compression: 'none' }
  if (last.size % TocEntry.size !== 0 || last.size > MAX_TOC_ENTRIES * TocEntry.size)
    throw new NydusError(
      'RAFS_BAD_TOC',
      'EINVAL',
      `${name}: a table of contents of ${last.size} bytes is damaged`,
    )
  const entries = await readAll(file, end, last.size)
  for (let at = 0; at < entries.length; at += TocEntry.size) {
    const entry = TocEntry.read(entries, at)
    if (text(entry.name) === TOC_NAME.BOOTSTRAP) return fromEntry(entry, end, name)
  }
  throw new NydusError(
    'RAFS_NOT_BOOTSTRAP',
    'EINVAL',
    `${name}: is a blob whose table of contents names no ${TOC_NAME.BOOTSTRAP}; name the bootstrap file that belongs to it`,
  )
}

function fromEntry(
  entry: ReturnType<typeof TocEntry.read>,
  tocOffset: number,
  name: string,
): InlineBootstrap {
  const offset = Number(entry.offset)
  const storedSize = Number(entry.storedSize)
  const size = Number(entry.uncompressedSize)
  const bad = (what: string) =>
    new NydusError('RAFS_BAD_TOC', 'EINVAL', `${name}: ${TOC_NAME.BOOTSTRAP} ${what}`)
  if (offset + storedSize > tocOffset)
    throw bad(`claims ${storedSize} bytes at ${offset}, behind the table of contents at ${tocOffset}`)
  if (size > MAX_BOOTSTRAP_SIZE || size === 0)
    throw bad(`claims ${size} bytes; 1 to ${MAX_BOOTSTRAP_SIZE} can be used`)
  const kind = entry.flags & 0xf
  if (kind !== TOC_COMPRESSION.NONE && kind !== TOC_COMPRESSION.ZSTD)
    throw bad(`has the unknown compression ${kind}`)
  const compression = kind === TOC_COMPRESSION.ZSTD ? 'zstd' : 'none'
  if (compression === 'none' && size !== storedSize)
    throw bad(`is stored raw in ${storedSize} bytes instead of ${size}`)
  return { offset, storedSize, size, compression, digest: entry.digest }
}

/** Writes the plain bootstrap to `target` and checks size and digest. Memory does not grow with it. */
export async function extractBootstrap(
  file: FileHandle,
  part: InlineBootstrap,
  target: FileHandle,
  name: string,
): Promise<void> {
  const hash = createHash('sha256')
  const decode = part.compression === 'zstd' ? await zstdDecoder() : undefined
  let written = 0
  const put = async (bytes: Uint8Array) => {
    if (written + bytes.length > part.size)
      throw new NydusError(
        'RAFS_BAD_TOC',
        'EINVAL',
        `${name}: its bootstrap has more bytes than the ${part.size} it claims`,
      )
    hash.update(bytes)
    await writeAll(target, bytes, written)
    written += bytes.length
  }
  for (let done = 0; done < part.storedSize;) {
    const piece = await readAll(file, part.offset + done, Math.min(PIECE, part.storedSize - done))
    done += piece.length
    if (decode === undefined) await put(piece)
    else
      try {
        for (const plain of decode(piece)) await put(plain)
      } catch (error) {
        if (error instanceof NydusError || (error instanceof Error && 'syscall' in error)) throw error
        throw new NydusError(
          'RAFS_BAD_TOC',
          'EINVAL',
          `${name}: its bootstrap is no zstd frame: it is damaged`,
          {
            cause: error,
          },
        )
      }
  }
  if (written !== part.size)
    throw new NydusError(
      'RAFS_TRUNCATED',
      'EINVAL',
      `${name}: its bootstrap has ${written} bytes instead of ${part.size}`,
    )
  if (part.digest !== undefined && !hash.digest().equals(part.digest))
    throw new NydusError(
      'RAFS_BAD_DIGEST',
      'EIO',
      `${name}: the sha256 of its bootstrap differs from its table of contents`,
    )
}

/** Whether the whole of `file` is this bootstrap. */
export async function isBootstrap(file: FileHandle, part: InlineBootstrap): Promise<boolean> {
  if (part.digest === undefined || (await file.stat()).size !== part.size) return false
  const hash = createHash('sha256')
  for (let done = 0; done < part.size;) {
    const piece = await readAll(file, done, Math.min(PIECE, part.size - done))
    hash.update(piece)
    done += piece.length
  }
  return hash.digest().equals(part.digest)
}

/** The low-level context, so that a small input that explodes is decoded piece by piece. Loaded when first needed. */
async function zstdDecoder(): Promise<(input: Uint8Array) => Generator<Uint8Array>> {
  const { default: binding } = await import('zstd-napi/binding.js')
  const context = new binding.DCtx()
  const output = new Uint8Array(PIECE)
  return function* (input) {
    let rest = input
    let produced = output.length
    // A full output buffer may mean that more is waiting inside the context.
    while (rest.length > 0 || produced === output.length) {
      const [, written, consumed] = context.decompressStream(output, rest)
      produced = written
      rest = rest.subarray(consumed)
      if (written > 0) yield output.subarray(0, written)
      else if (consumed === 0) break
    }
  }
}

/** Name and size of the tar header at `offset`; undefined when there is none. */
async function readTarHeader(
  file: FileHandle,
  offset: number,
): Promise<{ name: string; size: number } | undefined> {
  if (offset < 0) return undefined
  const bytes = await readAll(file, offset, TarHeader.size)
  const header = TarHeader.read(bytes)
  if (!TAR_MAGIC.equals(header.magic)) return undefined
  const { checksum } = TarHeader.at
  let sum = 0
  for (const [at, byte] of bytes.entries())
    sum += at >= checksum && at < checksum + header.checksum.length ? 0x20 : byte
  const size = octal(header.size)
  return octal(header.checksum) === sum && size !== undefined ? { name: text(header.name), size } : undefined
}

function octal(field: Uint8Array): number | undefined {
  const digits = text(field).trim()
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : undefined
}

/** ASCII up to the first NUL. */
function text(field: Uint8Array): string {
  const nul = field.indexOf(0)
  return Buffer.from(nul < 0 ? field : field.subarray(0, nul)).toString('latin1')
}

async function readAll(file: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  for (let done = 0; done < length;) {
    const { bytesRead } = await file.read(bytes, done, length - done, offset + done)
    if (bytesRead === 0)
      throw new NydusError(
        'RAFS_TRUNCATED',
        'EIO',
        `a read of ${length} bytes at ${offset} met the end of the file: it is being cut`,
      )
    done += bytesRead
  }
  return bytes
}

async function writeAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length;)
    done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten
}
