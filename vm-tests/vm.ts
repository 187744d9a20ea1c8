/** Boots a guest: kernel, initramfs and QEMU put together. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { MachineShape } from '../qemu/args.js'
import { findKernel } from '../qemu/kernel.js'
import { startMachine } from '../qemu/launch.js'
import { Guest } from './guest/guest.js'
import { guestImage } from './guest/image.js'

/** Starts a machine of the wanted shape and returns when its agent answers. */
export async function bootGuest(shape: Omit<MachineShape, 'kernel' | 'initrd'>): Promise<Guest> {
  const kernel = await findKernel()
  const folder = await mkdtemp(join(tmpdir(), 'nydus-guest-'))
  try {
    const initrd = join(folder, 'initramfs')
    await writeFile(initrd, guestImage())
    // QEMU has mapped the file when it connects, so that it may go then.
    return await Guest.boot(await startMachine({ ...shape, kernel: kernel.image, initrd }))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
