import fc from 'fast-check'
import t from 'tap'
import { Bootstrap } from './bootstrap.js'
import { DirV6 } from './dir-v6.js'
import { DirentV6, V6_BLOCK_SIZE } from './layout/v6.js'
import { NO_TABLE } from './name-index.js'
import { Entries } from './testing/sinks.js'

const NID = 7

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
  return new DirV6(boot, { nid: NID, size, flatAt: (offset: number) => offset }, V6_BLOCK_SIZE)
}

/** As RafsReader asks. */
function find(dir: DirV6, name: Buffer, folder = NID): number {
  const known = dir.known(folder, name, 0, name.length)
  return known === NO_TABLE ? dir.find(name, 0, name.length) : known
}
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

t.test('folders in turns, more and bigger ones than tables have room for', async t => {
  const count = 900
  const namesOf = (folder: number) =>
    Array.from({ length: 20 + (folder % 7) * 60 }, (_, i) => Buffer.from(`${folder}-${i}`)).sort((a, b) =>
      Buffer.compare(a, b),
    )
  // One bootstrap with all the folders; the reader is pointed at one after the other.
  const parts = Array.from({ length: count }, (_, i) => folder(namesOf(i)))
  const starts: number[] = []
  let length = 0
  for (const { boot } of parts) {
    starts.push(length)
    length += boot.length
  }
  const bytes = new Uint8Array(length)
  parts.forEach(({ boot }, i) => bytes.set(boot.bytes, starts[i]))
  const inode = { nid: 0, size: 0, flatAt: (offset: number) => (starts[inode.nid] as number) + offset }
  const dir = new DirV6(new Bootstrap(bytes.buffer, length, 'folders'), inode, V6_BLOCK_SIZE)
  for (let step = 0; step < 20_000; step++) {
    inode.nid = step % 3 === 0 ? step % count : step % 5
    inode.size = (parts[inode.nid] as { size: number }).size
    const names = 20 + (inode.nid % 7) * 60
    const wanted = Buffer.from(`${inode.nid}-${(step * 7) % (names + 5)}`)
    const sorted = find(dir, wanted, inode.nid)
    if ((step * 7) % (names + 5) >= names) t.equal(sorted, -2, `${wanted.toString()} is not there`)
    else if (sorted < 100 || sorted >= 100 + names) t.fail(`${wanted.toString()}: ${sorted}`)
    else {
      const entry = new Entries()
      dir.list(0, entry)
      const found = entry.entries[sorted - 100]?.name
      if (found !== wanted.toString()) t.equal(found, wanted.toString())
    }
  }
})

t.test('a damaged entry: what comes before it may be found, nothing is made up', async t => {
  const names = Array.from({ length: 100 }, (_, i) => Buffer.from(`name-${String(i).padStart(3, '0')}`))
  const { boot, size } = folder(names)
  DirentV6.write(boot.bytes, { nid: 160n, nameoff: 4000, fileType: 1 }, 60 * DirentV6.size)
  const dir = new DirV6(boot, { nid: NID, size, flatAt: (offset: number) => offset }, V6_BLOCK_SIZE)
  for (let round = 0; round < 5; round++)
    for (const [i, name] of names.entries())
      t.ok([100 + i, -2, -5].includes(find(dir, name)), `${name.toString()}: ${find(dir, name)}`)
})

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
    const dir = new DirV6(boot, { nid: NID, size: 100, flatAt: (offset: number) => offset }, V6_BLOCK_SIZE)
    t.equal(find(dir, Buffer.from('a')), -5, what)
    t.equal(dir.list(0, new Entries()), -5, what)
  }
  const { boot, size } = folder([Buffer.from('a'), Buffer.from('b'), Buffer.from('c')])
  boot.bytes[DirentV6.size + DirentV6.at.fileType] = 8
  const dir = new DirV6(boot, { nid: NID, size, flatAt: (offset: number) => offset }, V6_BLOCK_SIZE)
  const all = new Entries()
  t.equal(dir.list(0, all), 1, 'what comes before a damaged entry is listed')
  t.equal(dir.list(all.entries[0]?.next ?? 0, all), -5, 'then it is EIO')
})
