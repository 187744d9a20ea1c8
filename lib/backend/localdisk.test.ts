import { execFile } from 'node:child_process'
import { open, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { openLocaldisk } from './localdisk.js'
import { patternBlob } from './testing/blob-server.js'

const run = promisify(execFile)
const MIB = 1 << 20
const FIRST = 'd1a3ae8700e8a79628adfc8c2330e30df921108807a46efa259d0a779ac7fb5f'
const SECOND = '0123456789abcdef0123456789abcdeffedcba9876543210fedcba9876543210'
const LEGACY = 'aa'.repeat(32)

/** The last 32 characters of an id as sfdisk wants a GUID. */
function guid(id: string): string {
  return id.slice(32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** A disk with sectors of 4096 bytes: a loop device over `image`. */
async function loop(t: Test, image: string): Promise<string> {
  const { stdout } = await run('losetup', ['--find', '--show', '--sector-size', '4096', image])
  const device = stdout.trim()
  t.teardown(() => run('losetup', ['--detach', device]))
  return device
}

/** A disk partitioned by sfdisk (util-linux), with pattern data in its partitions. */
async function disk(t: Test, sector = 512): Promise<string> {
  const image = join(t.testdir({ 'disk.img': '' }), 'disk.img')
  await truncate(image, 16 * MIB)
  const path = sector === 512 ? image : await loop(t, image)
  const linux = '0FC63DAF-8483-4772-8E79-3D69D8477DE4'
  const basic = 'EBD0A0A2-B9E5-4433-87C0-68B6B72699C7'
  const script = [
    'label: gpt',
    `start=${MIB / sector}, size=${(2 * MIB) / sector}, type=${linux}, name=${FIRST.slice(0, 32)}, uuid=${guid(FIRST)}`,
    `start=${(4 * MIB) / sector}, size=${MIB / sector}, type=${linux}, name=${SECOND.slice(0, 32)}, uuid=${guid(SECOND)}`,
    `start=${(6 * MIB) / sector}, size=${MIB / sector}, type=${basic}, name=${LEGACY.slice(0, 32)}`,
  ].join('\n')
  const sfdisk = run('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', path])
  sfdisk.child.stdin?.end(script)
  await sfdisk
  const file = await open(path, 'r+')
  await file.write(patternBlob(2 * MIB), 0, 2 * MIB, MIB)
  await file.write(patternBlob(MIB).reverse(), 0, MIB, 4 * MIB)
  await file.write(Buffer.alloc(MIB, 0x4c), 0, MIB, 6 * MIB)
  await file.close()
  return path
}

function backend(t: Test, device_path: string, disable_gpt = false) {
  const made = openLocaldisk({ type: 'localdisk', localdisk: { device_path, disable_gpt } })
  t.teardown(() => made.close())
  return made
}

async function read(
  made: ReturnType<typeof backend>,
  id: string,
  offset: number,
  length: number,
): Promise<Buffer> {
  const into = Buffer.alloc(length)
  await made.open(id).read(into, offset)
  return into
}

for (const sector of [512, 4096])
  t.test(`partitions of a disk with sectors of ${sector} bytes, as sfdisk writes them`, async t => {
    const made = backend(t, await disk(t, sector))
    t.equal(await made.open(FIRST).size(), 2 * MIB)
    t.ok((await read(made, FIRST, 12_345, 100_000)).equals(patternBlob(2 * MIB).subarray(12_345, 112_345)))
    t.ok(
      (await read(made, SECOND, MIB - 10, 10)).equals(
        patternBlob(MIB)
          .reverse()
          .subarray(MIB - 10),
      ),
    )
    t.ok((await read(made, LEGACY, 0, 10)).equals(Buffer.alloc(10, 0x4c)), 'by name alone')
    await t.rejects(read(made, SECOND, MIB - 10, 11), { code: 'BACKEND_SHORT_READ' }, 'not into the next')
    await t.rejects(read(made, 'ee'.repeat(32), 0, 1), {
      code: 'BACKEND_BLOB_MISSING',
      message: /none of the 3 partitions/,
    })
    const other = FIRST.slice(0, 32) + 'ff'.repeat(16)
    await t.rejects(read(made, other, 0, 1), { code: 'BACKEND_BLOB_MISSING' }, 'the name alone is not enough')
    t.equal(made.metrics.readCount, 6)
    t.equal(made.metrics.readErrors, 3)
  })

t.test('a damaged first table gives way to the copy at the end', async t => {
  const path = await disk(t)
  const file = await open(path, 'r+')
  await file.write(Buffer.alloc(16, 0xff), 0, 16, 512 + 40)
  await file.close()
  t.equal(await backend(t, path).open(SECOND).size(), MIB)
})

t.test('two damaged tables are an error, and a repaired disk is read', async t => {
  const path = await disk(t)
  const good = await readFile(path)
  const bad = Buffer.from(good)
  bad.fill(0xff, 1024 + 32, 1024 + 48)
  bad.fill(0xff, bad.length - 33 * 512 + 32, bad.length - 33 * 512 + 48)
  await writeFile(path, bad)
  const made = backend(t, path)
  await t.rejects(made.open(FIRST).size(), {
    code: 'BACKEND_DISK_FAILED',
    message: /partition table at 512: the entries do not match their checksum/,
  })
  await writeFile(path, good)
  t.equal(await made.open(FIRST).size(), 2 * MIB)
})

t.test('no damage to a partition table shows other bytes than before', async t => {
  const path = await disk(t)
  const file = await open(path, 'r+')
  t.teardown(() => file.close())
  const flip = async (at: number) => {
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, at)
    byte[0] = (byte[0] ?? 0) ^ 0xff
    await file.write(byte, 0, 1, at)
  }
  const last = 16 * MIB - 512
  for (const header of [512, last])
    for (let at = header; at < header + 92; at++) {
      await flip(at)
      const made = openLocaldisk({ type: 'localdisk', localdisk: { device_path: path, disable_gpt: false } })
      if ((await made.open(SECOND).size()) !== MIB) t.fail(`byte ${at}`)
      await made.close()
      await flip(at)
    }
  await flip(512 + 16)
  await flip(last + 16)
  await t.rejects(backend(t, path).open(SECOND).size(), { code: 'BACKEND_DISK_FAILED', message: /checksum/ })
})

t.test('a device that is one blob: disable_gpt, or no table on it', async t => {
  const path = await disk(t)
  t.equal(await backend(t, path, true).open(FIRST).size(), 16 * MIB)
  const plain = join(t.testdir({}), 'plain.img')
  await writeFile(plain, patternBlob(5000))
  const made = backend(t, plain)
  t.equal(await made.open('any').size(), 5000)
  t.ok((await read(made, 'any', 4000, 1000)).equals(patternBlob(5000).subarray(4000)))
})

t.test('a device that is not there', async t => {
  const made = backend(t, '/nonexistent/disk')
  await t.rejects(made.open(FIRST).size(), {
    code: 'BACKEND_DISK_FAILED',
    errno: 'EIO',
    message: /localdisk \/nonexistent\/disk cannot be opened.*device_path/,
  })
  await made.close()
  await t.rejects(made.open(FIRST).size(), { code: 'BACKEND_CLOSED' })
})

t.test('an aborted read', async t => {
  const made = backend(t, await disk(t))
  await t.rejects(made.open(FIRST).read(Buffer.alloc(1), 0, { signal: AbortSignal.abort() }))
  t.equal(made.metrics.readCount, 0)
})
