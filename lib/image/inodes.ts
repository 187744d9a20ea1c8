/** What an image says of an inode, as values: for tools, which look at each once. */
import { Names, Pieces } from '../build/load-image.js'
import type { Xattr } from '../build/tree.js'
import { NydusError } from '../base/errors.js'
import type { RafsImage } from '../rafs/image.js'
import { newAttr, type Attr } from '../vfs/filesystem.js'

function damaged(ino: number, what: string): NydusError {
  return new NydusError('RAFS_BAD_INODE', 'EIO', `inode ${ino} of the image: ${what} is damaged`)
}

/** Throws RAFS_BAD_INODE, as all of these. */
export function attrOf(image: RafsImage, ino: number): Attr {
  const attr = newAttr()
  if (image.reader.getattr(ino, attr) !== 0) throw damaged(ino, 'its record')
  return attr
}

function gather(image: RafsImage, pieces: Pieces): Buffer {
  return Buffer.concat(pieces.list.map(({ offset, length }) => image.bytes(offset, length)))
}

/** Target of a symbolic link. */
export function targetOf(image: RafsImage, ino: number): Buffer {
  const pieces = new Pieces()
  if (image.reader.readlink(ino, pieces) < 0) throw damaged(ino, 'its target')
  return gather(image, pieces)
}

/** Sorted by name. */
export function xattrsOf(image: RafsImage, ino: number): Xattr[] {
  const names = new Names()
  if (image.reader.listxattr(ino, names) < 0) throw damaged(ino, 'its list of xattrs')
  const list = Buffer.concat(names.parts)
  const out: Xattr[] = []
  for (let at = 0; at < list.length;) {
    const nul = list.indexOf(0, at)
    const name = list.subarray(at, nul < 0 ? list.length : nul)
    at += name.length + 1
    const pieces = new Pieces()
    if (image.reader.getxattr(ino, name, 0, name.length, pieces) < 0)
      throw damaged(ino, `its xattr ${name.toString()}`)
    out.push({ name, value: gather(image, pieces) })
  }
  return out.sort((a, b) => Buffer.compare(a.name, b.name))
}

/** Linux 32-bit dev_t (rafs-v5.md §5). */
export function majorOf(rdev: number): number {
  return (rdev >>> 8) & 0xfff
}
export function minorOf(rdev: number): number {
  return (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)
}
