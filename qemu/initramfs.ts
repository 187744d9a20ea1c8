/**
 * Initramfs images: cpio archives of the "newc" kind (Documentation/driver-api/early-userspace/buffer-format.rst
 * in the kernel's sources), uncompressed because QEMU hands them over in memory anyway.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { NydusError } from '../lib/base/errors.js'

/** One entry, its path without a leading slash. Folders come before what is in them. */
export type InitramfsEntry =
  | { readonly type: 'folder'; readonly path: string }
  | { readonly type: 'link'; readonly path: string; readonly target: string }
  | { readonly type: 'file'; readonly path: string; readonly content: Uint8Array; readonly mode: number }

const S_IFDIR = 0o040000
const S_IFREG = 0o100000
const S_IFLNK = 0o120000

/** Header fields, in order: each is eight hexadecimal digits. */
function header(ino: number, mode: number, size: number, nameSize: number): string {
  const fields = { ino, mode, uid: 0, gid: 0, nlink: 1, mtime: 0, size }
  const devices = { devMajor: 0, devMinor: 0, rdevMajor: 0, rdevMinor: 0 }
  return (
    '070701' +
    Object.values({ ...fields, ...devices, nameSize, check: 0 })
      .map(value => value.toString(16).padStart(8, '0'))
      .join('')
  )
}

/** Bytes up to the next multiple of four: names (with their header) and contents are padded to it. */
function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4)
}

function content(entry: InitramfsEntry): [mode: number, bytes: Uint8Array] {
  switch (entry.type) {
    case 'folder':
      return [S_IFDIR | 0o755, Buffer.alloc(0)]
    case 'link':
      return [S_IFLNK | 0o777, Buffer.from(entry.target)]
    case 'file':
      return [S_IFREG | entry.mode, entry.content]
  }
}

/** The archive of `entries`, all owned by root. */
export function initramfs(entries: readonly InitramfsEntry[]): Buffer {
  const parts: Uint8Array[] = []
  const add = (ino: number, path: string, mode: number, bytes: Uint8Array): void => {
    const name = Buffer.from(`${path}\0`)
    const head = Buffer.from(header(ino, mode, bytes.length, name.length))
    parts.push(head, name, padding(head.length + name.length), bytes, padding(bytes.length))
  }
  entries.forEach((entry, index) => add(index + 1, entry.path, ...content(entry)))
  add(0, 'TRAILER!!!', 0, Buffer.alloc(0))
  return Buffer.concat(parts)
}

/** Busybox from the host with a link for each of its applets in /bin. Throws QEMU_NO_BUSYBOX. */
export function busybox(path = '/bin/busybox'): InitramfsEntry[] {
  try {
    const applets = execFileSync(path, ['--list'], { encoding: 'utf8' }).trim().split('\n')
    return [
      { type: 'folder', path: 'bin' },
      { type: 'file', path: 'bin/busybox', content: readFileSync(path), mode: 0o755 },
      ...applets
        .filter(applet => applet !== 'busybox')
        .map(applet => ({ type: 'link', path: `bin/${applet}`, target: 'busybox' }) as const),
    ]
  } catch (cause) {
    throw new NydusError(
      'QEMU_NO_BUSYBOX',
      'ENOENT',
      `no busybox at ${path}: run scripts/setup, which installs it`,
      {
        cause,
      },
    )
  }
}
