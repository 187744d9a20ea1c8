/**
 * The kernel's own EROFS as the judge of v6 metadata: it mounts exported disks, and bare bootstraps and tarfs images with
 * the plain data beside them as a device, and shows the tree that went in. Modules and disks come to the guest in an
 * image that nydusd serves.
 */
import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import t from 'tap'
import { findKernel, kernelFolder } from '../../qemu/kernel.js'
import { fixtureNamed } from '../fixtures.js'
import { projectRoot } from '../project.js'
import { daemonFor, guestFor, kernelIsContent, showsFixture } from '../stage.js'

const LAYER = '738f465d584b2cfbc7ff4474ab857f6977e4f34b193d66fbfea4e91a0f9d9f8c'
/** In the order of their dependencies. */
const MODULES = ['drivers/block/loop', 'lib/libcrc32c', 'fs/erofs/erofs']

const kernel = await findKernel()
const modules = join(kernelFolder(), 'lib/modules', kernel.release, 'kernel')
const places = MODULES.map(name => join(modules, `${name}.ko.xz`))
const missing = places.find(path => !existsSync(path))

const folder = mkdtempSync(join(tmpdir(), 'nydus-erofs-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const tree = join(folder, 'tree')
mkdirSync(tree)

function image(...argv: string[]): void {
  execFileSync(join(projectRoot, 'dist/bin/nydus-image'), argv, { stdio: ['ignore', 'pipe', 'pipe'] })
}

/** Disks of the reference's images and of ours, and what else the guest mounts. */
function fill(): void {
  for (const path of places)
    writeFileSync(join(tree, path.replace(/^.*\/(\w+\.ko)\.xz$/, '$1')), execFileSync('xz', ['-dc', path]))
  for (const name of ['v6-zstd-blake3', 'layers']) {
    const { bootstrap, blobs } = fixtureNamed(name)
    image('export', '--block', '-B', bootstrap, '-D', blobs, '-O', join(tree, `${name}.disk`))
  }
  const layer = join(fixtureNamed('v6-zran').blobs, LAYER)
  const blobs = join(folder, 'blobs')
  mkdirSync(blobs)
  image(
    'create',
    '-t',
    'targz-rafs',
    '--batch-size',
    '0x10000',
    '-B',
    join(folder, 'boot'),
    '-D',
    blobs,
    layer,
  )
  image('export', '--block', '-B', join(folder, 'boot'), '-D', blobs, '-O', join(tree, 'ours.disk'))
  image('create', '-t', 'targz-rafs', '--blob-cache-dir', blobs, '-B', join(tree, 'bare.boot'), layer)
  const data = readdirSync(blobs).find(name => name.endsWith('.blob.data')) ?? ''
  copyFileSync(join(blobs, data), join(tree, 'bare.data'))
  writeFileSync(join(tree, 'tarfs.data'), gunzipSync(readFileSync(layer)))
  image('create', '-t', 'tar-tarfs', '-B', join(tree, 'tarfs.boot'), '-D', folder, join(tree, 'tarfs.data'))
}

t.test('in-kernel EROFS', { skip: missing === undefined ? false : `no ${missing}` }, async t => {
  fill()
  const stored = join(folder, 'stored')
  mkdirSync(stored)
  image('create', '--compressor', 'none', '-B', join(folder, 'all'), '-D', stored, tree)
  const daemon = await daemonFor(t)
  const guest = await guestFor(t, daemon)
  await daemon.mount('/all', join(folder, 'all'), { blobs: stored, digestValidate: false })
  for (const path of places) await guest.sh(`insmod /mnt/all/${path.replace(/^.*\/(\w+\.ko)\.xz$/, '$1')}`)
  await guest.sh('mkdir /run/erofs')

  const shows = async (name: string, source: string, options: string, fixture: string): Promise<void> => {
    await t.test(name, async t => {
      await guest.sh(`mount -t erofs -o ro${options} ${source} /run/erofs`)
      await showsFixture(t, guest, '/run/erofs', fixtureNamed(fixture))
      await guest.sh('umount /run/erofs')
    })
  }
  const loops = async (...files: string[]): Promise<string[]> => {
    const devices: string[] = []
    for (const file of files) {
      const device = (await guest.sh('losetup -f')).trim()
      await guest.sh(`losetup -r ${device} /mnt/all/${file}`)
      devices.push(device)
    }
    return devices
  }
  for (const [disk, fixture] of [
    ['v6-zstd-blake3', 'v6-zstd-blake3'],
    ['layers', 'layers'],
    ['ours', 'v6-zran'],
  ] as const) {
    const [device = ''] = await loops(`${disk}.disk`)
    await shows(`the exported disk of ${disk}`, device, '', fixture)
  }
  for (const name of ['bare', 'tarfs']) {
    const [device = '', data = ''] = await loops(`${name}.boot`, `${name}.data`)
    await shows(`a bootstrap and its data: ${name}`, device, `,device=${data}`, 'v6-zran')
  }
  await kernelIsContent(t, guest)
})
