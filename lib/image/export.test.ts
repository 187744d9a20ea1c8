/** export: disks that erofs-utils and, where there is one, the kernel's own EROFS read as the tree they come from. */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
  closeSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { runTool } from '../build/testing/image-tool.js'
import { openBackend } from '../backend/open.js'
import { silentLog } from '../base/log.js'
import { tempDir } from '../daemon/testing/temp-dir.js'
import { RafsImage } from '../rafs/image.js'
import { expectedRecords, fixtureNamed } from '../../vm-tests/fixtures.js'
import { differences, type ManifestRecord } from '../../vm-tests/manifest.js'
import { DeviceSlotV6 } from '../rafs/layout/v6.js'
import { exportImage } from './export.js'
import { written } from './output.js'
import { folderTree } from './testing/folder-tree.js'

const V6 = ['v6-none', 'v6-zstd-blake3', 'v6-lz4-64k', 'v6-batch', 'v6-zran', 'v6-toc-inline', 'layers']

async function exported(name: string, disk: string, verity = false) {
  const { bootstrap, blobs } = fixtureNamed(name)
  const image = await RafsImage.open({ path: bootstrap, xattrs: true, validate: true })
  const backend = await openBackend(
    { type: 'localfs', localfs: { dir: blobs, blob_file: '', alt_dirs: [] } },
    { log: silentLog },
  )
  try {
    return await written(disk, output =>
      exportImage(image, backend, output, verity, { stored: () => undefined }),
    )
  } finally {
    await backend.close()
    await image.close()
  }
}

/** Whether this machine's kernel can be asked: it must know EROFS and lend a loop device. */
const kernelMounts =
  readFileSync('/proc/filesystems', 'utf8').includes('erofs') && readdirSync('/dev').includes('loop-control')

/** erofs-utils want each blob as a file of its own. */
async function deviceFiles(name: string, disk: string, dir: string): Promise<string[]> {
  const image = await RafsImage.open({ path: disk, xattrs: true, validate: false })
  const whole = readFileSync(disk)
  const files = image.blobs.map((_, i) => {
    const slot = DeviceSlotV6.read(whole, image.facts.blob_device_table_offset + i * DeviceSlotV6.size)
    const path = join(dir, `${name}.${i}`)
    writeFileSync(path, whole.subarray(slot.mappedBlkaddr * 4096, (slot.mappedBlkaddr + slot.blocks) * 4096))
    return path
  })
  await image.close()
  return files
}

t.test('threads: as many as one likes make the same disk, and the first failure ends them all', async t => {
  const dir = tempDir(t)
  for (const name of ['v6-batch', 'v6-zran', 'layers']) {
    const { bootstrap, blobs } = fixtureNamed(name)
    const disks = ['1', '4', '32'].map(threads => [threads, join(dir, `${name}.${threads}`)] as const)
    for (const [threads, disk] of disks) {
      const argv = ['export', '--block', '-B', bootstrap, '-D', blobs, '-O', disk, '--threads', threads]
      const { code, stderr } = await runTool(...argv)
      t.equal(code, 0, stderr)
    }
    const [one, ...others] = disks.map(([, disk]) => readFileSync(disk))
    for (const other of others) t.ok(one?.equals(other), name)
  }
  const { bootstrap } = fixtureNamed('v6-none')
  const before = readdirSync(dir)
  const argv = ['export', '--block', '-B', bootstrap, '-D', dir, '-O', join(dir, 'none')]
  const { code, stderr } = await runTool(...argv, '--threads', '4')
  t.equal(code, 1)
  t.match(stderr, /^Error: [^\n]*d1a3ae8700e8[^\n]*\n$/, 'the blob that is missing is named')
  t.strictSame(readdirSync(dir), before)
})

for (const name of V6)
  t.test(name, async t => {
    const dir = tempDir(t)
    const disk = join(dir, 'x.disk')
    await exported(name, disk)
    const manifest = expectedRecords(fixtureNamed(name))

    const devices = await deviceFiles(name, disk, dir)
    const into = join(dir, 'fsck')
    const fsck = spawnSync(
      'fsck.erofs',
      [...devices.map(path => `--device=${path}`), `--extract=${into}`, '--preserve', disk],
      { encoding: 'utf8' },
    )
    t.equal(fsck.status, 0, fsck.stderr)
    // fsck.erofs 1.5 extracts files, folders and links, and neither xattrs, hard links nor set-id bits.
    const plain = (records: readonly ManifestRecord[]) =>
      records
        .filter(({ type }) => ['file', 'dir', 'symlink'].includes(type))
        .map(record => ({ ...record, mode: record.mode & 0o1777 }))
        .map(record =>
          Object.fromEntries(Object.entries(record).filter(([key]) => !['nlink', 'xattrs'].includes(key))),
        )
        .map(record => record as unknown as ManifestRecord)
    t.strictSame(differences(plain(manifest), plain(folderTree(into))), [], 'fsck.erofs extracts the tree')

    if (!kernelMounts) return
    const mountpoint = join(dir, 'mnt')
    mkdirSync(mountpoint)
    execFileSync('mount', ['-t', 'erofs', '-o', 'loop,ro', disk, mountpoint])
    try {
      t.strictSame(differences(manifest, folderTree(mountpoint)), [], 'the kernel shows the tree')
    } finally {
      execFileSync('umount', [mountpoint])
    }
  })

t.test('bare bootstraps: erofs-utils find nothing wrong, and count what is there', async t => {
  const dir = tempDir(t)
  const manifest = expectedRecords(fixtureNamed('v6-zran'))
  const layer = readdirSync(fixtureNamed('v6-zran').blobs).find(name => name.startsWith('738f465d')) ?? ''
  const source = join(fixtureNamed('v6-zran').blobs, layer)
  /** Stands for the blob: nothing of it is looked at. */
  const device = join(dir, 'device')
  writeFileSync(device, '')
  truncateSync(device, 32 << 20)
  for (const options of [
    ['-t', 'targz-rafs'],
    ['-t', 'targz-rafs', '--compressor', 'lz4_block', '--batch-size', '0x10000'],
    ['-t', 'targz-rafs', '--chunk-size', '0x1000', '--features', 'blob-toc', '--encrypt'],
    ['-t', 'targz-ref'],
  ]) {
    const about = options.join(' ')
    const boot = join(dir, 'boot')
    const { code, stderr } = await runTool('create', ...options, '-B', boot, '-D', dir, source)
    t.equal(code, 0, stderr)
    const fsck = spawnSync('fsck.erofs', [`--device=${device}`, boot], { encoding: 'utf8' })
    t.strictSame([fsck.status, fsck.stderr], [0, ''], `fsck.erofs: ${about}`)
    const dump = spawnSync('dump.erofs', ['-S', `--device=${device}`, boot], { encoding: 'utf8' })
    t.equal(dump.status, 0, dump.stderr)
    for (const [label, type] of [
      ['regular file', 'file'],
      ['directory', 'dir'],
      ['char dev', 'chr'],
      ['block dev', 'blk'],
      ['FIFO file', 'fifo'],
      ['symlink file', 'symlink'],
    ] as const) {
      const [, count] = new RegExp(`${label} count:\\s+(\\d+)`).exec(dump.stdout) ?? []
      t.equal(Number(count), manifest.filter(entry => entry.type === type).length, `${about}: ${label}`)
    }
  }
})

t.test('verity: veritysetup agrees, and notices a changed bit', async t => {
  const dir = tempDir(t)
  const disk = join(dir, 'x.disk')
  const { verity, size } = await exported('layers', disk, true)
  if (verity === undefined) throw new Error('no verity')
  t.equal(verity.hashOffset, size)
  const verify = () =>
    spawnSync(
      'veritysetup',
      [
        'verify',
        '--no-superblock',
        '--format=1',
        '-s',
        '-',
        '--hash=sha256',
        '--data-block-size=4096',
        '--hash-block-size=4096',
        '--data-blocks',
        String(verity.dataBlocks),
        '--hash-offset',
        String(verity.hashOffset),
        disk,
        disk,
        verity.rootHash,
      ],
      { encoding: 'utf8' },
    )
  const good = verify()
  t.equal(good.status, 0, good.stderr)
  const fd = openSync(disk, 'r+')
  const byte = Buffer.alloc(1)
  readSync(fd, byte, 0, 1, size - 4096)
  byte[0] = (byte[0] ?? 0) ^ 1
  writeSync(fd, byte, 0, 1, size - 4096)
  closeSync(fd)
  t.not(verify().status, 0)
  t.equal(statSync(disk).size > size, true)
})

t.test('what no kernel mounts is refused, and leaves no file', async t => {
  const dir = tempDir(t)
  await t.rejects(exported('v5-lz4-blake3', join(dir, 'x.disk')), { code: 'EXPORT_VERSION' })
  t.strictSame(readdirSync(dir), [])
})
