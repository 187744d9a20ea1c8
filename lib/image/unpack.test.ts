/** unpack: every kind of image becomes an archive that GNU tar turns back into the same tree. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openBackend } from '../backend/open.js'
import { silentLog } from '../base/log.js'
import { tempDir } from '../daemon/testing/temp-dir.js'
import { RafsImage } from '../rafs/image.js'
import { expectedRecords, fixtureNamed, FIXTURES } from '../../vm-tests/fixtures.js'
import { differences } from '../../vm-tests/manifest.js'
import { written } from './output.js'
import { extract } from './testing/extract.js'
import { folderTree } from './testing/folder-tree.js'
import { unpackImage } from './unpack.js'

async function unpack(bootstrap: string, blobs: string, output: string) {
  const image = await RafsImage.open({ path: bootstrap, xattrs: true, validate: true })
  const backend = await openBackend(
    { type: 'localfs', localfs: { dir: blobs, blob_file: '', alt_dirs: [] } },
    { log: silentLog },
  )
  try {
    return await written(output, out => unpackImage(image, backend, out, { stored: () => undefined }))
  } finally {
    await backend.close()
    await image.close()
  }
}

for (const fixture of FIXTURES)
  t.test(`${fixture.name}: ${fixture.about}`, async t => {
    const dir = tempDir(t)
    const done = await unpack(fixture.bootstrap, fixture.blobs, join(dir, 'x.tar'))
    mkdirSync(join(dir, 'x'))
    extract(join(dir, 'x.tar'), join(dir, 'x'))
    const manifest = expectedRecords(fixture)
    const sockets = manifest.filter(({ type }) => type === 'sock')
    t.strictSame(
      differences(
        manifest.filter(({ type }) => type !== 'sock'),
        folderTree(join(dir, 'x')),
      ),
      [],
    )
    t.strictSame(
      done.left,
      sockets.map(({ path }) => path),
      'tar has no sockets: they are named',
    )
    t.strictSame(readdirSync(dir).sort(), ['x', 'x.tar'], 'nothing temporary is left')
  })

t.test('a damaged chunk: its file is named, and there is no archive', async t => {
  const dir = tempDir(t)
  const { bootstrap, blobs } = fixtureNamed('v6-zstd-blake3')
  const [id] = readdirSync(blobs)
  const bytes = readFileSync(join(blobs, id ?? ''))
  bytes[1000] = (bytes[1000] ?? 0) ^ 1
  writeFileSync(join(dir, id ?? ''), bytes)
  await t.rejects(unpack(bootstrap, dir, join(dir, 'x.tar')), {
    code: 'IMAGE_DAMAGED',
    message: new RegExp(`^/.*: blob ${id}: `),
  })
  t.strictSame(readdirSync(dir), [id])
})
