/** The archive's own corners, judged by GNU tar; sizes that no disk of a test has room for, by our reader. */
import { lstatSync, mkdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parsePax, parseTarHeader, TAR_TYPE } from '../build/tar-header.js'
import { tempDir } from '../daemon/testing/temp-dir.js'
import { native } from '../native.js'
import { written } from './output.js'
import { extract } from './testing/extract.js'
import { paxTime, TarWriter, type TarMember } from './tar-writer.js'

const BASE: TarMember = {
  type: TAR_TYPE.FILE,
  path: Buffer.from('f'),
  mode: 0o640,
  uid: 0,
  gid: 0,
  mtime: 1_600_000_000,
  mtimeNs: 0,
  size: 0,
  xattrs: [],
}

async function archive(path: string, members: readonly (TarMember & { readonly content?: string })[]) {
  await written(path, async output => {
    const tar = new TarWriter(output)
    for (const member of members) {
      await tar.member({ ...member, size: member.content?.length ?? 0 })
      if (member.content !== undefined) await tar.content(Buffer.from(member.content))
    }
    await tar.end()
  })
}

t.test('GNU tar extracts what does not fit into a ustar header', async t => {
  const dir = tempDir(t)
  const into = join(dir, 'x')
  mkdirSync(into)
  // 0xff is no UTF-8; the whole path has 411 bytes, and no part of it fits into a prefix.
  const long = Buffer.concat([Buffer.alloc(200, 'd'), Buffer.from([0x2f, 0xff]), Buffer.alloc(209, 'n')])
  const exact = Buffer.concat([Buffer.alloc(155, 'p'), Buffer.from('/'), Buffer.alloc(100, 'q')])
  const target = Buffer.alloc(300, 't')
  const value = Buffer.from([0, 10, 61, 255])
  await archive(join(dir, 'a.tar'), [
    { ...BASE, path: long, content: 'long' },
    { ...BASE, path: exact, content: 'exact' },
    { ...BASE, path: Buffer.from('link'), type: TAR_TYPE.SYMLINK, linkname: target, mode: 0o777 },
    { ...BASE, path: Buffer.from('hard'), type: TAR_TYPE.LINK, linkname: long },
    { ...BASE, path: Buffer.from('owner'), uid: 3_000_000, gid: 4_000_000_000 },
    { ...BASE, path: Buffer.from('old'), mtime: -3, mtimeNs: 500_000_000 },
    { ...BASE, path: Buffer.from('late'), mtime: 2 ** 33 + 7, mtimeNs: 0 },
    { ...BASE, path: Buffer.from('xattr'), xattrs: [{ name: Buffer.from('user.a=b%3D'), value }] },
  ])
  extract(join(dir, 'a.tar'), into)
  const at = (name: Uint8Array): Buffer => Buffer.concat([Buffer.from(`${into}/`), name])
  t.equal(readFileSync(at(long), 'utf8'), 'long')
  t.equal(readFileSync(at(exact), 'utf8'), 'exact')
  t.equal(lstatSync(at(Buffer.from('hard'))).ino, lstatSync(at(long)).ino)
  t.equal(readlinkSync(at(Buffer.from('link'))).length, 300)
  t.equal(lstatSync(at(Buffer.from('owner'))).uid, 3_000_000)
  t.equal(lstatSync(at(Buffer.from('owner'))).gid, 4_000_000_000)
  t.equal(lstatSync(at(Buffer.from('old')), { bigint: true }).mtimeNs, -2_500_000_000n)
  t.equal(lstatSync(at(Buffer.from('late'))).mtimeMs, (2 ** 33 + 7) * 1000)
  t.strictSame(Buffer.from(native.lgetxattr(at(Buffer.from('xattr')), Buffer.from('user.a=b%3D'))), value)
})

t.test('a file of a terabyte says so in a pax record', async t => {
  const dir = tempDir(t)
  await written(join(dir, 'a.tar'), async output => {
    await new TarWriter(output).member({ ...BASE, size: 2 ** 40 })
  })
  const bytes = readFileSync(join(dir, 'a.tar'))
  const header = parseTarHeader(bytes.subarray(0, 512), 0)
  t.equal(header.type, TAR_TYPE.PAX)
  t.strictSame(parsePax(bytes.subarray(512, 512 + header.size), 512), [
    { key: 'size', value: Buffer.from(String(2 ** 40)) },
  ])
})

t.test('times in decimal', async t => {
  t.equal(paxTime(5, 0), '5')
  t.equal(paxTime(5, 1), '5.000000001')
  t.equal(paxTime(-1, 999_000_000), '-0.001')
  t.equal(paxTime(-3, 0), '-3')
})
