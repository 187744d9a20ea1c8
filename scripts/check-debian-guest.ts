/**
 * A whole Debian out of an image: `node dist/scripts/check-debian-guest.js [FOLDER]` builds FOLDER, a root file system
 * (without it, debootstrap makes one with python3, perl and git, which takes the net and minutes), as RAFS v5 and v6, serves
 * each to a guest and lets programs of it run there after chroot; dpkg's checksums are verified by its own md5sum. As
 * root. No part of `npm test`.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { folderTree } from '../lib/image/testing/folder-tree.js'
import { Daemon } from '../vm-tests/daemon.js'
import type { Guest } from '../vm-tests/guest/guest.js'
import { projectRoot } from '../vm-tests/project.js'
import { bootGuest } from '../vm-tests/vm.js'
import { debianTree } from './bench/rootfs.js'

const PACKAGES = 'python3,perl,git,ca-certificates'
/** Emulated, a guest reads and digests a few MB in a second. */
const LONGEST_MS = 20 * 60_000
const POLL_MS = 500
/** Folders that are compared entry by entry; md5sum reads the contents of all. */
const COMPARED = [
  'etc',
  'var',
  'usr/bin',
  'usr/sbin',
  'usr/lib/python3',
  'usr/share/perl5',
  'usr/lib/git-core',
]

const tree = process.argv[2] ?? join(projectRoot, '.cache/debian-guest')
const started = performance.now()

function say(text: string): void {
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6)
  process.stdout.write(`[${seconds} s] ${text}\n`)
}

function expect(what: string, seen: string, wanted: string | RegExp): void {
  const right = typeof wanted === 'string' ? seen === wanted : wanted.test(seen)
  say(`${right ? 'ok    ' : 'WRONG '} ${what}${right ? '' : `: ${JSON.stringify(seen.slice(0, 2000))}`}`)
  if (!right) process.exitCode = 1
}

/** A record as the agent reads it: keys in order, a blank behind commas and colons, nothing but ASCII. */
function line(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(line).join(', ')}]`
  if (typeof value === 'object' && value !== null) {
    const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
    return `{${fields.map(([key, field]) => `${line(key)}: ${line(field)}`).join(', ')}}`
  }
  return JSON.stringify(value).replaceAll(
    /[\x7f-\xff]/g,
    c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** A command that takes longer than the agent waits for one: it runs in the guest's background. */
async function atLength(guest: Guest, command: string): Promise<string> {
  const job = `(${command}) >/tmp/said 2>&1; echo "exit $?" >>/tmp/said; touch /tmp/done`
  await guest.sh(`rm -f /tmp/done; { ${job}; } </dev/null >/dev/null 2>&1 &`)
  for (const from = performance.now(); performance.now() - from < LONGEST_MS; await sleep(POLL_MS))
    if ((await guest.trySh('test -e /tmp/done')).code === 0) return await guest.sh('cat /tmp/said')
  throw new Error(`in vain waited for the guest to end: ${command}`)
}

function build(version: string, folder: string): { bootstrap: string; blobs: string } {
  const [bootstrap, blobs] = [join(folder, 'bootstrap'), join(folder, 'blobs')]
  mkdirSync(blobs)
  const program = join(projectRoot, 'dist/bin/nydus-image')
  const before = performance.now()
  execFileSync(program, ['create', '--fs-version', version, '-B', bootstrap, '-D', blobs, tree], {
    stdio: 'ignore',
  })
  const size = readdirSync(blobs).reduce((sum, name) => sum + statSync(join(blobs, name)).size, 0)
  const seconds = ((performance.now() - before) / 1000).toFixed(1)
  say(`built as v${version} in ${seconds} s: blob of ${(size / 1e6).toFixed(0)} MB`)
  return { bootstrap, blobs }
}

async function programsRun(guest: Guest, root: string): Promise<void> {
  const chroot = (command: string): Promise<string> =>
    atLength(guest, `chroot ${root} /bin/sh -c '${command}'`)
  const release = await guest.release()
  expect('/bin/sh', await chroot('echo $((6*7)); uname -r'), `42\n${release}\nexit 0\n`)
  expect(
    '/etc/os-release',
    await chroot('. /etc/os-release; echo $ID $VERSION_CODENAME'),
    'debian bookworm\nexit 0\n',
  )
  expect(
    'python3',
    await chroot(
      `python3 -c "import json, hashlib, ssl; print(json.dumps([hashlib.sha256(b\\"nydus\\").hexdigest()[:8], ssl.OPENSSL_VERSION[:7]]))"`,
    ),
    /^\["[0-9a-f]{8}", "OpenSSL"\]\nexit 0\n$/,
  )
  expect('perl', await chroot('perl -MList::Util=sum -e "print sum(1..100), qq(\\n)"'), '5050\nexit 0\n')
  expect('git', await chroot('git --version'), /^git version 2\.\d+\.\d+\nexit 0\n$/)
  expect('dpkg', await chroot('dpkg-query -W | wc -l'), /^\d{2,4}\nexit 0\n$/)
  expect('read-only', await chroot('touch /etc/x'), /Read-only file system\nexit 1\n$/)
  const before = performance.now()
  // Of a debootstrap without man pages or the like files would be missing: that is no fault of an image.
  const sums = await chroot(
    'cd / && cat /var/lib/dpkg/info/*.md5sums | md5sum --quiet --ignore-missing -c && cat /var/lib/dpkg/info/*.md5sums | wc -l',
  )
  expect(
    `md5sums of all packages, ${((performance.now() - before) / 1000).toFixed(0)} s`,
    sums,
    /^\d+\nexit 0\n$/,
  )
}

async function check(version: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'nydus-debian-'))
  let daemon: Daemon | undefined
  let guest: Guest | undefined
  try {
    const { bootstrap, blobs } = build(version, folder)
    daemon = await Daemon.start()
    guest = await bootGuest({ fs: [{ socket: daemon.sock, tag: 'nydus' }], memoryMiB: 512 })
    await guest.mount('nydus', '/mnt')
    await guest.sh('dmesg -c >/dev/null')
    await daemon.mount('/debian', bootstrap, { blobs, workDir: join(folder, 'cache'), digestValidate: true })
    await programsRun(guest, '/mnt/debian')
    for (const path of COMPARED) {
      const manifest = folderTree(join(tree, path)).map(entry => `${line(entry)}\n`)
      const { entries, differences, lines } = await guest.compare(`/mnt/debian/${path}`, manifest.join(''))
      expect(`${path}: ${entries} entries compared`, differences === 0 ? '' : lines.join('\n'), '')
    }
    const { output } = await guest.trySh(`dmesg -r | grep '^<[0-3]>'`)
    expect('no errors in dmesg', output, '')
  } finally {
    await guest?.machine.kill()
    await daemon?.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

debianTree(tree, PACKAGES)
for (const version of ['5', '6']) await check(version)
