/** What tests want to know of an image in memory. */
import {
  InodeV5,
  SuperblockV5,
  V5_ALIGNMENT,
  V5_INODE_FLAG,
  V5_SLOT_SHIFT,
  V5_SLOT_SIZE,
  XattrAreaV5,
} from '../../rafs/layout/v5.js'
import {
  InodeExtendedV6,
  SuperblockV6,
  V6_BLOCK_SIZE,
  V6_NID_SIZE,
  V6_SUPERBLOCK_OFFSET,
  V6_XATTR_ALIGNMENT,
  XattrHeaderV6,
} from '../../rafs/layout/v6.js'
import type { RafsImage } from '../../rafs/image.js'
import { Names, Pieces } from '../load-image.js'

/** Names and values (hex) of an inode's xattrs, sorted. */
export function xattrsOf(image: RafsImage, ino: number): string[] {
  const names = new Names()
  image.reader.listxattr(ino, names)
  return Buffer.concat(names.parts)
    .toString('latin1')
    .split('\0')
    .filter(key => key !== '')
    .map(key => {
      const name = Buffer.from(key, 'latin1')
      const pieces = new Pieces()
      image.reader.getxattr(ino, name, 0, name.length, pieces)
      return `${key} ${Buffer.concat(pieces.list.map(({ offset, length }) => image.bytes(offset, length))).toString('hex')}`
    })
    .toSorted()
}

function padded(n: number): number {
  return Math.ceil(n / V5_ALIGNMENT) * V5_ALIGNMENT
}

/** Fills every xattr area of the bootstrap `bytes` with zeros. `inos`: all inodes of a v6 one. */
export function blankXattrs(bytes: Uint8Array, version: 5 | 6, inos: Iterable<number>): void {
  if (version === 6) {
    const meta = SuperblockV6.read(bytes, V6_SUPERBLOCK_OFFSET).metaBlkaddr * V6_BLOCK_SIZE
    for (const ino of inos) {
      const at = meta + ino * V6_NID_SIZE
      const { xattrIcount } = InodeExtendedV6.read(bytes, at)
      if (xattrIcount === 0) continue
      const start = at + InodeExtendedV6.size
      bytes.fill(0, start, start + XattrHeaderV6.size + (xattrIcount - 1) * V6_XATTR_ALIGNMENT)
    }
    return
  }
  const { inodeTableOffset, inodeTableEntries } = SuperblockV5.read(bytes)
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  for (let i = 0; i < inodeTableEntries; i++) {
    const at = view.getUint32(Number(inodeTableOffset) + i * V5_SLOT_SIZE, true) * 2 ** V5_SLOT_SHIFT
    const { flags, nameSize, symlinkSize } = InodeV5.read(bytes, at)
    if ((Number(flags) & V5_INODE_FLAG.XATTR) === 0) continue
    const area = at + InodeV5.size + padded(nameSize) + padded(symlinkSize)
    const content = area + XattrAreaV5.size
    bytes.fill(0, content, content + Number(XattrAreaV5.read(bytes, area).total))
  }
}

/** Fills the nanoseconds of every mtime of a v6 bootstrap with zeros. */
export function blankNanoseconds(bytes: Uint8Array, inos: Iterable<number>): void {
  const meta = SuperblockV6.read(bytes, V6_SUPERBLOCK_OFFSET).metaBlkaddr * V6_BLOCK_SIZE
  for (const ino of inos) {
    const at = meta + ino * V6_NID_SIZE
    InodeExtendedV6.write(bytes, { ...InodeExtendedV6.read(bytes, at), mtimeNs: 0 }, at)
  }
}
