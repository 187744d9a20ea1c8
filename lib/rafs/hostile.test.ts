import fc from 'fast-check'
import t from 'tap'
import { NydusError } from '../base/errors.js'
import { newAttr } from '../vfs/filesystem.js'
import { ExtBlobEntryV5, InodeV5, SuperblockV5 } from './layout/v5.js'
import {
  BlobEntryV6,
  DeviceSlotV6,
  DirentV6,
  ExtSuperblockV6,
  InodeExtendedV6,
  SuperblockV6,
  V6_EXT_SUPERBLOCK_OFFSET,
  V6_NID_SIZE,
  V6_SUPERBLOCK_OFFSET,
} from './layout/v6.js'
import { changed, nastyValues, valueOf, Victim, type Table } from './testing/damage.js'
import { bytesOf, openBytes, recordV5 } from './testing/fixtures.js'
import { fixtureNamed } from '../../vm-tests/fixtures.js'
import { placesOf } from './testing/places.js'
import { Extents, latin1 } from './testing/sinks.js'
import { resolve, walk } from './walk.js'

const V5 = bytesOf(fixtureNamed('v5-lz4-blake3').bootstrap)
const V6 = bytesOf(fixtureNamed('v6-lz4-64k').bootstrap)
const v5 = openBytes(V5)
const v6 = openBytes(V6)

/** One inode of each kind that differs in the reader. */
const PATHS = ['/', '/deep', '/xattr/many', '/xattr/d', '/dev/chr', '/dedup/shifted']

function inoOf(reader: typeof v5.reader, path: string): number {
  const ino = resolve(reader, latin1(path))
  if (ino < 0) throw new Error(`no ${path} in the fixture`)
  return ino
}

function symlinkOf(reader: typeof v5.reader): number {
  for (const { ino, type } of walk(reader, reader.rootIno, Buffer.from('/')))
    if (type === 0o120000) return ino
  throw new Error('no symlink in the fixture')
}

function inodeV6(nid: number): number {
  if (v6.sb.version !== 6) throw new Error('v6 expected')
  return v6.sb.metaOffset + nid * V6_NID_SIZE
}

/** Opens and tries everything at some inodes; an image that is refused must be refused with a NydusError. */
function survive(bytes: Uint8Array, validate: boolean, inos: readonly number[]): 'refused' | 'served' {
  let victim
  try {
    victim = new Victim(bytes, validate)
  } catch (error) {
    if (error instanceof NydusError) return 'refused'
    throw error
  }
  for (const ino of inos) victim.poke(ino)
  return 'served'
}

t.test('every field of superblocks and tables at every limit: refused, or served without harm', async t => {
  const tables: readonly (readonly [Uint8Array, Table, number, number])[] = [
    [V5, SuperblockV5, 0, 1],
    [V5, ExtBlobEntryV5, v5.sb.facts.extended_blob_table_offset, 1],
    [V6, SuperblockV6, V6_SUPERBLOCK_OFFSET, 128],
    [V6, ExtSuperblockV6, V6_EXT_SUPERBLOCK_OFFSET, 128],
    [V6, DeviceSlotV6, v6.sb.facts.blob_device_table_offset, 128],
    [V6, BlobEntryV6, v6.sb.facts.blob_table_offset, 128],
  ]
  for (const [base, table, start, root] of tables)
    for (const field of Object.keys(table.fields)) {
      const outcomes = { refused: 0, served: 0 }
      for (const value of nastyValues(base, table, field, start))
        outcomes[survive(changed(base, table, field, value, start), false, [root])]++
      t.ok(outcomes.refused + outcomes.served > 5, `${field}: ${JSON.stringify(outcomes)}`)
    }
})

for (const validate of [false, true])
  t.test(`v5: every field of an inode at every limit, digest_validate ${validate}`, async t => {
    for (const ino of [...PATHS.map(path => inoOf(v5.reader, path)), symlinkOf(v5.reader)])
      for (const field of Object.keys(InodeV5.fields)) {
        const start = recordV5(V5, ino)
        for (const value of nastyValues(V5, InodeV5, field, start))
          survive(changed(V5, InodeV5, field, value, start), validate, [ino, v5.reader.parent(ino)])
      }
    t.pass()
  })

t.test('v6: every field of an inode at every limit', async t => {
  for (const ino of [...PATHS.map(path => inoOf(v6.reader, path)), symlinkOf(v6.reader)])
    for (const field of Object.keys(InodeExtendedV6.fields)) {
      const start = inodeV6(ino)
      for (const value of nastyValues(V6, InodeExtendedV6, field, start))
        survive(changed(V6, InodeExtendedV6, field, value, start), false, [ino])
    }
  t.pass()
})

t.test('what is wrong with an inode makes it EIO, and leaves its neighbours alone', async t => {
  const big = inoOf(v6.reader, '/dedup/shifted')
  const dir = inoOf(v6.reader, '/deep')
  const link = symlinkOf(v6.reader)
  const cases: readonly (readonly [number, string, bigint])[] = [
    [big, 'size', 2n ** 64n - 1n],
    [big, 'size', 2n ** 53n - 1n],
    [big, 'size', 2n ** 40n],
    [big, 'format', 0xffffn],
    [big, 'format', 1n],
    [big, 'mode', 0n],
    [big, 'mode', 0o170000n],
    [big, 'u', 0n],
    [big, 'u', 0x68n],
    [big, 'xattrIcount', 0xffffn],
    [dir, 'size', 2n ** 32n],
    [dir, 'format', 3n],
    [dir, 'format', 9n],
    [link, 'size', 0n],
    [link, 'size', 4097n],
  ]
  for (const [ino, field, value] of cases) {
    const { reader } = openBytes(changed(V6, InodeExtendedV6, field, value, inodeV6(ino)))
    t.equal(reader.getattr(ino, newAttr()), -5, `v6 ${field} = ${value}`)
    t.equal(reader.getattr(inoOf(reader, '/xattr/many'), newAttr()), 0)
  }
  const casesV5: readonly (readonly [string, string, bigint])[] = [
    ['/dedup/shifted', 'size', 2n ** 64n - 1n],
    ['/dedup/shifted', 'childCount', 0xffff_ffffn],
    ['/dedup/shifted', 'childCount', 0n],
    ['/dedup/shifted', 'ino', 1n],
    ['/dedup/shifted', 'nameSize', 0n],
    ['/dedup/shifted', 'nameSize', 257n],
    ['/dedup/shifted', 'mode', 0n],
    ['/deep', 'childIndex', 1n],
    ['/deep', 'childIndex', 0xffff_ffffn],
    ['/deep', 'childCount', 0x7fff_ffffn],
  ]
  for (const [path, field, value] of casesV5) {
    const ino = inoOf(v5.reader, path)
    const { reader } = openBytes(changed(V5, InodeV5, field, value, recordV5(V5, ino)))
    t.equal(reader.getattr(ino, newAttr()), -5, `v5 ${field} = ${value}`)
    t.equal(reader.getattr(inoOf(reader, '/xattr/many'), newAttr()), 0)
  }
})

t.test('a chunk that does not lie in its blob is EIO; chunks before it still read', async t => {
  const ino =
    [...walk(v6.reader, 128, Buffer.from('/'))].find(
      entry => (v6.reader.chunkList(entry.ino)?.chunkCount ?? 0) > 3,
    )?.ino ?? 0
  const index = Buffer.alloc(8)
  const intact = new Extents()
  v6.reader.read(ino, 0, 1 << 20, intact)
  const at = Math.floor((intact.wants[2]?.ref ?? 0) / 2 ** 24) * 8
  for (const bad of [
    { what: 'blob 0', bytes: [0, 0, 0, 0, 0, 0, 0, 0] },
    { what: 'no such blob', bytes: [0, 0, 9, 0, 0, 0, 0, 0] },
    { what: 'chunk number', bytes: [0xff, 0xff, 1, 0xff, 0, 0, 0, 0] },
    { what: 'block address', bytes: [0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff] },
  ]) {
    const bytes = Uint8Array.from(V6)
    index.set(bad.bytes)
    bytes.set(index, at)
    const { reader } = openBytes(bytes)
    t.equal(reader.read(ino, 0, 128 << 10, new Extents()), 128 << 10)
    t.equal(reader.read(ino, 128 << 10, 4096, new Extents()), -5, bad.what)
  }
})

t.test('folders that contain themselves', async t => {
  const deep = inoOf(v6.reader, '/deep')
  const child = inoOf(v6.reader, '/deep/level0')
  // The folder is inline: its entries stand behind its header.
  const entries = inodeV6(deep) + InodeExtendedV6.size
  for (const target of [deep, 128]) {
    const bytes = Uint8Array.from(V6)
    const view = new DataView(bytes.buffer)
    for (let i = 0; i < 3; i++) {
      const at = entries + i * DirentV6.size
      if (view.getUint32(at, true) === child) view.setUint32(at, target, true)
    }
    const { reader } = openBytes(bytes)
    t.equal(reader.lookup(deep, latin1('level0'), 0, 6), target)
    t.throws(() => [...walk(reader, 128, Buffer.from('/'))], { code: 'RAFS_LOOP', message: /two names/ })
    new Victim(bytes, false).pokeAll(128, 1000)
  }
  const self = inoOf(v5.reader, '/deep')
  const bytes = changed(V5, InodeV5, 'childIndex', BigInt(self), recordV5(V5, self))
  const { reader } = openBytes(bytes)
  t.equal(reader.lookup(self, latin1('level0'), 0, 6), -5)
  t.throws(() => [...walk(reader, 1, Buffer.from('/'))], { code: 'RAFS_BAD_INODE' })
})

/** A bounded run, or FUZZ_SECONDS for each image. */
const FUZZ_SECONDS = Number(process.env['FUZZ_SECONDS'] ?? 0)
const RUNS =
  FUZZ_SECONDS > 0 ? { numRuns: 1e9, interruptAfterTimeLimit: FUZZ_SECONDS * 1000 } : { numRuns: 40 }

t.test('several fields of any structs, at limits or exchanged with each other', async t => {
  for (const name of ['v5-lz4-blake3', 'v5-zstd-sha256', 'v6-lz4-64k', 'v6-batch', 'v6-zran', 'layers']) {
    const base = bytesOf(fixtureNamed(name).bootstrap)
    const intact = openBytes(base)
    const places = placesOf(base, intact)
    const fields = places.flatMap(({ table, start }) =>
      Object.keys(table.fields).map(field => ({ table, start, field })),
    )
    const oneField = fc.integer({ min: 0, max: fields.length - 1 })
    const outcomes = { refused: 0, served: 0 }
    fc.assert(
      fc.property(
        fc.array(fc.tuple(oneField, oneField, fc.nat(), fc.constantFrom('limit', 'other', 'any')), {
          minLength: 1,
          maxLength: 8,
        }),
        fc.boolean(),
        (changes, validate) => {
          let bytes = base
          for (const [at, from, number, how] of changes) {
            const { table, start, field } = fields[at] as (typeof fields)[number]
            const other = fields[from] as (typeof fields)[number]
            const nasty = [...nastyValues(base, table, field, start)]
            const value = {
              limit: nasty[number % nasty.length] ?? 0n,
              other: valueOf(base, other.table, other.field, other.start),
              any: BigInt(number),
            }[how]
            bytes = changed(bytes, table, field, value, start)
          }
          let victim
          try {
            victim = new Victim(bytes, validate)
          } catch (error) {
            outcomes.refused++
            return error instanceof NydusError
          }
          outcomes.served++
          victim.pokeAll(intact.reader.rootIno, 500)
          return true
        },
      ),
      RUNS,
    )
    t.ok(outcomes.served > 5, `${name}, ${places.length} structs: ${JSON.stringify(outcomes)}`)
  }
})

t.test('any bytes changed anywhere: answers and errors, never an exception, never a hang', async t => {
  for (const [base, root, from] of [
    [V5, 1, v5.sb.facts.inode_table_offset],
    [V6, 128, 8192],
  ] as const)
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(fc.integer({ min: from, max: base.length - 1 }), fc.integer({ min: 0, max: 255 })),
          {
            minLength: 1,
            maxLength: 400,
          },
        ),
        fc.boolean(),
        (changes, validate) => {
          const bytes = Uint8Array.from(base)
          for (const [at, value] of changes) bytes[at] = value
          let victim
          try {
            victim = new Victim(bytes, validate)
          } catch (error) {
            return error instanceof NydusError
          }
          victim.pokeAll(root, 500)
          return true
        },
      ),
      { numRuns: 60 },
    )
  t.pass()
})

t.test('cut anywhere: refused, or what is left is served and the rest is EIO', async t => {
  for (const [base, root] of [
    [V5, 1],
    [V6, 128],
  ] as const)
    for (let cut = base.length - 8; cut > 8192; cut -= base === V5 ? 1000 : 512)
      survive(base.subarray(0, cut), false, [root])
  t.pass()
})
