/** nydusd in a process of its own, and a guest of it, for the length of a test. */
import { VhostFrontend } from '../../../addon/test/frontend.js'
import { FuseClient } from '../../../addon/test/fuse-client.js'
import { Daemon } from '../../../vm-tests/daemon.js'
import { tempDir } from './temp-dir.js'

interface Ending {
  teardown(end: () => unknown): void
}

export async function startDaemon(t: Ending, args?: readonly string[]): Promise<Daemon> {
  const daemon = await Daemon.start(args, tempDir(t))
  t.teardown(() => daemon.stop())
  return daemon
}

export async function connectGuest(t: Ending, daemon: Daemon): Promise<FuseClient> {
  const frontend = new VhostFrontend({ path: daemon.sock })
  t.teardown(() => frontend.close())
  await frontend.connect()
  await frontend.start()
  const fuse = new FuseClient(frontend)
  await fuse.init()
  return fuse
}
