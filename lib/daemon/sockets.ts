/**
 * The paths of the two sockets: what may be there before, and that nothing but a dead socket is ever removed.
 */
import { lstat, readFile, stat, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname, resolve } from 'node:path'
import { NydusError } from '../base/errors.js'
import { errorCode, reason } from './reason.js'

/** sizeof(sockaddr_un.sun_path) less the NUL. */
const MAX_PATH_BYTES = 107

/** Flag of a listening socket in /proc/net/unix (SO_ACCEPTCON). */
const LISTENING = '00010000'

/**
 * Whether some process listens on the socket. The kernel's table is asked first: connecting would count as a
 * front-end, after which a vhost-user daemon of another make ends itself.
 */
async function isListening(path: string): Promise<boolean> {
  const names = new Set([path, resolve(path)])
  const table = await readFile('/proc/net/unix', 'utf8').catch(() => '')
  for (const line of table.split('\n').slice(1)) {
    const [, , , flags, , , , ...name] = line.trim().split(' ')
    if (flags === LISTENING && names.has(name.join(' '))) return true
  }
  // Not in the table: dead, or of another network namespace.
  return new Promise(done => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      done(true)
    })
    socket.once('error', error => done(errorCode(error) === 'EACCES' || errorCode(error) === 'EAGAIN'))
  })
}

/**
 * Makes sure that a socket can be bound at `path`; `flag` is the option that named it. Removes a socket that nobody
 * listens on. Throws NydusError START_SOCKET_….
 */
export async function clearSocketPath(path: string, flag: string): Promise<void> {
  const bytes = Buffer.byteLength(path)
  if (bytes > MAX_PATH_BYTES)
    throw new NydusError(
      'START_SOCKET_TOO_LONG',
      'ENAMETOOLONG',
      `${flag} ${path}: the path has ${bytes} bytes, a UNIX socket's may have ${MAX_PATH_BYTES}; use a shorter one`,
    )
  const folder = dirname(path)
  try {
    if (!(await stat(folder)).isDirectory()) throw new Error('it is not a folder')
  } catch (error) {
    throw new NydusError(
      'START_SOCKET_FOLDER',
      'ENOENT',
      `${flag} ${path}: the folder ${folder} cannot be used: ${reason(error)}`,
    )
  }
  const there = await lstat(path).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return undefined
    throw new NydusError('START_SOCKET_FOLDER', 'EINVAL', `${flag} ${path}: ${reason(error)}`)
  })
  if (there === undefined) return
  if (!there.isSocket())
    throw new NydusError(
      'START_SOCKET_EXISTS',
      'EEXIST',
      `${flag} ${path}: something that is not a socket is there already; remove it or choose another path`,
    )
  if (await isListening(path))
    throw new NydusError(
      'START_SOCKET_IN_USE',
      'EBUSY',
      `${flag} ${path}: another process listens there; stop it or choose another path`,
    )
  await unlink(path)
}

/** Removes a socket of ours; something else that took its place stays. */
export async function removeSocket(path: string): Promise<void> {
  const there = await lstat(path).catch(() => undefined)
  if (there?.isSocket()) await unlink(path).catch(() => {})
}
