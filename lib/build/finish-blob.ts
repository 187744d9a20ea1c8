/**
 * Ends a blob: everything that stands behind its chunks, in the order of rafs-v6.md §9, and the blob table entry that
 * describes it. An inlined bootstrap stands in the blob whose table entry it contains, so the entry is settled first.
 */
import { BLOB_FEATURE, type Compressor, type Digester } from '../cache/cache.js'
import { TOC_COMPRESSION, TOC_NAME } from '../rafs/layout/v6.js'
import type { BlobSink } from './blob-sink.js'
import { DIGEST_SIZE, type Chunks } from './chunks.js'
import { ciHeader, ciTable } from './ci-table.js'
import type { BlobCipher } from './cipher.js'
import { compressIfSmaller } from './compress.js'
import type { BuiltBlob } from './image.js'
import { Sections, tocCompression } from './sections.js'

/** What a blob's chunks are and where they lie. */
export interface BlobContent {
  /** Rows of the blob's own chunks, by chunk index. */
  readonly rows: readonly number[]
  /** Bytes of the plain blob. */
  readonly uncompressedSize: number
  /** BLOB_FEATURE bits that the content asks for. */
  readonly features: number
  readonly windowCount: number
  /** Batch windows, or zran windows with their dictionaries, as they stand in the chunk information. */
  windowTable(): Uint8Array
  /** The file that holds the data, when it is another one than this blob (SEPARATE); its name and bytes. */
  readonly foreign?: { readonly id: string; readonly size: number }
}

export interface BlobSettings {
  readonly version: 5 | 6
  readonly compressor: Compressor
  readonly digester: Digester
  readonly aligned: boolean
  /** `--features blob-toc`. */
  readonly toc: boolean
  /** `--blob-inline-meta`. */
  readonly inlineMeta: boolean
  /** Kept in another storage than the image's own blob. */
  readonly external?: boolean
  readonly cipher: BlobCipher | undefined
  readonly readaheadSize: number
  /** Gets the plain chunk information of a v6 blob: the table and its header. */
  readonly chunkInfo?: (table: Uint8Array, header: Uint8Array) => Promise<void>
}

export interface FinishedBlob {
  /** sha256 of the blob as the format defines it: without the bytes of blob.digest. */
  readonly id: string
  readonly blob: BuiltBlob
}

function featuresOf(settings: BlobSettings, content: BlobContent): number {
  const sections = settings.toc || settings.inlineMeta
  let features = BLOB_FEATURE.CAP_TAR_TOC
  if (settings.aligned) features |= BLOB_FEATURE.ALIGNED
  if (settings.inlineMeta) features |= BLOB_FEATURE.INLINED_FS_META
  if (sections) features |= BLOB_FEATURE.HAS_TAR_HEADER
  if (settings.external === true) features |= BLOB_FEATURE.EXTERNAL
  if (settings.version === 5) return features
  if (settings.toc) features |= BLOB_FEATURE.HAS_TOC | BLOB_FEATURE.INLINED_CHUNK_DIGEST
  features |= content.features
  if (settings.cipher !== undefined) features |= BLOB_FEATURE.ENCRYPTED | BLOB_FEATURE.CHUNK_INFO_V2
  return features >>> 0
}

/**
 * `bootstrap` makes the image's metadata from the blob's entry, for an inlined one; a blob without chunks has no
 * entry (`blob` undefined) and holds nothing but that.
 */
export async function finishBlob(
  sink: BlobSink,
  writer: BlobContent,
  chunks: Chunks,
  settings: BlobSettings,
  bootstrap: ((blob: BuiltBlob | undefined) => Uint8Array) | undefined,
): Promise<FinishedBlob> {
  const { compressor, cipher } = settings
  const hasData = writer.rows.length > 0
  const sections = new Sections(sink)
  const features = featuresOf(settings, writer)
  const wantsSections = settings.toc || settings.inlineMeta
  let ci: BuiltBlob['ci'] = { compressor: 'none', offset: 0, compressedSize: 0, uncompressedSize: 0 }
  if (hasData) {
    if (wantsSections && writer.foreign === undefined)
      await sections.endData(TOC_COMPRESSION.NONE, writer.uncompressedSize)
    if (settings.version === 6) ci = await writeCi(sink, writer, chunks, settings, features, sections)
    if (settings.toc && settings.version === 6) {
      const digests = new Uint8Array(writer.rows.length * DIGEST_SIZE)
      writer.rows.forEach((row, i) => chunks.copyDigest(row, digests, i * DIGEST_SIZE))
      sections.note(TOC_NAME.BLOB_DIGEST, TOC_COMPRESSION.NONE, digests, sink.offset, digests.length)
      await sink.write(digests, false)
      await sections.header(TOC_NAME.BLOB_DIGEST, digests.length)
    }
  }
  const base = {
    id: '',
    chunkCount: writer.rows.length,
    features,
    compressor,
    digester: settings.digester,
    uncompressedSize: writer.uncompressedSize,
    ci,
    readaheadSize: settings.readaheadSize,
    ...(cipher === undefined ? {} : { cipher: { key: cipher.key, iv: cipher.iv } }),
  }
  const { foreign } = writer
  let blob: BuiltBlob =
    foreign === undefined
      ? { ...base, compressedSize: sink.offset }
      : { ...base, id: foreign.id, compressedSize: foreign.size }
  if (bootstrap !== undefined) {
    const plain = bootstrap(hasData ? blob : undefined)
    const packed = settings.toc ? compressIfSmaller('zstd', plain) : { bytes: plain, compressed: false }
    const compression = packed.compressed ? TOC_COMPRESSION.ZSTD : TOC_COMPRESSION.NONE
    sections.note(TOC_NAME.BOOTSTRAP, compression, plain, sink.offset, packed.bytes.length)
    await sink.write(packed.bytes)
    await sections.header(TOC_NAME.BOOTSTRAP, packed.bytes.length)
  }
  if (settings.toc && settings.version === 6) {
    const toc = await sections.finish()
    if (bootstrap === undefined)
      blob = { ...blob, ...(foreign === undefined && { compressedSize: sink.offset }), toc }
  }
  if (foreign !== undefined && bootstrap === undefined)
    blob = { ...blob, meta: { digest: Buffer.from(sink.digest(), 'hex'), size: sink.offset } }
  return { id: sink.digest(), blob }
}

async function writeCi(
  sink: BlobSink,
  writer: BlobContent,
  chunks: Chunks,
  settings: BlobSettings,
  features: number,
  sections: Sections,
): Promise<BuiltBlob['ci']> {
  const windows = writer.windowTable()
  const table = ciTable(chunks, writer.rows, windows, features)
  // gzip is what others made; nothing here writes it.
  const compressor = settings.compressor === 'gzip' ? 'zstd' : settings.compressor
  const packed = compressIfSmaller(compressor, table)
  const seal = (bytes: Uint8Array): Uint8Array => settings.cipher?.encrypt(bytes) ?? bytes
  const stored = seal(packed.bytes)
  const ci = {
    compressor: packed.compressed ? compressor : ('none' as const),
    offset: sink.offset,
    compressedSize: stored.length,
    uncompressedSize: table.length,
  }
  await sink.write(stored)
  const header = ciHeader({
    ...ci,
    features,
    entries: writer.rows.length,
    windows: writer.windowCount,
    windowBytes: windows.length,
  })
  sections.note(TOC_NAME.BLOB_META, tocCompression(ci.compressor), table, ci.offset, stored.length)
  sections.note(TOC_NAME.BLOB_META_HEADER, TOC_COMPRESSION.NONE, header, sink.offset, header.length)
  await sink.write(seal(header))
  await settings.chunkInfo?.(table, header)
  if (settings.toc || settings.inlineMeta)
    await sections.header(TOC_NAME.BLOB_META, stored.length + header.length)
  return ci
}
