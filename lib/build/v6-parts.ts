/** Parts of a v6 inode that have a length of their own: xattr areas and directory blocks (rafs-v6.md §6.4, §6.6). */
import { NydusError } from '../base/errors.js'
import {
  DirentV6,
  V6_FILE_TYPE,
  V6_XATTR_ALIGNMENT,
  V6_XATTR_PREFIX,
  XattrEntryV6,
  XattrHeaderV6,
} from '../rafs/layout/v6.js'
import { TYPE, type Xattr } from './tree.js'

function aligned(n: number): number {
  return Math.ceil(n / V6_XATTR_ALIGNMENT) * V6_XATTR_ALIGNMENT
}

/** Namespace number and what of the name is left behind its prefix; undefined for a namespace that RAFS has no place for. */
export function splitXattrName(name: Uint8Array): { index: number; suffix: Uint8Array } | undefined {
  const bytes = Buffer.from(name)
  for (const [index, prefix] of Object.entries(V6_XATTR_PREFIX)) {
    const whole = !prefix.endsWith('.')
    if (whole ? bytes.equals(Buffer.from(prefix)) : bytes.length > prefix.length && bytes.subarray(0, prefix.length).equals(Buffer.from(prefix)))
      return { index: Number(index), suffix: bytes.subarray(prefix.length) }
  }
  return undefined
}

/** Bytes of an inode's xattr area; 0 without xattrs. */
export function xattrAreaSize(xattrs: readonly Xattr[]): number {
  if (xattrs.length === 0) return 0
  let size = XattrHeaderV6.size
  for (const { name, value } of xattrs)
    size += aligned(XattrEntryV6.size + (splitXattrName(name)?.suffix.length ?? 0) + value.length)
  return size
}

/** i_xattr_icount for an area of that size. */
export function xattrIcount(areaSize: number): number {
  return areaSize === 0 ? 0 : (areaSize - XattrHeaderV6.size) / V6_XATTR_ALIGNMENT + 1
}

export function writeXattrs(out: Uint8Array, at: number, xattrs: readonly Xattr[]): void {
  if (xattrs.length === 0) return
  XattrHeaderV6.write(out, {}, at)
  let entry = at + XattrHeaderV6.size
  for (const { name, value } of xattrs) {
    const split = splitXattrName(name)
    if (split === undefined)
      throw new NydusError('BUILD_XATTR', 'EINVAL', `xattr ${Buffer.from(name).toString()}: RAFS has no place for this namespace`)
    XattrEntryV6.write(out, { nameLength: split.suffix.length, nameIndex: split.index, valueSize: value.length }, entry)
    out.set(split.suffix, entry + XattrEntryV6.size)
    out.set(value, entry + XattrEntryV6.size + split.suffix.length)
    entry += aligned(XattrEntryV6.size + split.suffix.length + value.length)
  }
}

export interface DirEntry {
  readonly name: Uint8Array
  readonly nid: number
  readonly type: number
}

/** Names in the order of their bytes, `.` and `..` among them: sizes of directory data from it. */
export function dirSize(nameLengths: Iterable<number>, blockSize: number): number {
  let blocks = 0
  let used = 0
  for (const length of nameLengths) {
    if (used + DirentV6.size + length > blockSize) {
      blocks++
      used = 0
    }
    used += DirentV6.size + length
  }
  return blocks * blockSize + used
}

/** Directory data: blocks of entries followed by their names. `entries` in the order of their names' bytes. */
export function writeDir(entries: readonly DirEntry[], size: number, blockSize: number): Uint8Array {
  const out = new Uint8Array(size)
  let first = 0
  for (let block = 0; first < entries.length; block += blockSize) {
    let last = first
    let used = 0
    for (; last < entries.length; last++) {
      const need = DirentV6.size + (entries[last]?.name.length ?? 0)
      if (used + need > blockSize) break
      used += need
    }
    let nameoff = (last - first) * DirentV6.size
    for (let i = first; i < last; i++) {
      const entry = entries[i] as DirEntry
      DirentV6.write(out, { nid: BigInt(entry.nid), nameoff, fileType: entry.type }, block + (i - first) * DirentV6.size)
      out.set(entry.name, block + nameoff)
      nameoff += entry.name.length
    }
    first = last
  }
  return out
}

const FILE_TYPE: Readonly<Record<number, number>> = {
  [TYPE.REG]: V6_FILE_TYPE.REG,
  [TYPE.DIR]: V6_FILE_TYPE.DIR,
  [TYPE.CHR]: V6_FILE_TYPE.CHR,
  [TYPE.BLK]: V6_FILE_TYPE.BLK,
  [TYPE.FIFO]: V6_FILE_TYPE.FIFO,
  [TYPE.SOCK]: V6_FILE_TYPE.SOCK,
  [TYPE.LNK]: V6_FILE_TYPE.SYMLINK,
}

export function fileTypeOf(type: number): number {
  return FILE_TYPE[type] ?? 0
}
