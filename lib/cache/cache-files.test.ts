import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Log } from '../base/log.js'
import { silentLog } from '../base/log.js'
import type { BlobInfo } from './cache.js'
import { CacheManager } from './manager.js'
import { digestOf } from '../base/testing/digest.js'
import { TestBackend } from './testing/backend.js'
import { tarBlob } from './testing/loose.js'
import { cacheConfig, firstBlob, openFixture, wrongChunks, type FixtureName } from './testing/fixtures.js'

interface Warnings extends Log {
  readonly lines: string[]
}
function warnings(): Warnings {
  const lines: string[] = []
  return { ...silentLog, lines, warn: (_fields, message) => void lines.push(message) }
}

interface Filled {
  readonly workDir: string
  readonly info: BlobInfo
  readonly data: string
  readonly map: string
  readonly oldMap: string
  /** Opens the folder with a new manager, reads everything; returns the requests it took. */
  readonly reread: () => Promise<{ requests: number; wrong: number; warnings: string[] }>
}

/** A folder that a manager has filled completely and left. */
async function filled(t: Test, name: FixtureName = 'v6-lz4-64k'): Promise<Filled> {
  const fixture = await openFixture(name)
  t.teardown(() => fixture.image.close())
  const { info, wants } = firstBlob(fixture)
  const workDir = t.testdir()
  const reread = async () => {
    const backend = new TestBackend(fixture.dir)
    const log = warnings()
    const manager = new CacheManager({ log })
    const blob = await manager.open(info, backend, cacheConfig(workDir))
    const wrong = await wrongChunks(blob, wants, workDir)
    await manager.close()
    return { requests: backend.asked.length, wrong: wrong.length, warnings: log.lines }
  }
  t.equal((await reread()).wrong, 0)
  const path = (suffix: string): string => join(workDir, info.id + suffix)
  return {
    workDir,
    info,
    data: path('.blob.data'),
    map: path('.blob.data.chunk_map'),
    oldMap: path('.chunk_map'),
    reread,
  }
}

t.test('files are what Nydus writes', async t => {
  const { data, map, oldMap, info, workDir } = await filled(t)
  t.equal(statSync(data).size, info.uncompressedSize)
  const bytes = readFileSync(map)
  t.equal(bytes.length, 4096 + Math.ceil(info.chunkCount / 8))
  t.equal(bytes.subarray(0, 16).toString('hex'), '50414d420100000050414d4300000000')
  t.ok(bytes.subarray(16, 4096).every(byte => byte === 0))
  const bits = bytes.subarray(4096)
  const last = (0xff00 >> (info.chunkCount % 8 || 8)) & 0xff
  t.ok(bits.subarray(0, -1).every(byte => byte === 0xff))
  t.equal(bits.at(-1), last)
  const meta = readFileSync(join(workDir, `${info.id}.blob.meta`))
  t.equal(meta.length, Math.ceil(info.ci.uncompressedSize / 4096) * 4096 + 4096)
  t.equal(meta.readUInt32LE(meta.length - 4096), 0xb10b_b10b)
  t.equal(meta.readUInt32LE(meta.length - 4), 0xb10b_b10b)
  t.equal(statSync(oldMap).ino, statSync(map).ino, 'one map under the names of both ages')
})

t.test('a filled folder is used without a request', async t => {
  const { reread } = await filled(t)
  t.match(await reread(), { requests: 0, wrong: 0, warnings: [] })
})

t.test('a map that only has the name of Nydus 2.2 is found', async t => {
  const { map, reread } = await filled(t)
  rmSync(map)
  t.match(await reread(), { requests: 0, wrong: 0 })
})

t.test('a legacy map (version 0) is used', async t => {
  const { map, reread } = await filled(t)
  const bytes = readFileSync(map)
  bytes.fill(0, 4, 16)
  writeFileSync(map, bytes)
  t.match(await reread(), { requests: 0, wrong: 0 })
})

const DAMAGES: readonly [what: string, damage: (files: Filled) => void, warning: RegExp][] = [
  ['a map that is cut short', ({ map }) => truncateSync(map, 4100), /its chunk map has 4100 bytes/],
  ['an empty map', ({ map }) => truncateSync(map, 0), /unfinished/],
  [
    'a map with another magic',
    ({ map }) => writeFileSync(map, Buffer.alloc(statSync(map).size, 7)),
    /unknown header/,
  ],
  ['a map of another version', ({ map }) => patch(map, 4, 9), /version 9/],
  ['a map without its data', ({ data }) => rmSync(data), /chunk map without a data file/],
  [
    'data of another, longer blob',
    ({ data }) => truncateSync(data, 1 << 30),
    /data file has 1073741824 bytes/,
  ],
]

function patch(path: string, offset: number, byte: number): void {
  const bytes = readFileSync(path)
  bytes[offset] = byte
  writeFileSync(path, bytes)
}

for (const [what, damage, warning] of DAMAGES)
  t.test(`${what}: discarded and filled again`, async t => {
    const files = await filled(t)
    damage(files)
    const again = await files.reread()
    t.equal(again.wrong, 0)
    t.ok(again.requests > 0)
    t.match(again.warnings.join('\n'), warning)
    t.match(await files.reread(), { requests: 0, wrong: 0, warnings: [] })
    t.equal(statSync(files.oldMap).ino, statSync(files.map).ino)
  })

t.test('a referenced layer, whose files Nydus up to 2.2 names by its meta blob', async t => {
  const { workDir, info, reread } = await filled(t, 'v6-zran')
  t.notSame(info.metaBlobId, undefined)
  const now = [`${info.id}.blob.data`, `${info.id}.blob.data.chunk_map`, `${info.id}.blob.meta`]
  const before = ['.blob.data', '.chunk_map', '.blob.meta'].map(suffix => `${info.metaBlobId}${suffix}`)
  t.strictSame(
    readdirSync(workDir).toSorted(),
    [...now, ...before].toSorted(),
    'the same files under both names',
  )
  for (const name of now) rmSync(join(workDir, name))
  t.match(await reread(), { requests: 0, wrong: 0, warnings: [] }, 'a folder of the older one is used')
  for (const name of before) rmSync(join(workDir, name))
  t.match(await reread(), { requests: 0, wrong: 0, warnings: [] }, 'one of a newer one, too')
})

t.test('a data file that is shorter is extended: its chunks are where the map says', async t => {
  const { data, info, reread } = await filled(t)
  const size = info.uncompressedSize
  truncateSync(data, size - 1)
  truncateSync(data, size)
  truncateSync(data, size - 4096)
  await reread()
  t.equal(statSync(data).size, size)
})

t.test('a damaged chunk table is fetched again', async t => {
  const { workDir, info, data, map, oldMap, reread } = await filled(t)
  const meta = join(workDir, `${info.id}.blob.meta`)
  for (const damage of [() => truncateSync(meta, 100), () => patch(meta, statSync(meta).size - 1, 0)]) {
    damage()
    for (const path of [data, map, oldMap]) rmSync(path)
    const again = await reread()
    t.match(again, { wrong: 0, warnings: [/chunk table is fetched anew/] })
    t.equal(readFileSync(meta).readUInt32LE(statSync(meta).size - 4), 0xb10b_b10b)
  }
})

t.test('data in compressed form, whose map has the same name, is left alone', async t => {
  const { data, map, workDir, info, reread } = await filled(t)
  const raw = join(workDir, `${info.id}.blob.raw`)
  renameSync(data, raw)
  const before = readFileSync(map)
  const again = await reread()
  t.ok(again.requests > 0)
  t.match(again.warnings, [/compressed form/])
  t.same(readFileSync(map), before)
  t.notOk(existsSync(data))
})

t.test('a folder that cannot be made: one warning, and reads go on', async t => {
  const fixture = await openFixture('v6-batch')
  const { info, wants } = firstBlob(fixture)
  const root = t.testdir({ file: '' })
  mkdirSync(join(root, 'dir'))
  const log = warnings()
  const manager = new CacheManager({ log })
  t.teardown(async () => {
    await manager.close()
    await fixture.image.close()
  })
  const blob = await manager.open(
    info,
    new TestBackend(fixture.dir),
    cacheConfig(join(root, 'file', 'cache')),
  )
  t.equal(blob.handle.fileId, 0)
  t.same(await wrongChunks(blob, wants, '/nowhere'), [])
  t.equal(log.lines.length, 1)
  t.match(log.lines, [/cannot be used for this blob: it is read without a cache/])
})

t.test('blob ids that would leave the folder are refused', async t => {
  const fixture = await openFixture('v6-batch')
  const { info } = firstBlob(fixture)
  const manager = new CacheManager()
  t.teardown(async () => {
    await manager.close()
    await fixture.image.close()
  })
  const backend = new TestBackend(fixture.dir)
  for (const id of ['', '.', '..', '../x', 'a/b', 'a\0b', 'a b', 'é', 'x'.repeat(201)])
    await t.rejects(manager.open({ ...info, id }, backend, cacheConfig(t.testdirName)), {
      code: 'BLOB_BAD_ID',
    })
})

t.test(
  'a tar as tarfs and as a layer with a chunk table, in one folder: neither spoils the other',
  async t => {
    const dir = t.testdir({ tar: {}, work: {} })
    const [tarDir, workDir] = [join(dir, 'tar'), join(dir, 'work')]
    const tar = tarBlob(tarDir, 20, 9000)
    // Its chunks have numbers, and other places in the data file.
    const layer = {
      info: { ...tar.info, rafsVersion: 5 as const, features: 0, uncompressedSize: 20 * 12288 },
      wants: tar.wants.map((want, index) => {
        const place = { index, uncompressedOffset: index * 12288 }
        return { ...want, ...place, ...(want.record && { record: { ...want.record, ...place } }) }
      }),
    }
    for (const { info, wants } of [layer, tar, layer]) {
      const manager = new CacheManager()
      const blob = await manager.open(info, new TestBackend(tarDir), cacheConfig(workDir))
      for (const want of wants) (await blob.fetch([want])).release()
      const data = readdirSync(workDir).filter(name => name.endsWith('.data'))
      const right = wants.filter(want =>
        data.some(name => {
          const bytes = readFileSync(join(workDir, name))
          const at = want.uncompressedOffset
          return digestOf('sha256', bytes.subarray(at, at + want.uncompressedSize)).equals(
            want.digest ?? bytes,
          )
        }),
      )
      t.equal(right.length, wants.length)
      await manager.close()
    }
  },
)
