/** What can be wrong with a command line once files are looked at: one sentence each, before anything is started. */
import { NydusError } from '../base/errors.js'
import type { DaemonOptions } from './options.js'
import { clearSocketPath } from './sockets.js'

function refuse(
  code: 'START_UNSUPPORTED' | 'START_NO_CONFIG' | 'START_SOCKET_EXISTS',
  message: string,
): never {
  throw new NydusError(code, 'EINVAL', message)
}

/** Throws NydusError START_…; removes dead sockets that are in the way. */
export async function checkStart(options: DaemonOptions): Promise<void> {
  const { mode, sock, apisock } = options
  if (mode === 'fuse')
    refuse(
      'START_UNSUPPORTED',
      'FUSE mode (--mountpoint) is not available in this release: serve a virtual machine with --sock',
    )
  if (mode === 'singleton')
    refuse('START_UNSUPPORTED', 'singleton mode is not available in this release: use virtiofs with --sock')
  if (options.upgrade)
    refuse('START_UNSUPPORTED', '--upgrade: a vhost-user device cannot be taken over; start without it')
  if (options.sharedDir !== undefined)
    refuse(
      'START_UNSUPPORTED',
      '--shared-dir (a folder of the host) is not available: serve an image with --bootstrap',
    )
  if (options.bootstrap !== undefined && options.config === undefined && options.localfsDir === undefined)
    refuse(
      'START_NO_CONFIG',
      '--bootstrap needs --config <file>, which says where the blobs are, or --localfs-dir <dir>',
    )
  if (sock !== undefined && sock === apisock)
    refuse('START_SOCKET_EXISTS', `--sock and --apisock name the same path ${sock}; they are two sockets`)
  if (sock !== undefined) await clearSocketPath(sock, '--sock')
  if (apisock !== undefined) await clearSocketPath(apisock, '--apisock')
}
