import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { newAttr } from '../vfs/filesystem.js'
import { openRafs } from './fs.js'
import { RafsImage } from './image.js'
import { fileName, folderName, writeLargeV6 } from './testing/large-v6.js'
import { Entries, Extents, latin1 } from './testing/sinks.js'

const FOLDERS = 1000
const FILES = 1000

/** Bytes of the mappings of a file that are in memory. */
function resident(path: string): number {
  const maps = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
  const ours = maps.filter(map => map.split('\n', 1)[0]?.endsWith(path))
  return ours.reduce((sum, map) => sum + Number(/^Rss: +(\d+) kB/m.exec(map)?.[1] ?? 0) * 1024, 0)
}

t.test('a million files: opening touches a few pages and keeps no object per inode', async t => {
  const path = join(t.testdir(), 'boot')
  const length = writeLargeV6(path, { folders: FOLDERS, filesPerFolder: FILES })
  t.equal(statSync(path).size, length)
  t.ok(length > 100e6)
  const heap = () => process.memoryUsage().heapUsed + process.memoryUsage().external
  const before = heap()
  const image = await RafsImage.open({ path, xattrs: true, validate: true })
  t.teardown(() => image.close())
  const fs = openRafs(image.handle([]))
  // Two mappings (yard and lane); the kernel maps 64 KiB around each page that is touched.
  t.ok(resident(path) < 1 << 20, `${resident(path)} bytes of ${length} are in memory`)
  // Mappings of the whole file may be counted as external memory, but only they.
  t.ok(heap() - before < 2 * length + (4 << 20), `heap and external memory grew by ${heap() - before}`)
  t.equal(image.facts.inodes_count, 1 + FOLDERS + FOLDERS * FILES)

  const name = latin1(folderName(777))
  const folder = fs.lookup(fs.rootIno, name, 0, name.length)
  const all = new Entries()
  t.equal(fs.readdir(folder, 0, all), FILES + 2)
  const last = latin1(fileName(FILES - 1))
  const ino = fs.lookup(folder, last, 0, last.length)
  t.equal(all.entries.at(-1)?.ino, ino)
  t.equal(fs.parent(folder), fs.rootIno)
  const attr = newAttr()
  t.equal(fs.getattr(ino, attr), 0)
  t.match(attr, { size: 1000, mode: 0o100644, nlink: 1 })
  const out = new Extents()
  fs.read(ino, 0, 4096, out)
  t.strictSame(out.extents, [{ file: 0, offset: (777 * FILES + FILES - 1) * 4096, length: 1000 }])
  t.equal(image.want(0, out.wants[0]?.ref ?? 0).index, 777 * FILES + FILES - 1)
  t.ok(resident(path) < 4 << 20, `${resident(path)} bytes after a listing, a look-up and a read`)
})

t.test('digests of many chunks are found by blob and number', async t => {
  const path = join(t.testdir(), 'boot')
  const files = 20 * 500
  writeLargeV6(path, { folders: 20, filesPerFolder: 500, chunkTable: true })
  const image = await RafsImage.open({ path, xattrs: true, validate: true })
  t.teardown(() => image.close())
  for (const record of [0, 1, 17, 4999, files - 1]) {
    const digest = image.chunkDigest(0, (record * 7919) % files)
    t.equal(Buffer.from(digest ?? []).readUInt32BE(0), record)
  }
  t.equal(image.chunkDigest(0, files), undefined)
  t.equal([...image.walk()].length, 1 + 20 + files)
})
