/**
 * Where inodes and their data go in a v6 bootstrap (rafs-v6.md §6.8): the rules of the reference builder, so that
 * the same tree gets the same nids from both. Offsets are relative to the metadata area, whose first block stays
 * unused.
 */
import { V6_NID_SIZE } from '../rafs/layout/v6.js'

export interface Placed {
  /** Of the inode. */
  readonly inode: number
  /** First full data block; meaningless when all data stands behind the inode. */
  readonly data: number
  /** The last, partial block stands behind inode and xattrs. */
  readonly inline: boolean
}

/** Blocks whose ends are free, oldest first. */
class Queue {
  readonly #blocks: number[] = []
  #first = 0
  push(block: number): void {
    this.#blocks.push(block)
  }
  shift(): number | undefined {
    const block = this.#blocks[this.#first]
    if (block === undefined) return undefined
    this.#first++
    if (this.#first > 1024 && this.#first * 2 > this.#blocks.length) {
      this.#blocks.splice(0, this.#first)
      this.#first = 0
    }
    return block
  }
}

export class Placement {
  /** By the number of free 32-byte slots at a block's end. */
  readonly #free: readonly Queue[]
  /** A bit for each queue that may have a block: most are empty, and there is a search for every inode. */
  readonly #some: Uint32Array
  readonly #block: number
  #cursor: number

  /** `blockSize` of the image: 4096, or 512 (tarfs). */
  constructor(blockSize: number) {
    this.#block = blockSize
    this.#cursor = blockSize
    this.#free = Array.from({ length: blockSize / V6_NID_SIZE }, () => new Queue())
    this.#some = new Uint32Array(Math.ceil(this.#free.length / 32))
  }

  /** End of what was placed, in whole blocks. */
  get end(): number {
    return this.#toBlock(this.#cursor)
  }

  #toBlock(n: number): number {
    return Math.ceil(n / this.#block) * this.#block
  }

  #note(offset: number): void {
    const used = offset % this.#block
    if (used === 0) return
    const slots = Math.floor((this.#block - used) / V6_NID_SIZE)
    if (slots === 0) return
    this.#free[slots]?.push(offset - used)
    const word = slots >>> 5
    this.#some[word] = (this.#some[word] ?? 0) | (1 << (slots & 31))
  }

  #take(size: number): number | undefined {
    if (size >= this.#block) return undefined
    const wanted = Math.ceil(size / V6_NID_SIZE)
    for (let slots = this.#next(wanted); slots > 0; slots = this.#next(slots)) {
      const block = this.#free[slots]?.shift()
      if (block === undefined) {
        const word = slots >>> 5
        this.#some[word] = (this.#some[word] ?? 0) & ~(1 << (slots & 31))
        continue
      }
      const offset = block + this.#block - V6_NID_SIZE * slots
      this.#note(offset + V6_NID_SIZE * wanted)
      return offset
    }
    return undefined
  }

  /** The first queue of `slots` or more that may have a block; 0 for none. */
  #next(slots: number): number {
    let mask = -1 << (slots & 31)
    for (let word = slots >>> 5; word < this.#some.length; word++, mask = -1) {
      const bits = (this.#some[word] ?? 0) & mask
      if (bits !== 0) return word * 32 + 31 - Math.clz32(bits & -bits)
    }
    return 0
  }

  #align(): void {
    this.#cursor = Math.ceil(this.#cursor / V6_NID_SIZE) * V6_NID_SIZE
  }

  /** A folder or symbolic link: `head` bytes of inode and xattrs, `size` bytes of data. */
  flat(head: number, size: number): Placed {
    const tail = size % this.#block
    let inode: number | undefined
    let data = 0
    const inline = tail !== 0 && head + tail <= this.#block
    if (inline) {
      inode = this.#take(head + tail)
      if (inode === undefined) {
        if (this.#block - (this.#cursor % this.#block) < head + tail) this.#toNextBlock()
        inode = this.#cursor
        this.#cursor += head + tail
      }
      if (size !== tail) {
        this.#toNextBlock()
        data = this.#cursor
        this.#cursor += size - tail
      } else data = this.#cursor - (this.#cursor % this.#block)
    } else {
      inode = this.#take(head)
      if (inode === undefined) {
        inode = this.#cursor
        this.#cursor += head
      }
      this.#toNextBlock()
      data = this.#cursor
      this.#cursor = this.#toBlock(this.#cursor + size)
    }
    this.#align()
    return { inode, data, inline }
  }

  #toNextBlock(): void {
    this.#note(this.#cursor)
    this.#cursor = this.#toBlock(this.#cursor)
  }

  /** A regular file: inode, xattrs and chunk indexes, `size` bytes in all. */
  file(size: number): number {
    let inode = this.#take(size)
    if (inode === undefined) {
      inode = this.#cursor
      this.#cursor += size
    }
    this.#align()
    return inode
  }

  /** Anything that has no data. */
  special(head: number): number {
    const inode = this.#cursor
    this.#cursor += head
    this.#align()
    return inode
  }
}
