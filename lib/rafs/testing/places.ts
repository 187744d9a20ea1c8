/** Where the structs of an intact image lie: what damage that knows the format aims at. */
import type { OpenedBytes } from './fixtures.js'
import type { Table } from './damage.js'
import { ChunkV5, ExtBlobEntryV5, InodeV5, SuperblockV5, XattrAreaV5, XattrPairV5 } from '../layout/v5.js'
import { V5_INODE_FLAG, V5_SLOT_SHIFT, V5_SLOT_SIZE } from '../layout/v5.js'
import {
  BlobEntryV6,
  ChunkIndexV6,
  DeviceSlotV6,
  DirentV6,
  ExtSuperblockV6,
  InodeCompactV6,
  InodeExtendedV6,
  SuperblockV6,
  V6_EXT_SUPERBLOCK_OFFSET,
  V6_FORMAT_EXTENDED,
  V6_FORMAT_LAYOUT_SHIFT,
  V6_LAYOUT,
  V6_NID_SIZE,
  V6_SUPERBLOCK_OFFSET,
  V6_XATTR_ALIGNMENT,
  XattrEntryV6,
  XattrHeaderV6,
} from '../layout/v6.js'
import { S_IFDIR, S_IFMT } from '../layout/flags.js'
import type { SuperV5 } from '../super-v5.js'
import type { SuperV6 } from '../super-v6.js'
import { walk } from '../walk.js'

export interface Place {
  readonly table: Table
  /** Byte of the bootstrap at which the struct begins. */
  readonly start: number
}

/** Elements of an array that are aimed at: the first ones. */
const FIRST = 8

export function placesOf(bytes: Uint8Array, { sb, reader }: OpenedBytes): Place[] {
  const inos = new Set([...walk(reader, reader.rootIno, Buffer.from('/'))].map(({ ino }) => ino))
  const places =
    sb.version === 5
      ? [...tablesV5(sb), ...[...inos].flatMap(ino => inodeV5(bytes, sb, ino))]
      : [...tablesV6(sb), ...[...inos].flatMap(nid => inodeV6(bytes, sb, nid))]
  return places.filter(({ table, start }) => start + sizeOf(table) <= bytes.length)
}

function sizeOf(table: Table): number {
  return Math.max(...Object.values(table.at)) + MAX_WIDTH
}
const MAX_WIDTH = 8

function align(value: number, to: number): number {
  return Math.ceil(value / to) * to
}

function several(table: Table & { readonly size: number }, start: number, count: number): Place[] {
  return Array.from({ length: Math.min(count, FIRST) }, (_, i) => ({ table, start: start + i * table.size }))
}

function tablesV5(sb: SuperV5): Place[] {
  return [
    { table: SuperblockV5, start: 0 },
    ...several(ExtBlobEntryV5, sb.facts.extended_blob_table_offset, sb.facts.extended_blob_table_entries),
  ]
}

/** rafs-v5: inode, name, symlink target, xattrs, chunk records, each padded to 8. */
function inodeV5(bytes: Uint8Array, sb: SuperV5, ino: number): Place[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const start = view.getUint32(sb.inodeTableOffset + (ino - 1) * V5_SLOT_SIZE, true) * 2 ** V5_SLOT_SHIFT
  const inode = InodeV5.read(bytes, start)
  const places: Place[] = [{ table: InodeV5, start }]
  let at = start + InodeV5.size + align(inode.nameSize, 8) + align(inode.symlinkSize, 8)
  if ((inode.flags & BigInt(V5_INODE_FLAG.XATTR)) !== 0n) {
    places.push({ table: XattrAreaV5, start: at }, { table: XattrPairV5, start: at + XattrAreaV5.size })
    at += XattrAreaV5.size + align(Number(XattrAreaV5.read(bytes, at).total), 8)
  }
  if ((inode.mode & S_IFMT) !== S_IFDIR) places.push(...several(ChunkV5, at, inode.childCount))
  return places
}

function tablesV6(sb: SuperV6): Place[] {
  const { facts } = sb
  return [
    { table: SuperblockV6, start: V6_SUPERBLOCK_OFFSET },
    { table: ExtSuperblockV6, start: V6_EXT_SUPERBLOCK_OFFSET },
    ...several(DeviceSlotV6, facts.blob_device_table_offset, facts.blob_device_table_count),
    ...several(BlobEntryV6, facts.blob_table_offset, facts.blob_device_table_count),
    ...several(ChunkV5, sb.chunkTableOffset, sb.chunkTableSize / ChunkV5.size),
  ]
}

/** rafs-v6: inode, xattrs, then chunk indexes or the last block of a folder. */
function inodeV6(bytes: Uint8Array, sb: SuperV6, nid: number): Place[] {
  const start = sb.metaOffset + nid * V6_NID_SIZE
  const compact = InodeCompactV6.read(bytes, start)
  const extended = (compact.format & V6_FORMAT_EXTENDED) !== 0
  const table = extended ? InodeExtendedV6 : InodeCompactV6
  const { format, xattrIcount, u } = table.read(bytes, start)
  const places: Place[] = [{ table, start }]
  let at = start + table.size
  if (xattrIcount > 0) {
    places.push({ table: XattrHeaderV6, start: at }, { table: XattrEntryV6, start: at + XattrHeaderV6.size })
    at += XattrHeaderV6.size + V6_XATTR_ALIGNMENT * (xattrIcount - 1)
  }
  const dataLayout = format >> V6_FORMAT_LAYOUT_SHIFT
  if (dataLayout === V6_LAYOUT.CHUNKED)
    places.push(...several(ChunkIndexV6, align(at, ChunkIndexV6.size), FIRST))
  else if (dataLayout === V6_LAYOUT.INLINE) places.push(...several(DirentV6, at, FIRST))
  if (dataLayout === V6_LAYOUT.PLAIN) places.push(...several(DirentV6, u * sb.blockSize, FIRST))
  return places
}
