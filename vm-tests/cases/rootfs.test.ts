/**
 * Programs that run from an image: the shell of this machine with its loader and libraries, built by our nydus-image in
 * both versions, is what a guest runs after chroot. The kernel maps it as it does a container's programs.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t from 'tap'
import { projectRoot } from '../project.js'
import { daemonFor, guestFor, kernelIsContent } from '../stage.js'

const PROGRAMS = ['/bin/sh', '/usr/bin/sha256sum', '/usr/bin/sort', '/usr/bin/ls']
const folder = mkdtempSync(join(tmpdir(), 'nydus-rootfs-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const tree = join(folder, 'tree')

function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8' })
}

/** Files that a program needs, by the names that it asks for: ldd prints "name => /path (address)" or "/path (address)". */
function needed(program: string): string[] {
  return [program, ...[...run('ldd', program).matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path ?? '')]
}

for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
  mkdirSync(join(tree, 'usr', name), { recursive: true })
  symlinkSync(`usr/${name}`, join(tree, name))
}
for (const path of new Set(PROGRAMS.flatMap(needed))) {
  const to = join(tree, path)
  mkdirSync(dirname(to), { recursive: true })
  cpSync(realpathSync(path), to)
}

const daemon = await daemonFor(t)
const guest = await guestFor(t, daemon)
const sums = PROGRAMS.map(path => `${run('sha256sum', realpathSync(path)).split(' ')[0]}  ${path}\n`)

for (const version of ['5', '6'])
  t.test(`a shell out of a RAFS v${version} image`, async t => {
    const [bootstrap, blobs] = [join(folder, `bootstrap-${version}`), join(folder, `blobs-${version}`)]
    mkdirSync(blobs)
    const image = ['create', '--fs-version', version, '-B', bootstrap, '-D', blobs, tree]
    run(join(projectRoot, 'dist/bin/nydus-image'), ...image)
    t.ok(readFileSync(bootstrap).length > 0)
    const workDir = join(folder, `cache-${version}`)
    await daemon.mount(`/v${version}`, bootstrap, { blobs, workDir, digestValidate: true })
    const chroot = (command: string): Promise<string> =>
      guest.sh(`chroot /mnt/v${version} /bin/sh -c '${command}'`)
    t.equal(await chroot('echo $((6*7)); (echo b; echo a) | sort'), '42\na\nb\n')
    t.equal(await chroot(`sha256sum ${PROGRAMS.join(' ')}`), sums.join(''), 'it reads itself, byte for byte')
    t.equal(await chroot('ls /'), 'bin\nlib\nlib64\nsbin\nusr\n')
    t.match(await chroot('echo x >/usr/bin/sort || echo refused'), /Read-only file system\nrefused/)
    const appended = await chroot('echo x >>/usr/bin/sort || echo refused; sha256sum /usr/bin/sort')
    t.equal(appended.split('refused\n')[1], sums[2], 'refused, and unchanged')
    await daemon.umount(`/v${version}`)
  })

t.test('the guest kernel has nothing to complain about', async t => {
  await kernelIsContent(t, guest)
})
