/** Directory data of a v6 image: blocks of entries, each followed by its names (rafs-v6.md §6.4). */
import { setU64 } from '../base/u64.js'
import { DirentV6, V6_FILE_TYPE } from '../rafs/layout/v6.js'
import type { Order } from './order.js'
import { NONE, TYPE, type Tree } from './tree.js'

const DOT = 0x2e

const FILE_TYPE: Readonly<Record<number, number>> = {
  [TYPE.REG]: V6_FILE_TYPE.REG,
  [TYPE.DIR]: V6_FILE_TYPE.DIR,
  [TYPE.CHR]: V6_FILE_TYPE.CHR,
  [TYPE.BLK]: V6_FILE_TYPE.BLK,
  [TYPE.FIFO]: V6_FILE_TYPE.FIFO,
  [TYPE.SOCK]: V6_FILE_TYPE.SOCK,
  [TYPE.LNK]: V6_FILE_TYPE.SYMLINK,
}

/**
 * The names of one folder after the other, in the order of their bytes, `.` and `..` in their places among them. Nothing
 * is kept for a name: folders may have a million.
 */
export class DirNames {
  readonly #tree: Tree
  readonly #order: Order
  #folder = 0
  /** In `order.nodes`. */
  #firstChild = 0
  /** Places of `.` and `..`. */
  #dot = 0
  #dotDot = 0
  count = 0

  constructor(tree: Tree, order: Order) {
    this.#tree = tree
    this.#order = order
  }

  /** Turns to a folder. */
  open(folder: number): this {
    const { childIndex, childCount } = this.#order
    const children = childCount[folder] ?? 0
    this.#folder = folder
    this.#firstChild = (childIndex[folder] ?? 0) - 1
    let before = 0
    while (before < children && this.#byte(before, 0) < DOT) before++
    this.#dot = before
    while (before < children && this.#byte(before, 0) === DOT && this.#byte(before, 1) < DOT) before++
    this.#dotDot = before + 1
    this.count = children + 2
    return this
  }

  /** A byte of a child's name; -1 behind its end. */
  #byte(child: number, at: number): number {
    const node = this.#child(child)
    return at < this.#tree.nameLength(node)
      ? (this.#tree.names.bytes[this.#tree.nameOffset(node) + at] as number)
      : -1
  }

  #child(child: number): number {
    return this.#order.nodes[this.#firstChild + child] ?? NONE
  }

  #isDot(i: number): boolean {
    return i === this.#dot || i === this.#dotDot
  }

  /** What the `i`-th name stands for. */
  node(i: number): number {
    if (i === this.#dot) return this.#folder
    if (i === this.#dotDot) {
      const parent = this.#tree.parent(this.#folder)
      return parent === NONE ? this.#folder : parent
    }
    return this.#child(i - (i > this.#dot ? 1 : 0) - (i > this.#dotDot ? 1 : 0))
  }

  #nameLength(i: number): number {
    if (i === this.#dot) return 1
    return i === this.#dotDot ? 2 : this.#tree.nameLength(this.node(i))
  }

  /** Bytes of the folder's data. */
  size(blockSize: number): number {
    let blocks = 0
    let used = 0
    for (let i = 0; i < this.count; i++) {
      const need = DirentV6.size + this.#nameLength(i)
      if (used + need > blockSize) {
        blocks++
        used = 0
      }
      used += need
    }
    return blocks * blockSize + used
  }

  /** The folder's data, `size` bytes. */
  write(size: number, blockSize: number, nid: (node: number) => number): Uint8Array {
    const out = new Uint8Array(size)
    const view = new DataView(out.buffer)
    let first = 0
    for (let block = 0; first < this.count; block += blockSize) {
      let last = first
      for (let used = 0; last < this.count; last++) {
        used += DirentV6.size + this.#nameLength(last)
        if (used > blockSize) break
      }
      let name = (last - first) * DirentV6.size
      for (let i = first; i < last; i++) {
        const entry = block + (i - first) * DirentV6.size
        const node = this.node(i)
        setU64(view, entry + DirentV6.at.nid, nid(node))
        view.setUint16(entry + DirentV6.at.nameoff, name, true)
        out[entry + DirentV6.at.fileType] = FILE_TYPE[this.#tree.type(node)] ?? 0
        name += this.#writeName(i, node, out, block + name)
      }
      first = last
    }
    return out
  }

  #writeName(i: number, node: number, out: Uint8Array, at: number): number {
    const length = this.#nameLength(i)
    if (this.#isDot(i)) out.fill(DOT, at, at + length)
    else {
      const { bytes } = this.#tree.names
      const from = this.#tree.nameOffset(node)
      for (let k = 0; k < length; k++) out[at + k] = bytes[from + k] as number
    }
    return length
  }
}
