/**
 * `npm run demo`: the main job from end to end, on a real guest kernel. With `--shell` it leaves the user in a shell
 * in that guest instead of comparing.
 */
import { mkdirSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { explain } from '../lib/base/errors.js'
import { Daemon, daemonFile, instanceConfig } from '../vm-tests/daemon.js'
import { expectedManifest, fixtureNamed, type Fixture } from '../vm-tests/fixtures.js'
import type { Guest } from '../vm-tests/guest/guest.js'
import { projectRoot } from '../vm-tests/project.js'
import { bootGuest } from '../vm-tests/vm.js'

const FIRST = { mountpoint: '/first', image: fixtureNamed('v6-zstd-blake3') }
const SECOND = { mountpoint: '/second', image: fixtureNamed('v5-zstd-sha256') }

/** What a terminal sends for Ctrl-D. */
const END_OF_INPUT = '\x04'

const started = performance.now()

function say(text: string): void {
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(5)
  process.stdout.write(`[${seconds} s] ${text}\n`)
}

async function startDaemon(folder: string): Promise<Daemon> {
  const { image, mountpoint } = FIRST
  const workDir = join(folder, 'cache')
  mkdirSync(workDir)
  const options = { blobs: image.blobs, workDir, digestValidate: true }
  const config = daemonFile(folder, 'config.json', instanceConfig(options))
  const args = ['--config', config, '--bootstrap', image.bootstrap, '--virtual-mountpoint', mountpoint]
  const daemon = await Daemon.start(args, folder)
  say(`nydusd serves it on a vhost-user socket:\n          ${daemon.command}`)
  return daemon
}

async function mountSecond(daemon: Daemon): Promise<void> {
  const { image, mountpoint } = SECOND
  const workDir = join(daemon.folder, 'cache')
  await daemon.mount(mountpoint, image.bootstrap, { blobs: image.blobs, workDir, digestValidate: true })
  say(`second image (${image.about}) mounted through the API: POST /api/v1/mount?mountpoint=${mountpoint}`)
}

/** Compares what the guest shows at `mountpoint` with what the image holds; returns the number of entries. */
async function compare(guest: Guest, mountpoint: string, image: Fixture): Promise<number> {
  const result = await guest.compare(`/mnt${mountpoint}`, expectedManifest(image))
  if (result.differences > 0) {
    const lines = result.lines.map(line => `\n          ${line}`).join('')
    throw new Error(`${result.differences} of ${result.entries} entries differ at ${mountpoint}:${lines}`)
  }
  say(
    `the guest compared all ${result.entries} entries of /mnt${mountpoint} (type, mode, owner, times, links,`,
  )
  say('          devices, xattrs, sha256 of the content) with what the image must show: equal')
  return result.entries
}

/** Joins the user's terminal and the guest's console until the guest has shut down. */
async function shell(guest: Guest): Promise<void> {
  const { input, output } = guest.machine.console
  say('you are in the guest: look at /mnt/first and /mnt/second; `exit` ends it\n')
  const { stdin, stdout } = process
  output.pipe(stdout, { end: false })
  stdin.setRawMode?.(true)
  stdin.pipe(input, { end: false })
  stdin.once('end', () => input.write(END_OF_INPUT))
  const size = stdout.isTTY ? `rows ${stdout.rows} cols ${stdout.columns}` : ''
  await guest.sh(`echo ${size} > /run/shell`)
  await guest.machine.exited
  stdin.setRawMode?.(false)
  stdin.destroy()
}

async function demo(daemon: Daemon, wantsShell: boolean): Promise<string> {
  const guest = await bootGuest({ fs: [{ socket: daemon.sock, tag: 'nydus' }] })
  try {
    say(`a guest runs in QEMU: Linux ${await guest.release()}`)
    await guest.mount('nydus', '/mnt')
    say('guest: mount -t virtiofs nydus /mnt')
    if (wantsShell) {
      await mountSecond(daemon)
      await shell(guest)
      return 'ended: the guest has shut down'
    }
    const first = await compare(guest, FIRST.mountpoint, FIRST.image)
    await mountSecond(daemon)
    say(`guest: ls /mnt → ${(await guest.sh('ls /mnt')).trim().replaceAll('\n', ' ')}`)
    const second = await compare(guest, SECOND.mountpoint, SECOND.image)
    await guest.powerOff()
    return `passed: two RAFS images in a running guest, all ${first} + ${second} entries equal`
  } finally {
    await guest.machine.kill()
  }
}

async function main(args: readonly string[]): Promise<number> {
  const unknown = args.find(arg => arg !== '--shell')
  if (unknown !== undefined) {
    process.stderr.write(`demo: unknown option ${unknown}; the only one is --shell\n`)
    return 2
  }
  const folder = mkdtempSync(join(tmpdir(), 'nydus-demo-'))
  say(`a RAFS image from ${relative(projectRoot, FIRST.image.bootstrap)} (${FIRST.image.about})`)
  let daemon: Daemon | undefined
  process.once('SIGINT', () => void daemon?.stop().then(() => process.exit(130)))
  try {
    daemon = await startDaemon(folder)
    const outcome = await demo(daemon, args.includes('--shell'))
    await daemon.stop()
    say(`demo ${outcome}`)
    return 0
  } catch (error) {
    const log = daemon === undefined ? '' : `\n--- nydusd's log\n${daemon.log.slice(-4000)}`
    process.stderr.write(`${explain(error)}${log}\n`)
    await daemon?.stop()
    say('demo failed: the reason is above')
    return 1
  }
}

process.exitCode = await main(process.argv.slice(2))
