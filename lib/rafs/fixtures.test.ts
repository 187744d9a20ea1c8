import { createHash } from 'node:crypto'
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeHere } from '../cache/decoder.js'
import t, { type Test } from 'tap'
import type { BlobHandle, ChunkWant } from '../cache/cache.js'
import { newAttr, type FileSystem } from '../vfs/filesystem.js'
import { openRafs } from './fs.js'
import { RafsImage } from './image.js'
import { CiRecordV1 } from './layout/v6.js'
import { expectedRecords, fixtureNamed, FIXTURES, type Fixture } from '../../vm-tests/fixtures.js'
import { statRecord, type ManifestRecord } from '../../vm-tests/manifest.js'
import { Bytes, Entries, Extents, latin1 } from './testing/sinks.js'

const HEADER = 4096

/** Handles of a cache that has all chunks (`ready`) or none. */
function handles(image: RafsImage, folder: string, ready: boolean): BlobHandle[] {
  return image.blobs.map(blob => {
    const mapPath = join(folder, `${blob.blobIndex}.chunk_map`)
    writeFileSync(mapPath, Buffer.alloc(HEADER + Math.ceil(blob.chunkCount / 8), ready ? 0xff : 0))
    return {
      fileId: 1000 + blob.blobIndex,
      mapPath,
      mapLength: HEADER + Math.ceil(blob.chunkCount / 8),
      bitsOffset: HEADER,
      chunkCount: blob.chunkCount,
    }
  })
}

/** Bytes of extents of the bootstrap, which are read through its descriptor. */
function fromBootstrap(fd: number, out: Extents): Buffer {
  return Buffer.concat(
    out.extents.map(({ offset, length }) => {
      const bytes = Buffer.alloc(length)
      readSync(fd, bytes, 0, length, offset)
      return bytes
    }),
  )
}

/** What the FileSystem shows of one inode, in the manifest's words. */
function describe(fs: FileSystem, fd: number, path: string, ino: number): ManifestRecord {
  const attr = newAttr()
  if (fs.getattr(ino, attr) !== 0) throw new Error(`${path}: getattr failed`)
  const record = statRecord(path, attr)
  const names = new Bytes()
  fs.listxattr(ino, names)
  const xattrs: Record<string, string> = {}
  for (const name of names.text.split('\0').slice(0, -1)) {
    const out = new Extents()
    const bytes = latin1(name)
    const length = fs.getxattr(ino, bytes, 0, bytes.length, out)
    xattrs[name] = fromBootstrap(fd, out).toString('hex')
    if (xattrs[name].length !== 2 * length) throw new Error(`${path}: ${name} has ${length} bytes`)
  }
  const link = new Extents()
  if (record.type === 'symlink') fs.readlink(ino, link)
  return {
    ...record,
    ...(record.type === 'symlink' && { target: fromBootstrap(fd, link).toString('latin1') }),
    ...(Object.keys(xattrs).length > 0 && { xattrs }),
  }
}

/** Every path through READDIR; looks each name up as a guest would, and back through its parent. */
function* tree(fs: FileSystem, ino: number, path: string): Generator<{ path: string; ino: number }> {
  yield { path: path === '' ? '/' : path, ino }
  const all = new Entries()
  fs.readdir(ino, 0, all)
  for (const { name, ino: child, mode } of all.entries) {
    if (name === '.' || name === '..') continue
    const bytes = latin1(`xx${name}yy`)
    if (fs.lookup(ino, bytes, 2, bytes.length - 4) !== child)
      throw new Error(`${path}/${name}: lookup differs`)
    if (mode !== 0o040000) yield { path: `${path}/${name}`, ino: child }
    else {
      if (fs.parent(child) !== ino) throw new Error(`${path}/${name}: parent is ${fs.parent(child)}`)
      yield* tree(fs, child, `${path}/${name}`)
    }
  }
}

const byPath = (a: { path: string }, b: { path: string }) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0)

async function opened(fixture: Fixture, t: Test, validate: boolean, ready = true) {
  const image = await RafsImage.open({
    path: fixture.bootstrap,
    workDir: t.testdir(),
    xattrs: true,
    validate,
  })
  t.teardown(() => image.close())
  const handle = image.handle(handles(image, t.testdirName, ready))
  return { image, handle, fs: openRafs(handle) }
}

for (const fixture of FIXTURES) {
  for (const validate of [false, true])
    t.test(`${fixture.name}: every entry is as expected, digest_validate ${validate}`, async t => {
      const { handle, fs } = await opened(fixture, t, validate)
      const found = [...tree(fs, fs.rootIno, '')].map(({ path, ino }) =>
        describe(fs, handle.bootstrapFd, path, ino),
      )
      const want = expectedRecords(fixture).map(({ sha256: _sha256, ...entry }) => entry)
      t.strictSame(found.sort(byPath), want.sort(byPath))
    })

  t.test(`${fixture.name}: hard links are one inode`, async t => {
    const { fs } = await opened(fixture, t, false)
    const names = new Map<number, number>()
    const attr = newAttr()
    for (const { ino } of tree(fs, fs.rootIno, '')) names.set(ino, (names.get(ino) ?? 0) + 1)
    for (const [ino, count] of names) {
      fs.getattr(ino, attr)
      if ((attr.mode & 0o170000) === 0o100000) t.equal(count, attr.nlink, `inode ${ino}`)
      else t.equal(count, 1)
    }
  })

  t.test(`${fixture.name}: a listing can be resumed at every cookie, and not at others`, async t => {
    const { fs } = await opened(fixture, t, false)
    for (const { ino } of tree(fs, fs.rootIno, '')) {
      const all = new Entries()
      if (fs.readdir(ino, 0, all) < 0) continue
      const one: typeof all.entries = []
      for (let cookie = 0; ;) {
        const single = new Entries(1)
        if (fs.readdir(ino, cookie, single) === 0) break
        one.push(...single.entries)
        cookie = single.entries[0]?.next ?? NaN
      }
      t.strictSame(one, all.entries)
      t.strictSame(
        all.entries
          .map(entry => entry.name)
          .filter(name => /^\.{1,2}$/.test(name))
          .sort(),
        ['.', '..'],
      )
      for (const cookie of [-1, 1.5, NaN, 2 ** 52]) t.ok(fs.readdir(ino, cookie, new Entries()) <= 0)
    }
  })
}

/** Plain bytes of one chunk, by what the want says (v5), or by the blob's own table (v6 without compression). */
type Fetch = (blob: number, want: ChunkWant) => Buffer

function contentOf(
  fs: FileSystem,
  image: RafsImage,
  ino: number,
  size: number,
  fetch: Fetch,
  step: number,
): string {
  const hash = createHash('sha256')
  for (let offset = 0; offset < size + step; offset += step) {
    const out = new Extents()
    const length = fs.read(ino, offset, step, out)
    if (length !== Math.max(0, Math.min(step, size - offset)) || out.length !== length)
      throw new Error(`inode ${ino} at ${offset}: ${length} bytes, ${out.length} in extents`)
    // Nothing is cached, so that every extent comes with its want.
    for (const [i, { blob, ref, chunkOffset, length: bytes }] of out.wants.entries()) {
      const want = image.want(blob, ref)
      const extent = out.extents[i]
      if (extent?.file !== 1000 + blob || extent.offset !== want.uncompressedOffset + chunkOffset)
        throw new Error(`inode ${ino} at ${offset}: extent does not lie where its chunk goes`)
      hash.update(fetch(blob, want).subarray(chunkOffset, chunkOffset + bytes))
    }
  }
  return hash.digest('hex')
}

function checkContent(t: Test, fixture: Fixture, fs: FileSystem, image: RafsImage, fetch: Fetch): void {
  const inos = new Map([...tree(fs, fs.rootIno, '')].map(({ path, ino }) => [path, ino]))
  for (const { path, type, size = 0, sha256 } of expectedRecords(fixture)) {
    if (type !== 'file') continue
    const ino = inos.get(path) ?? -1
    t.equal(contentOf(fs, image, ino, size, fetch, size > 1 << 20 ? 777_777 : 131_072), sha256, path)
  }
}

function reader(path: string, t: Test): (offset: number, length: number) => Buffer {
  const fd = openSync(path, 'r')
  t.teardown(() => closeSync(fd))
  return (offset, length) => {
    const bytes = Buffer.alloc(length)
    readSync(fd, bytes, 0, length, offset)
    return bytes
  }
}

for (const name of ['v5-lz4-blake3', 'v5-zstd-sha256'])
  t.test(`${name}: reads name the chunks that hold the content`, async t => {
    const fixture = fixtureNamed(name)
    const { image, fs } = await opened(fixture, t, false, false)
    const read = image.blobs.map(blob => reader(join(fixture.blobs, blob.id), t))
    checkContent(t, fixture, fs, image, (blob, { record, uncompressedSize }) => {
      const stored =
        read[blob]?.(record?.compressedOffset ?? 0, record?.compressedSize ?? 0) ?? Buffer.alloc(0)
      if (record?.compressed !== true) return stored
      const plain = Buffer.alloc(uncompressedSize)
      const compressor = name.includes('lz4') ? 'lz4_block' : 'zstd'
      const unit = { compressed: true, encrypted: false, outputSize: uncompressedSize }
      decodeHere({ compressor, digester: 'sha256' }, unit, [], stored, plain)
      return plain
    })
  })

t.test('v6-none: reads name the chunks that hold the content', async t => {
  const fixture = fixtureNamed('v6-none')
  const { image, fs } = await opened(fixture, t, false, false)
  const [blob] = image.blobs
  if (blob === undefined) throw new Error('no blob')
  const read = reader(join(fixture.blobs, blob.id), t)
  const table = read(blob.ci.offset, blob.ci.compressedSize)
  checkContent(t, fixture, fs, image, (_, want) => {
    const { uncompressed, compressed } = CiRecordV1.read(table, want.index * CiRecordV1.size)
    // rafs-v6.md §7, v1 record.
    if (Number(uncompressed & 0xfffffff_f000n) !== want.uncompressedOffset)
      throw new Error(`chunk ${want.index}: offset`)
    const size = Number(((compressed >> 44n) & 0xfffffn) | (((compressed >> 40n) & 0xfn) << 20n)) + 1
    if (size !== want.uncompressedSize) throw new Error(`chunk ${want.index}: size`)
    return read(Number(compressed & 0xff_ffff_ffffn), size)
  })
})

t.test('a read of what is cached wants nothing, and one of what is not wants exactly that', async t => {
  const fixture = fixtureNamed('v6-lz4-64k')
  const { image, handle, fs } = await opened(fixture, t, false, false)
  const distinct = (ino: number) => new Set([...image.chunks(ino)].map(chunk => chunk.want.index)).size
  const file = [...tree(fs, fs.rootIno, '')].find(({ ino }) => distinct(ino) > 4)
  if (file === undefined) throw new Error('no such file')
  const chunks = [...image.chunks(file.ino)]
  const mapPath = handle.blobs[0]?.mapPath ?? ''
  const map = readFileSync(mapPath)
  const cached = chunks[1]?.want.index ?? 0
  map[HEADER + (cached >>> 3)] = 0x80 >>> (cached & 7)
  // In place: the lane has mapped the file.
  writeFileSync(mapPath, map, { flag: 'r+' })
  const out = new Extents()
  fs.read(file.ino, 0, 3 * 65536, out)
  t.strictSame(
    out.wants.map(({ blob, ref }) => image.want(blob, ref).index),
    [chunks[0]?.want.index, chunks[2]?.want.index],
  )
  t.equal(out.length, 3 * 65536)
})
