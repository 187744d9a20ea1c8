/**
 * The guest's kernel: Debian's own cloud kernel, taken out of its package by scripts/setup and never installed.
 *
 * Everything that a virtiofs guest needs is built into it (Debian 12's 6.1 has virtiofs as a module, 6.12 has it
 * built in), so the initramfs carries no modules.
 */
import { readdir, readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { NydusError } from '../lib/base/errors.js'

export interface Kernel {
  /** Path of the bzImage. */
  readonly image: string
  /** What `uname -r` says in the guest. */
  readonly release: string
}

/** What has to be built in: PCI transport, the file system, the port that the agent talks over, the console. */
const NEEDED = [
  'CONFIG_VIRTIO_PCI',
  'CONFIG_VIRTIO_FS',
  'CONFIG_VIRTIO_CONSOLE',
  'CONFIG_SERIAL_8250_CONSOLE',
  'CONFIG_DEVTMPFS',
]

/** Where scripts/setup puts it; outside the project, so that every checkout shares one download. */
export function kernelFolder(): string {
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache')
  return join(cache, 'nydus-ts', 'kernel')
}

/** The kernel that scripts/setup unpacked. Throws QEMU_NO_KERNEL when it is not there or can't be a guest. */
export async function findKernel(folder: string = kernelFolder()): Promise<Kernel> {
  const boot = join(folder, 'boot')
  const names = await readdir(boot).catch(() => [])
  const name = names.find(candidate => candidate.startsWith('vmlinuz-'))
  if (name === undefined)
    throw new NydusError(
      'QEMU_NO_KERNEL',
      'ENOENT',
      `no kernel in ${boot}: run scripts/setup, which fetches it`,
    )
  const release = name.slice('vmlinuz-'.length)
  const config = new Set((await readFile(join(boot, `config-${release}`), 'utf8')).split('\n'))
  const missing = NEEDED.filter(option => !config.has(`${option}=y`))
  if (missing.length > 0)
    throw new NydusError(
      'QEMU_NO_KERNEL',
      'ENOSYS',
      `kernel ${release} has no ${missing.join(', ')} built in: delete ${folder} and run scripts/setup`,
    )
  return { image: join(boot, name), release }
}
