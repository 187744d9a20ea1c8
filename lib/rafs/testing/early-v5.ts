/** Bootstraps of version 5 as they were in 2020, made of one of today by taking away what came later. */
import { RAFS_FLAG } from '../layout/flags.js'
import {
  ChunkV5,
  InodeV5,
  InodeV5Early,
  SuperblockV5,
  V5_CHUNK_FLAG,
  V5_INODE_FLAG,
  V5_SLOT_SIZE,
} from '../layout/v5.js'

/** Offsets of all inode records of a v5 bootstrap. */
export function records(bytes: Uint8Array): number[] {
  const sb = SuperblockV5.read(bytes)
  const view = new DataView(bytes.buffer)
  return Array.from(
    { length: sb.inodeTableEntries },
    (_, i) => view.getUint32(Number(sb.inodeTableOffset) + i * V5_SLOT_SIZE, true) * 8,
  )
}

/** Where the chunk records of a file are; undefined for everything else. */
export function chunksOf(bytes: Uint8Array, record: number): { at: number; count: number } | undefined {
  const view = new DataView(bytes.buffer)
  const { mode, nameSize, symlinkSize, flags, childCount } = InodeV5.read(bytes, record)
  if ((mode & 0o170000) !== 0o100000) return undefined
  const align = (size: number) => Math.ceil(size / 8) * 8
  let at = record + InodeV5.size + align(nameSize) + align(symlinkSize)
  if ((flags & BigInt(V5_INODE_FLAG.XATTR)) !== 0n) at += 8 + align(view.getUint32(at, true))
  return { at, count: childCount }
}

/** Changes it to one of the image-service of October 2020 (rafs-v5.md §10, first row). */
export function october2020(bytes: Uint8Array): Uint8Array {
  const sb = SuperblockV5.read(bytes)
  for (const record of records(bytes)) {
    const inode = InodeV5.read(bytes, record)
    const chunks = chunksOf(bytes, record)
    const directory = (inode.mode & 0o170000) === 0o040000
    const old = { ...inode, rdev: 0, mtime: 0n, mtimeNs: 0, nlink: directory ? 1 : inode.nlink }
    InodeV5.write(bytes, old, record)
    const { at: first, count } = chunks ?? { at: 0, count: 0 }
    for (let k = 0; k < count; k++) {
      const at = first + k * ChunkV5.size
      const chunk = ChunkV5.read(bytes, at)
      ChunkV5.write(
        bytes,
        { ...chunk, index: 0, crc32: 0, flags: chunk.flags & V5_CHUNK_FLAG.COMPRESSED },
        at,
      )
    }
  }
  const gone = { extBlobTableEntries: 0, extBlobTableOffset: 0n }
  SuperblockV5.write(bytes, { ...sb, inodeCount: sb.inodeCount - 1n, ...gone })
  return bytes
}

/** Before uid and gid (second row). */
export function middle2020(whole: Uint8Array): Uint8Array {
  const bytes = october2020(whole)
  const round = (size: number) => Math.ceil(size / 8) * 8
  for (const record of records(bytes)) {
    const { nlink, nameSize, symlinkSize, ...inode } = InodeV5.read(bytes, record)
    const { digest, parent, ino, mode, size, blocks, flags, childIndex, childCount } = inode
    const same = { digest, parent, ino, mode, size, blocks, flags, childIndex, childCount }
    const sizes = { nameSize: round(nameSize), symlinkSize: round(symlinkSize) }
    InodeV5Early.write(bytes, { ...same, nlink: BigInt(nlink), ...sizes }, record)
  }
  const sb = SuperblockV5.read(bytes)
  const flags =
    sb.flags & ~BigInt(RAFS_FLAG.DIGEST_BLAKE3 | RAFS_FLAG.DIGEST_SHA256 | RAFS_FLAG.EXPLICIT_UIDGID)
  SuperblockV5.write(bytes, { ...sb, flags })
  return bytes
}
