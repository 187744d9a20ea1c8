/**
 * The life of a virtual machine on one daemon: reboots, resets, the driver unbound and bound, QEMU killed and started
 * anew with another shape, memory added, and the daemon's own end.
 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { daemonFile, instanceConfig } from '../daemon.js'
import { fixtureNamed } from '../fixtures.js'
import type { Guest } from '../guest/guest.js'
import { daemonFor, guestFor, showsFixture } from '../stage.js'

const fixture = fixtureNamed('v5-lz4-blake3')

// The command line of 2020: one image, from the start, at the root.
const folder = mkdtempSync(join(tmpdir(), 'nydus-lifecycle-'))
const options = { blobs: fixture.blobs, workDir: join(folder, 'cache'), digestValidate: true }
const config = daemonFile(folder, 'config.json', instanceConfig(options))
const daemon = await daemonFor(t, ['--config', config, '--bootstrap', fixture.bootstrap], folder)
const first = await guestFor(t, daemon)

/** The guest has everything to do: mount, and look at all of the image. */
async function worksFromScratch(t: Test, guest: Guest): Promise<void> {
  await guest.mount('nydus', '/mnt')
  await showsFixture(t, guest, '/mnt', fixture)
}

/** Readers that go on until `stopReaders`, so that requests are on their way whatever happens. */
async function startReaders(guest: Guest): Promise<void> {
  await guest.sh(`rm -f /tmp/stop; for i in 1 2 3 4; do
    (until [ -e /tmp/stop ]; do
      echo 3 > /proc/sys/vm/drop_caches; cat /mnt/sizes/*; ls -lR /mnt
    done) >/dev/null 2>&1 &
  done`)
}

async function stopReaders(guest: Guest): Promise<void> {
  await guest.sh('touch /tmp/stop; while pidof cat ls; do usleep 50000; done')
}

t.test('the image given on the command line is at the root', async t => {
  await showsFixture(t, first, '/mnt', fixture)
})

t.test('reboots: each session starts with nothing of the one before', async t => {
  for (let i = 0; i < 2; i++) {
    await first.reboot()
    await worksFromScratch(t, first)
  }
})

t.test('a reset in the middle of reads', async t => {
  await startReaders(first)
  await first.reset()
  await worksFromScratch(t, first)
})

t.test('the driver unbound, mounted and busy, and bound again', async t => {
  const device = (await first.sh('ls /sys/bus/virtio/drivers/virtiofs | grep ^virtio')).trim()
  await startReaders(first)
  await first.sh(`echo ${device} > /sys/bus/virtio/drivers/virtiofs/unbind`)
  await stopReaders(first)
  t.equal((await first.trySh('ls /mnt/sizes')).code, 1, 'no device, no files')
  await first.sh('umount -l /mnt')
  await first.sh(`echo ${device} > /sys/bus/virtio/drivers/virtiofs/bind`)
  await worksFromScratch(t, first)
})

t.test('QEMU killed in the middle of reads; another one, of another shape, on the same daemon', async t => {
  await startReaders(first)
  await first.machine.kill()
  const fs = [{ socket: daemon.sock, tag: 'nydus', requestQueues: 2, queueSize: 256 }]
  const guest = await guestFor(t, daemon, { fs, cpus: 2, memoryMiB: 256, maxMemoryMiB: 1024 })
  await showsFixture(t, guest, '/mnt', fixture)

  t.test('both request queues work', async t => {
    t.match(await guest.sh('cat /sys/fs/virtiofs/*/mqs/*/name'), /requests\.0\nrequests\.1/)
    await guest.dropCaches()
    const sums = await guest.sh(`for cpu in 1 2; do
      taskset $cpu sh -c 'cat /mnt/sizes/* | sha256sum' &
    done; wait`)
    const [one, two] = sums.trim().split('\n')
    t.match(one, /^[0-9a-f]{64} /)
    t.equal(one, two, 'two processors read the same')
  })

  t.test('memory added to the running guest is used for reads', async t => {
    const before = Number(await guest.sh(`awk '/MemTotal/ {print $2}' /proc/meminfo`))
    await guest.machine.qmp.addMemory('more', 512)
    await guest.sh(
      `until [ $(awk '/MemTotal/ {print $2}' /proc/meminfo) -gt ${before + 400_000} ]; do usleep 50000; done`,
    )
    await guest.sh('mount -t tmpfs -o size=300M big /tmp && dd if=/dev/zero of=/tmp/filler bs=1M count=260')
    await guest.dropCaches()
    await showsFixture(t, guest, '/mnt', fixture)
  })

  t.test('the daemon ends at once on SIGTERM, busy guest or not', async t => {
    await startReaders(guest)
    t.equal(await daemon.stop(), 'exit code 0')
  })
})
