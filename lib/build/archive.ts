/** Opens a tar archive, whatever it is packed with: the name of a file says nothing of that, its first bytes do. */
import { ByteSource, type Bytes } from './byte-source.js'
import { GzipSource } from './gzip-source.js'
import { openSource } from './source-stream.js'
import { openZstd } from './zstd-source.js'

/** RFC 1952 §2.3.1, RFC 8878 §3.1.1. */
const GZIP_MAGIC = Buffer.from([0x1f, 0x8b])
const ZSTD_MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])

export interface RawArchive {
  readonly format: 'gzip' | 'zstd' | 'plain'
  /** All bytes of the file, in order. */
  readonly pieces: AsyncIterable<Buffer>
}

/** A file, FIFO or device: it is read once, from start to end. */
export async function openRaw(path: string): Promise<RawArchive> {
  const pieces = openSource(path, false)
  let head: Buffer = Buffer.alloc(0)
  // A FIFO may bring a byte at a time.
  while (head.length < ZSTD_MAGIC.length) {
    const next = await pieces.next()
    if (next.done === true) break
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value])
  }
  const startsWith = (magic: Buffer): boolean => head.subarray(0, magic.length).equals(magic)
  return {
    format: startsWith(GZIP_MAGIC) ? 'gzip' : startsWith(ZSTD_MAGIC) ? 'zstd' : 'plain',
    pieces: (async function* () {
      if (head.length > 0) yield head
      yield* pieces
    })(),
  }
}

/** The plain bytes of an archive. */
export async function openArchive(path: string): Promise<Bytes> {
  const { format, pieces } = await openRaw(path)
  if (format === 'gzip') return new GzipSource(path, pieces)
  return format === 'zstd' ? await openZstd(path, pieces) : new ByteSource(pieces)
}
