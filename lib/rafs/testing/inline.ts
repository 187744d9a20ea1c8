/** Blobs that hold their bootstrap. */
import { createHash } from 'node:crypto'
import { TarHeader, TOC_COMPRESSION, TOC_NAME, TocEntry } from '../layout/v6.js'
import { latin1 } from './sinks.js'

/** A section header, as it stands behind its content. */
export function tarHeader(name: string, size: number): Buffer {
  const header = Buffer.alloc(TarHeader.size)
  const field = (text: string) => latin1(text)
  const value = {
    name: field(name),
    size: field(size.toString(8).padStart(11, '0')),
    mtime: field('0'.repeat(11)),
    typeflag: 0x30,
    magic: field('ustar  '),
  }
  TarHeader.write(header, { ...value, checksum: field(' '.repeat(8)) })
  const sum = header.reduce((total, byte) => total + byte, 0)
  TarHeader.write(header, { ...value, checksum: field(sum.toString(8).padStart(7, '0')) })
  return header
}

/** data · bootstrap · T(image.boot) */
export function rawInline(data: Uint8Array, bootstrap: Uint8Array): Buffer {
  return Buffer.concat([data, bootstrap, tarHeader(TOC_NAME.BOOTSTRAP, bootstrap.length)])
}

/** data · stored · T(image.boot) · TOC · T(rafs.blob.toc); `stored` is the bootstrap, raw or one zstd frame. */
export function tocInline(
  data: Uint8Array,
  stored: Uint8Array,
  bootstrap: Uint8Array,
  flags: number,
): Buffer {
  const entry = Buffer.alloc(TocEntry.size)
  TocEntry.write(entry, {
    flags,
    name: latin1(TOC_NAME.BOOTSTRAP),
    digest: createHash('sha256').update(bootstrap).digest(),
    offset: BigInt(data.length),
    storedSize: BigInt(stored.length),
    uncompressedSize: BigInt(bootstrap.length),
    reserved2: latin1('garbage of old builders'),
  })
  const headers = [tarHeader(TOC_NAME.BOOTSTRAP, stored.length), entry, tarHeader(TOC_NAME.TOC, entry.length)]
  return Buffer.concat([data, stored, ...headers])
}

export { TOC_COMPRESSION }
