/** RAFS v6 blob table (rafs-v6.md §5). */
import type { StructOf } from '../base/layout.js'
import { BLOB_FEATURE, type BlobInfo, type Compressor } from '../cache/cache.js'
import { badImage, type Bootstrap } from './bootstrap.js'
import {
  BlobEntryV6,
  CiRecordV1,
  CiRecordV2,
  V6_CIPHER,
  V6_COMPRESSOR,
  V6_DIGESTER,
  V6_MAX_BLOBS,
  V6_MAX_CHUNKS,
  V6_SELF_BLOB_BYTE,
  ZranWindowV6,
} from './layout/v6.js'
import { checkedId, checkFeatures, MAX_COMPRESSED_SIZE } from './check.js'

interface BlobTable {
  readonly offset: number
  readonly count: number
  /** Of the extended superblock. */
  readonly chunkSize: number
  readonly tarfs: boolean
  /** Name of the bootstrap's file up to the first dot: id of a blob that holds its own bootstrap (§10). */
  readonly stem: string
}

type Entry = StructOf<(typeof BlobEntryV6)['fields']>

export function readBlobTableV6(boot: Bootstrap, table: BlobTable): BlobInfo[] {
  if (table.count > V6_MAX_BLOBS)
    throw badImage('RAFS_BAD_TABLE', boot, `blob table has ${table.count} blobs, more than ${V6_MAX_BLOBS}`)
  return Array.from({ length: table.count }, (_, blobIndex) => {
    const entry = BlobEntryV6.read(boot.bytes, table.offset + blobIndex * BlobEntryV6.size)
    return decode(entry, blobIndex, table, boot)
  })
}

function decode(entry: Entry, blobIndex: number, table: BlobTable, boot: Bootstrap): BlobInfo {
  const bad = (what: string) => badImage('RAFS_BAD_BLOB', boot, `blob ${blobIndex}: ${what}`)
  const { features, chunkCount } = entry
  const has = (bit: number) => (features & bit) !== 0
  if (entry.blobIndex !== blobIndex) throw bad(`its index field is ${entry.blobIndex}`)
  if (entry.chunkSize !== table.chunkSize)
    throw bad(`chunk size is ${entry.chunkSize}, the superblock says ${table.chunkSize}`)
  if (chunkCount > V6_MAX_CHUNKS) throw bad(`${chunkCount} chunks, more than ${V6_MAX_CHUNKS}`)
  const compressedSize = Number(entry.compressedSize)
  const uncompressedSize = Number(entry.uncompressedSize)
  checkFeatures(features, blobIndex, uncompressedSize, compressedSize, boot)
  if (has(BLOB_FEATURE.ALIGNED) === table.tarfs)
    throw bad(`features 0x${features.toString(16)}: ALIGNED must be ${table.tarfs ? 'clear' : 'set'}`)
  if (has(BLOB_FEATURE.TARFS) !== table.tarfs)
    throw bad(`features 0x${features.toString(16)}: TARFS must be ${table.tarfs ? 'set' : 'clear'}`)
  const digester = V6_DIGESTER[entry.digester]
  if (digester === undefined) throw bad(`digester ${entry.digester} is unknown`)
  const encrypted = has(BLOB_FEATURE.ENCRYPTED)
  if (entry.cipher !== (encrypted ? V6_CIPHER.AES_128_XTS : V6_CIPHER.NONE))
    throw bad(`cipher ${entry.cipher} does not go with features 0x${features.toString(16)}`)
  const separate = has(BLOB_FEATURE.SEPARATE)
  if (encrypted && separate) throw bad('features ENCRYPTED and SEPARATE exclude each other')
  const inlined = isSelf(entry.blobId)
  const id = checkedId(inlined && !separate ? table.stem : text(entry.blobId), blobIndex, boot)

  return {
    id,
    blobIndex,
    rafsVersion: 6,
    features,
    compressor: compressorOf(entry.compressor, 'compressor', bad),
    digester,
    chunkSize: entry.chunkSize,
    chunkCount,
    compressedSize,
    uncompressedSize,
    ci: decodeCi(entry, table.tarfs, bad),
    ...(separate && {
      metaBlobId: has(BLOB_FEATURE.INLINED_FS_META)
        ? checkedId(table.stem, blobIndex, boot)
        : Buffer.from(entry.metaDigestOrKey).toString('hex'),
    }),
    ...(encrypted && { cipher: { key: entry.metaDigestOrKey, iv: entry.metaSizeOrIv } }),
    ...(entry.tocSize !== 0 && { toc: { size: entry.tocSize, digest: entry.tocDigest } }),
  }
}

/** rafs-v6.md §5.2: the size of the table follows from the number of chunks. */
function decodeCi(entry: Entry, tarfs: boolean, bad: (what: string) => Error): BlobInfo['ci'] {
  const ci = {
    compressor: compressorOf(entry.ciCompressor, 'compressor of the chunk information', bad),
    offset: Number(entry.ciOffset),
    compressedSize: Number(entry.ciCompressedSize),
    uncompressedSize: Number(entry.ciUncompressedSize),
  }
  if (tarfs) return ci
  if (ci.offset > MAX_COMPRESSED_SIZE || ci.compressedSize > ci.uncompressedSize)
    throw bad(
      `chunk information of ${ci.compressedSize} bytes at ${ci.offset} grows to only ${ci.uncompressedSize}`,
    )
  const { CHUNK_INFO_V2, BATCH, ZRAN, ENCRYPTED, CHUNK_DICT_GENERATED } = BLOB_FEATURE
  if ((entry.features & CHUNK_DICT_GENERATED) !== 0) return ci
  const record = (entry.features & CHUNK_INFO_V2) !== 0 ? CiRecordV2.size : CiRecordV1.size
  const least = record * entry.chunkCount
  const open = (entry.features & CHUNK_INFO_V2) !== 0 && (entry.features & (BATCH | ZRAN | ENCRYPTED)) !== 0
  // Batch or zran windows follow the records, not more than chunks; a zran window has a dictionary of up to 32 KiB.
  const most = open ? least + (entry.chunkCount + 1) * (ZranWindowV6.size + 0x8000) : least
  if (ci.uncompressedSize < least || ci.uncompressedSize > most)
    throw bad(
      `chunk information has ${ci.uncompressedSize} bytes for ${entry.chunkCount} chunks of ${record} bytes each`,
    )
  return ci
}

function compressorOf(code: number, what: string, bad: (what: string) => Error): Compressor {
  const compressor = V6_COMPRESSOR[code]
  if (compressor === undefined) throw bad(`${what} ${code} is unknown`)
  return compressor
}

function isSelf(id: Uint8Array): boolean {
  return id.every(byte => byte === V6_SELF_BLOB_BYTE)
}

/** ASCII up to the first NUL. */
function text(id: Uint8Array): string {
  const nul = id.indexOf(0)
  return Buffer.from(nul < 0 ? id : id.subarray(0, nul)).toString('latin1')
}
