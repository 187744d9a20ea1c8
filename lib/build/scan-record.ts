/**
 * What `native.scanFolder` gives of each entry of a folder: a head, then name, link target and xattrs, without padding
 * (addon/sys/scan_napi.cc). Read in place: a tree may have millions of them.
 */
import { layout } from '../base/layout.js'

export const ScanHead = layout('EntryHead', 72, {
  /** Host's st_dev and st_ino: what names of one inode have in common. */
  device: 'u64',
  inode: 'u64',
  size: 'u64',
  mtime: 'i64',
  mtimeNs: 'u32',
  mode: 'u32',
  uid: 'u32',
  gid: 'u32',
  nlink: 'u32',
  major: 'u32',
  minor: 'u32',
  nameLength: 'u32',
  targetLength: 'u32',
  xattrBytes: 'u32',
})

export const ScanXattr = layout('XattrHead', 8, { nameLength: 'u32', valueLength: 'u32' })
