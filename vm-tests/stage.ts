/** What the cases share: a daemon and guests that end with their test, and that explain themselves when it fails. */
import type { Test } from 'tap'
import type { MachineShape } from '../qemu/args.js'
import { Daemon } from './daemon.js'
import { expectedManifest, type Fixture } from './fixtures.js'
import type { Guest } from './guest/guest.js'
import { bootGuest } from './vm.js'

const LOG_CHARACTERS = 20_000

/** A daemon that is stopped at the end of `t`; its log is shown when `t` has failed. */
export async function daemonFor(t: Test, args?: readonly string[], folder?: string): Promise<Daemon> {
  const daemon = await Daemon.start(args, folder)
  t.teardown(async () => {
    const ended = await daemon.stop()
    if (!t.passing()) t.comment(`nydusd: ${ended}, its log:\n${daemon.log.slice(-LOG_CHARACTERS)}`)
  })
  return daemon
}

/** A guest on `daemon`, mounted at /mnt with the tag `nydus`; it ends with `t`, its console is shown on failure. */
export async function guestFor(t: Test, daemon: Daemon, shape: Partial<MachineShape> = {}): Promise<Guest> {
  const guest = await bootGuest({ fs: [{ socket: daemon.sock, tag: 'nydus' }], ...shape })
  t.teardown(async () => {
    if (!t.passing()) t.comment(guest.machine.report())
    await guest.machine.kill()
  })
  await guest.mount('nydus', '/mnt')
  await guest.sh('dmesg -c >/dev/null')
  return guest
}

/** Asserts that `folder` in the guest shows exactly what `fixture` holds. */
export async function showsFixture(t: Test, guest: Guest, folder: string, fixture: Fixture): Promise<void> {
  const expected = expectedManifest(fixture)
  const result = await guest.compare(folder, expected)
  const entries = expected.toString().trimEnd().split('\n').length
  t.strictSame(result, { entries, differences: 0, lines: [] }, `${folder} shows ${fixture.name}`)
}

/** Asserts that the guest's kernel has logged no warning and nothing worse since it mounted. */
export async function kernelIsContent(t: Test, guest: Guest): Promise<void> {
  const { output } = await guest.trySh(`dmesg -r | grep '^<[0-4]>'`)
  t.equal(output, '', 'no complaints in dmesg')
}
