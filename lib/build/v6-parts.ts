/** The xattr area of a v6 inode (rafs-v6.md §6.6). */
import { NydusError } from '../base/errors.js'
import { V6_XATTR_ALIGNMENT, V6_XATTR_PREFIX, XattrEntryV6, XattrHeaderV6 } from '../rafs/layout/v6.js'
import type { Xattr } from './tree.js'

function aligned(n: number): number {
  return Math.ceil(n / V6_XATTR_ALIGNMENT) * V6_XATTR_ALIGNMENT
}

/** Namespace number and what of the name is left behind its prefix; undefined for a namespace that RAFS has no place for. */
export function splitXattrName(name: Uint8Array): { index: number; suffix: Uint8Array } | undefined {
  const bytes = Buffer.from(name)
  for (const [index, prefix] of Object.entries(V6_XATTR_PREFIX)) {
    const whole = !prefix.endsWith('.')
    if (
      whole
        ? bytes.equals(Buffer.from(prefix))
        : bytes.length > prefix.length && bytes.subarray(0, prefix.length).equals(Buffer.from(prefix))
    )
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
      throw new NydusError(
        'BUILD_XATTR',
        'EINVAL',
        `xattr ${Buffer.from(name).toString()}: RAFS has no place for this namespace`,
      )
    XattrEntryV6.write(
      out,
      { nameLength: split.suffix.length, nameIndex: split.index, valueSize: value.length },
      entry,
    )
    out.set(split.suffix, entry + XattrEntryV6.size)
    out.set(value, entry + XattrEntryV6.size + split.suffix.length)
    entry += aligned(XattrEntryV6.size + split.suffix.length + value.length)
  }
}
