import t from 'tap'
import { NydusError } from '../base/errors.js'
import { BLOB_FEATURE } from '../cache/cache.js'
import { Bootstrap } from './bootstrap.js'
import {
  BlobEntryV6,
  ExtSuperblockV6,
  SuperblockV6,
  V6_EXT_SUPERBLOCK_OFFSET,
  V6_SUPERBLOCK_OFFSET,
} from './layout/v6.js'
import { ExtBlobEntryV5, SuperblockV5 } from './layout/v5.js'
import { readSuper } from './super.js'
import { changed, type Table } from './testing/damage.js'
import { bytesOf, memoryOf } from './testing/fixtures.js'
import { fixtureNamed } from '../../vm-tests/fixtures.js'

const V5 = bytesOf(fixtureNamed('v5-lz4-blake3').bootstrap)
const V6 = bytesOf(fixtureNamed('v6-zstd-blake3').bootstrap)

function open(bytes: Uint8Array, name = '/images/boot') {
  const memory = memoryOf(bytes)
  return readSuper(new Bootstrap(memory, memory.byteLength, name), 'stem')
}

const v5 = open(V5)
const v6 = open(V6)
const BLOB = v6.facts.blob_table_offset
const EXT_BLOB = v5.facts.extended_blob_table_offset
const FLAGS5 = BigInt(v5.facts.flags.bits)
const FLAGS6 = BigInt(v6.facts.flags.bits)
const FEATURES = BigInt(v6.blobs[0]?.features ?? 0)

type Case = readonly [field: string, value: bigint, code: string, message: RegExp]

const CASES: readonly (readonly [
  what: string,
  base: Uint8Array,
  table: Table,
  start: number,
  cases: readonly Case[],
])[] = [
  [
    'v5 superblock',
    V5,
    SuperblockV5,
    0,
    [
      ['magic', 0n, 'RAFS_NOT_BOOTSTRAP', /magic 0x00000000 at 0 .* `nydus-image create`/],
      ['version', 0x400n, 'RAFS_BAD_VERSION', /version is 0x400, wanted 0x500/],
      ['superblockSize', 4096n, 'RAFS_BAD_SUPERBLOCK', /superblock size is 4096/],
      ['blockSize', 0n, 'RAFS_BAD_SUPERBLOCK', /chunk size 0 is not/],
      ['blockSize', 2048n, 'RAFS_BAD_SUPERBLOCK', /chunk size 2048/],
      ['blockSize', 0x100001n, 'RAFS_BAD_SUPERBLOCK', /power of two/],
      ['blockSize', 32n << 20n, 'RAFS_BAD_SUPERBLOCK', /chunk size 33554432/],
      ['flags', FLAGS5 | 0x100n, 'RAFS_UNKNOWN_FLAGS', /0x100\); it needs a newer reader/],
      ['flags', FLAGS5 | (1n << 40n), 'RAFS_UNKNOWN_FLAGS', /newer reader/],
      ['flags', FLAGS5 | 0x1n, 'RAFS_BAD_SUPERBLOCK', /2 compressors/],
      ['flags', FLAGS5 & ~0x2n, 'RAFS_BAD_SUPERBLOCK', /0 compressors/],
      ['flags', FLAGS5 | 0xcn, 'RAFS_BAD_SUPERBLOCK', /both digesters/],
      ['flags', 2n ** 64n - 1n, 'RAFS_BAD_SUPERBLOCK', /flags is 18446744073709551615/],
      ['inodeCount', 1n << 40n, 'RAFS_BAD_SUPERBLOCK', /1099511627776 inodes in an inode table of 413/],
      ['inodeTableEntries', 0n, 'RAFS_BAD_SUPERBLOCK', /inode table of 0 entries/],
      ['inodeTableEntries', 0xffff_ffffn, 'RAFS_TRUNCATED', /inode table takes 17179869180 bytes/],
      ['inodeTableOffset', 8196n, 'RAFS_BAD_TABLE', /inode table starts at 8196, not at a multiple of 8/],
      ['inodeTableOffset', 4096n, 'RAFS_BAD_TABLE', /inside the superblock/],
      ['inodeTableOffset', BigInt(V5.length), 'RAFS_TRUNCATED', /inode table takes/],
      ['inodeTableOffset', 2n ** 64n - 8n, 'RAFS_BAD_SUPERBLOCK', /inode table offset is/],
      ['prefetchTableEntries', 1000n, 'RAFS_BAD_TABLE', /prefetch table and blob table overlap/],
      [
        'blobTableOffset',
        BigInt(v5.facts.blob_table_offset - 8),
        'RAFS_BAD_TABLE',
        /inode table and blob table overlap/,
      ],
      ['blobTableSize', 0x7fff_fff8n, 'RAFS_TRUNCATED', /blob table takes/],
      ['extBlobTableEntries', 2n, 'RAFS_BAD_TABLE', /2 entries for 1 blobs/],
      ['extBlobTableOffset', BigInt(V5.length + 8), 'RAFS_TRUNCATED', /extended blob table/],
    ],
  ],
  [
    'v5 extended blob table',
    V5,
    ExtBlobEntryV5,
    EXT_BLOB,
    [
      ['features', 0x4000_1000n, 'RAFS_UNKNOWN_FLAGS', /of which 0x1000 are unknown/],
      ['uncompressedSize', 2n ** 45n, 'RAFS_BAD_BLOB', /more than 2\^40/],
      ['compressedSize', 2n ** 64n - 1n, 'RAFS_BAD_BLOB', /more than 2\^40/],
    ],
  ],
  [
    'v6 superblock',
    V6,
    SuperblockV6,
    V6_SUPERBLOCK_OFFSET,
    [
      ['magic', 0xe0f5e1e3n, 'RAFS_NOT_BOOTSTRAP', /0xe0f5e1e3 at 1024/],
      ['checksum', 1n, 'RAFS_BAD_SUPERBLOCK', /checksum is 1/],
      ['featureCompat', 3n, 'RAFS_BAD_VERSION', /EROFS image, but not a RAFS v6/],
      ['blkszbits', 9n, 'RAFS_BAD_SUPERBLOCK', /blkszbits is 9, wanted 12/],
      ['extslots', 1n, 'RAFS_BAD_SUPERBLOCK', /extslots/],
      ['inos', 0n, 'RAFS_BAD_SUPERBLOCK', /inos is 0/],
      ['xattrBlkaddr', 1n, 'RAFS_BAD_SUPERBLOCK', /xattr_blkaddr/],
      ['featureIncompat', 0x1cn, 'RAFS_BAD_SUPERBLOCK', /feature_incompat is 28, wanted 12/],
      ['extraDevices', 2n, 'RAFS_BAD_SUPERBLOCK', /extra_devices .* is 2, wanted 1/],
      ['devtSlotoff', 10n, 'RAFS_BAD_TABLE', /device table starts at 1280, inside the superblock/],
      ['devtSlotoff', 32n, 'RAFS_BAD_TABLE', /overlap/],
      ['metaBlkaddr', 0xffff_ffffn, 'RAFS_TRUNCATED', /root inode/],
      ['rootNid', 0xffffn, 'RAFS_TRUNCATED', /root inode/],
      ['metaBlkaddr', 0n, 'RAFS_BAD_TABLE', /root inode overlap|blob table and root inode/],
    ],
  ],
  [
    'v6 extended superblock',
    V6,
    ExtSuperblockV6,
    V6_EXT_SUPERBLOCK_OFFSET,
    [
      ['flags', FLAGS6 & ~0x4n, 'RAFS_BAD_SUPERBLOCK', /no digester/],
      ['flags', FLAGS6 | 0x400n, 'RAFS_UNKNOWN_FLAGS', /0x400/],
      ['flags', FLAGS6 | 0x3000000n, 'RAFS_BAD_SUPERBLOCK', /two ciphers/],
      ['flags', FLAGS6 | 0x200n, 'RAFS_BAD_SUPERBLOCK', /blkszbits is 12, wanted 9/],
      ['blobTableOffset', 4097n, 'RAFS_BAD_TABLE', /multiple of 4096/],
      ['blobTableOffset', 0n, 'RAFS_BAD_TABLE', /inside the superblock/],
      ['blobTableOffset', BigInt(v6.facts.chunk_table_offset), 'RAFS_BAD_TABLE', /overlap/],
      ['blobTableSize', 255n, 'RAFS_BAD_TABLE', /blob table has 255 bytes/],
      ['blobTableSize', 256n * 300n, 'RAFS_BAD_SUPERBLOCK', /extra_devices/],
      ['chunkSize', 0x8000_0000n, 'RAFS_BAD_SUPERBLOCK', /chunk size/],
      ['chunkTableOffset', 2n ** 63n, 'RAFS_BAD_SUPERBLOCK', /chunk table offset/],
      ['chunkTableSize', 81n, 'RAFS_BAD_TABLE', /chunk table has 81 bytes/],
      ['chunkTableSize', 80n * 2n ** 40n, 'RAFS_TRUNCATED', /chunk table takes/],
      ['prefetchTableSize', 6n, 'RAFS_BAD_TABLE', /prefetch table has 6/],
      ['prefetchTableSize', 8n, 'RAFS_BAD_TABLE', /prefetch table starts at 0, inside/],
    ],
  ],
  [
    'v6 blob table',
    V6,
    BlobEntryV6,
    BLOB,
    [
      ['blobId', 0x2fn, 'RAFS_BAD_BLOB', /blob 0: blob id .* refused/],
      ['blobId', 0n, 'RAFS_BAD_BLOB', /blob id "" is refused/],
      ['blobIndex', 1n, 'RAFS_BAD_BLOB', /index field is 1/],
      ['chunkSize', 4096n, 'RAFS_BAD_BLOB', /the superblock says 1048576/],
      ['chunkCount', 0x0100_0001n, 'RAFS_BAD_BLOB', /16777217 chunks/],
      ['chunkCount', 1n, 'RAFS_BAD_BLOB', /chunk information has 5296 bytes for 1 chunks/],
      ['compressor', 4n, 'RAFS_BAD_BLOB', /compressor 4/],
      ['digester', 2n, 'RAFS_BAD_BLOB', /digester 2/],
      ['features', FEATURES | 0x2000n, 'RAFS_UNKNOWN_FLAGS', /0x2000 are unknown/],
      ['features', FEATURES & ~1n, 'RAFS_BAD_BLOB', /ALIGNED must be set/],
      ['features', FEATURES | BigInt(BLOB_FEATURE.TARFS), 'RAFS_BAD_BLOB', /TARFS must be clear/],
      ['features', FEATURES | BigInt(BLOB_FEATURE.ENCRYPTED), 'RAFS_BAD_BLOB', /cipher 0 does not go/],
      ['compressedSize', 2n ** 41n, 'RAFS_BAD_BLOB', /2\^40/],
      ['uncompressedSize', 2n ** 64n - 1n, 'RAFS_BAD_BLOB', /2\^44/],
      ['ciCompressor', 9n, 'RAFS_BAD_BLOB', /compressor of the chunk information 9/],
      ['ciOffset', 2n ** 50n, 'RAFS_BAD_BLOB', /chunk information/],
      ['ciCompressedSize', 10_000n, 'RAFS_BAD_BLOB', /grows to only 5296/],
      ['ciUncompressedSize', 6000n, 'RAFS_BAD_BLOB', /chunk information has 6000/],
      ['cipher', 1n, 'RAFS_BAD_BLOB', /cipher 1/],
    ],
  ],
]

for (const [what, base, table, start, cases] of CASES)
  t.test(what, async t => {
    for (const [field, value, code, message] of cases)
      t.throws(
        () => open(changed(base, table, field, value, start)),
        { name: 'NydusError', code, message: new RegExp(`^/images/boot: (?:.*)(?:${message.source})`, 's') },
        `${field} = ${value}`,
      )
  })

t.test('reserved compatible flags are ignored', async t => {
  t.equal(open(changed(V5, SuperblockV5, 'flags', FLAGS5 | 0xfc00_0000n, 0)).version, 5)
  const bytes = changed(V6, ExtSuperblockV6, 'flags', FLAGS6 | 0xfc00_0000n, V6_EXT_SUPERBLOCK_OFFSET)
  t.equal(open(bytes).facts.flags.bits, Number(FLAGS6 | 0xfc00_0000n))
})

t.test('a file cut anywhere in its superblock or tables is refused with a sentence', async t => {
  const borders = (facts: typeof v5.facts) => [
    0,
    1,
    4,
    1024,
    1028,
    V6_EXT_SUPERBLOCK_OFFSET,
    V6_EXT_SUPERBLOCK_OFFSET + ExtSuperblockV6.size,
    8192,
    8193,
    facts.inode_table_offset,
    facts.blob_table_offset,
    facts.blob_table_offset + facts.blob_table_size,
    facts.extended_blob_table_offset,
    facts.blob_device_table_offset,
    facts.chunk_table_offset,
    facts.chunk_table_offset + facts.chunk_table_size,
  ]
  const tables = { 5: v5.facts.extended_blob_table_offset + ExtBlobEntryV5.size, 6: V6.length }
  for (const { bytes, facts, end } of [
    { bytes: V5, facts: v5.facts, end: tables[5] },
    { bytes: V6, facts: v6.facts, end: tables[6] },
  ])
    for (const border of borders(facts))
      for (const cut of [border - 1, border, border + 1]) {
        if (cut < 0 || cut >= end) continue
        t.throws(() => open(bytes.subarray(0, cut)), NydusError, `cut at ${cut}`)
      }
})
