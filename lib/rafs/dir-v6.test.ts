import fc from 'fast-check'
import t from 'tap'
import { Bootstrap } from './bootstrap.js'
import { DirV6 } from './dir-v6.js'
import { DirentV6, V6_BLOCK_SIZE } from './layout/v6.js'
import { Entries } from './testing/sinks.js'

/** Blocks of a folder with these names, in this order; the inode of name i is 100 + i. */
function folder(names: readonly Buffer[]): { boot: Bootstrap; size: number } {
  const blocks: Buffer[][] = [[]]
  let used = 0
  for (const name of names) {
    if (used + DirentV6.size + name.length > V6_BLOCK_SIZE) {
      blocks.push([])
      used = 0
    }
    used += DirentV6.size + name.length
    blocks.at(-1)?.push(name)
  }
  const bytes = new Uint8Array(blocks.length * V6_BLOCK_SIZE)
  let number = 100
  blocks.forEach((block, b) => {
    let nameoff = block.length * DirentV6.size
    block.forEach((name, i) => {
      DirentV6.write(
        bytes,
        { nid: BigInt(number++), nameoff, fileType: 1 },
        b * V6_BLOCK_SIZE + i * DirentV6.size,
      )
      bytes.set(name, b * V6_BLOCK_SIZE + nameoff)
      nameoff += name.length
    })
  })
  return {
    boot: new Bootstrap(bytes.buffer, bytes.length, 'folder'),
    size: (blocks.length - 1) * V6_BLOCK_SIZE + used,
  }
}

function open(names: readonly Buffer[]): DirV6 {
  const { boot, size } = folder(names)
  return new DirV6(boot, { size, flatAt: (offset: number) => offset }, V6_BLOCK_SIZE)
}

const find = (dir: DirV6, name: Buffer) => dir.find(name, 0, name.length)
const letter = fc.constantFrom(0x61, 0x62, 0xff, 0x01)
const name = fc
  .uint8Array({ minLength: 1, maxLength: 255 })
  .map(bytes => Buffer.from(bytes.map(byte => byte || 1)))
/** Names that share long beginnings, where comparing can go wrong. */
const alike = fc.array(letter, { minLength: 1, maxLength: 9 }).map(letters => Buffer.from(letters))
const names = fc
  .array(fc.oneof(alike, name), { minLength: 1, maxLength: 150 })
  .map(list => [...new Map(list.map(entry => [entry.toString('latin1'), entry])).values()])

t.test('sorted folders: every name is found, no other is, listing gives all', async t => {
  fc.assert(
    fc.property(names, fc.oneof(alike, name), (list, stranger) => {
      const sorted = list.toSorted((a, b) => Buffer.compare(a, b))
      const dir = open(sorted)
      const all = new Entries()
      return (
        sorted.every((entry, i) => find(dir, entry) === 100 + i) &&
        (sorted.some(entry => entry.equals(stranger)) || find(dir, stranger) === -2) &&
        dir.list(0, all) === sorted.length &&
        all.entries.every((entry, i) => entry.name === sorted[i]?.toString('latin1') && entry.ino === 100 + i)
      )
    }),
  )
  t.pass()
})

t.test(
  'a folder that is not sorted: a name is found, missed or EIO, and never passes for another',
  async t => {
    fc.assert(
      fc.property(names, list => {
        const dir = open(list)
        return list.every((entry, i) => [100 + i, -2, -5].includes(find(dir, entry)))
      }),
      { numRuns: 1000 },
    )
    t.pass()
  },
)

t.test('blocks that contradict themselves', async t => {
  const dirent = (nameoff: number) => ({ nid: 1n, nameoff, fileType: 1 })
  for (const [what, nameoff] of [
    ['no entry', 0],
    ['half an entry', 18],
    ['names behind the block', 4092],
  ] as const) {
    const bytes = new Uint8Array(V6_BLOCK_SIZE)
    DirentV6.write(bytes, dirent(nameoff))
    const boot = new Bootstrap(bytes.buffer, bytes.length, 'folder')
    const dir = new DirV6(boot, { size: 100, flatAt: (offset: number) => offset }, V6_BLOCK_SIZE)
    t.equal(find(dir, Buffer.from('a')), -5, what)
    t.equal(dir.list(0, new Entries()), -5, what)
  }
  const { boot, size } = folder([Buffer.from('a'), Buffer.from('b'), Buffer.from('c')])
  boot.bytes[DirentV6.size + DirentV6.at.fileType] = 8
  const dir = new DirV6(boot, { size, flatAt: (offset: number) => offset }, V6_BLOCK_SIZE)
  const all = new Entries()
  t.equal(dir.list(0, all), 1, 'what comes before a damaged entry is listed')
  t.equal(dir.list(all.entries[0]?.next ?? 0, all), -5, 'then it is EIO')
})
