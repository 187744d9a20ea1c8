/** A chunk damaged in the backend: that read fails, the cache does not keep it, the log names it, a repair heals it. */
import { closeSync, cpSync, openSync, readSync, writeSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { RafsImage } from '../rafs/image.js'
import { expectedRecords, fixtureNamed, FIXTURES } from '../../vm-tests/fixtures.js'
import { connectGuest, startDaemon } from './testing/daemon.js'
import { guestTree, nodeAt, readAll } from './testing/guest-tree.js'
import { tempDir } from './testing/temp-dir.js'

const PATH = '/sizes/f524289'
const SIZE = 524_289

/**
 * Where the first chunk of the file starts in its blob. An image of version 5 tells it; the chunks of v6-none are neither
 * compressed nor aligned, so that each starts where the one with the next lower number ends.
 */
async function firstChunk(bootstrap: string) {
  const image = await RafsImage.open({ path: bootstrap, xattrs: false, validate: false })
  const ino = image.resolve(Buffer.from(PATH)) ?? -1
  const [chunk] = [...image.chunks(ino)]
  const blob = image.blobs[chunk?.blob ?? -1]
  if (chunk === undefined || blob === undefined) throw new Error('no such chunk')
  const { record, index, uncompressedSize } = chunk.want
  const sizes = new Map<number, number>()
  for (const entry of image.walk())
    for (const { want } of image.chunks(entry.ino))
      if (want.index < index) sizes.set(want.index, want.uncompressedSize)
  await image.close()
  if (record === undefined && blob.compressor !== 'none')
    throw new Error('the image does not tell where it lies')
  const offset = record?.compressedOffset ?? [...sizes.values()].reduce((sum, size) => sum + size, 0)
  return { id: blob.id, offset, size: record?.compressedSize ?? uncompressedSize, index }
}

function flip(path: string, offset: number): void {
  const fd = openSync(path, 'r+')
  const byte = Buffer.alloc(1)
  readSync(fd, byte, 0, 1, offset)
  writeSync(fd, Buffer.of(byte.readUInt8() ^ 0xff), 0, 1, offset)
  closeSync(fd)
}

const CASES = ['v5-zstd-sha256', 'v6-none'].flatMap(name =>
  [true, false].flatMap(cached => [true, false].map(digestValidate => ({ name, cached, digestValidate }))),
)

for (const { name, cached, digestValidate } of CASES)
  t.test(`${name}, ${cached ? 'blobcache' : 'no cache'}, digest_validate ${digestValidate}`, async t => {
    const fixture = FIXTURES.find(at => at.name === name)
    if (fixture === undefined) throw new Error('no fixture')
    const blobs = tempDir(t)
    cpSync(fixture.blobs, blobs, { recursive: true })
    const chunk = await firstChunk(fixture.bootstrap)
    const place = chunk.offset + Math.floor(chunk.size / 2)
    flip(`${blobs}/${chunk.id}`, place)

    const daemon = await startDaemon(t)
    const options = { blobs, digestValidate, ...(cached && { workDir: `${daemon.folder}/cache` }) }
    await daemon.mount('/a', fixture.bootstrap, options)
    const fuse = await connectGuest(t, daemon)
    const node = await nodeAt(fuse, `/a${PATH}`)
    const read = () => readAll(fuse, node, SIZE)
    await t.rejects(read(), { message: /EIO/ }, 'the damaged bytes do not reach the guest')
    await t.rejects(read(), { message: /EIO/ }, 'nor do they from the cache')
    const other = await nodeAt(fuse, '/a/sizes')
    t.ok(other > 0n, 'the rest of the image is there')
    while (!daemon.log.includes('"msg":"a read failed"')) await delay(5)
    const line = daemon.log.split('\n').find(at => at.includes('"msg":"a read failed"')) ?? ''
    t.ok(line.includes(chunk.id), `names the blob: ${line}`)
    t.match(line, new RegExp(`chunk ${chunk.index}\\b`), 'names the chunk')
    t.ok(line.includes(`at ${chunk.offset})`), 'names the offset')
    const events = (await daemon.api('GET', 'daemon/events')) as { errors: string[] }
    t.ok(
      events.errors.some(error => error.includes(chunk.id)),
      'the events tell it, too',
    )

    flip(`${blobs}/${chunk.id}`, place)
    t.equal((await read()).length, SIZE, 'healed')
    t.strictSame(await guestTree(fuse, '/a'), expectedRecords(fixtureNamed(fixture.name)))
  })
