/** The initramfs of a test guest: busybox, the init script and the agent. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { NydusError } from '../../lib/base/errors.js'
import { busybox, initramfs, type InitramfsEntry } from '../../qemu/initramfs.js'
import { projectRoot } from '../project.js'

const FOLDERS = ['dev', 'proc', 'sys', 'tmp', 'run', 'mnt', 'etc', 'root']

function read(path: string): Buffer {
  try {
    return readFileSync(join(projectRoot, path))
  } catch (cause) {
    throw new NydusError(
      'GUEST_NOT_BUILT',
      'ENOENT',
      `${path} is missing: run scripts/setup, which makes it`,
      { cause },
    )
  }
}

/** The archive, to be handed to QEMU as `-initrd`. */
export function guestImage(): Buffer {
  const entries: InitramfsEntry[] = [
    ...busybox(),
    ...FOLDERS.map(path => ({ type: 'folder', path }) as const),
    { type: 'file', path: 'init', content: read('vm-tests/guest/init'), mode: 0o755 },
    { type: 'file', path: 'agent', content: read('dist/guest/agent'), mode: 0o755 },
    { type: 'file', path: 'etc/profile', content: Buffer.from("PS1='guest:$PWD# '\n"), mode: 0o644 },
  ]
  return initramfs(entries)
}
