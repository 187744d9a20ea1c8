/**
 * The daemon: starts the layers in order, ends them in order.
 *
 *     command line ── checks ── device listens ── log ── mounts ── lanes ── RUNNING ── API socket
 *                                                   SIGTERM, SIGINT, PUT daemon/exit ── all of it backwards
 *
 * A *device* is where requests come from (a vhost-user socket), *lanes* answer them, the *yard* is this thread. A
 * front-end may come and go; the daemon stays. Nothing imports this folder but the programs in tools/.
 */
import { explain, NydusError } from '../base/errors.js'
import type { Device, Native } from '../native.js'
import { DeviceEvents } from './device-events.js'
import { Ends } from './ends.js'
import { ErrorEvents } from './error-events.js'
import { raiseFileLimit } from './file-limit.js'
import type { DaemonOptions } from './options.js'
import { checkStart } from './start-checks.js'
import { untilStopped } from './stop-signals.js'
import { buildInfo } from './version.js'

/** The end of a daemon that hangs somewhere: whoever stops it kills it after 5 s (Kata) and leaves a mess. */
const END_MS = 3000

export type Environment = Readonly<Record<string, string | undefined>>

/** Runs until told to end. Rejects with NydusError when it cannot start; nothing is left behind then. */
export async function runDaemon(options: DaemonOptions, env: Environment): Promise<void> {
  const ends = new Ends()
  const stopping = untilStopped()
  ends.add(() => stopping.forget())
  try {
    await checkStart(options)
    const { native } = await import('../native.js')
    const limitWarning = raiseFileLimit(native, options.rlimitNofile)
    const events = new DeviceEvents()
    const device = openDevice(native, options, events)
    ends.add(() => device.stop())
    // The socket listens: what takes longer comes from here on.
    const { openLog } = await import('./log.js')
    const errors = new ErrorEvents()
    const { log, flush } = await openLog(options, errors)
    ends.add(flush)
    const { version, commit, time } = buildInfo()
    log.info({ version, commit, built: time, mode: options.mode, sock: options.sock }, 'nydusd starts')
    if (limitWarning !== undefined) log.warn({}, limitWarning)
    const { startServices } = await import('./services.js')
    const started = startServices({
      options,
      env,
      native,
      device,
      events,
      log,
      errors,
      ends,
      stop: stopping.stop,
    })
    const why = await Promise.race([stopping.stopped, started.then(() => stopping.stopped)])
    log.info({ why }, 'nydusd ends')
    setTimeout(() => {
      log.warn({}, 'the end takes too long: leaving without it')
      flush()
      process.exit(0)
    }, END_MS).unref()
    ends.onError = error => log.warn({ error: explain(error) }, 'the end was not clean')
  } finally {
    await ends.run()
  }
}

/** Where requests come from, by mode: more ways would be more branches here. */
function openDevice(native: Native, options: DaemonOptions, events: DeviceEvents): Device {
  const { sock, requestQueues, lanes, pollUs } = options
  if (sock === undefined)
    throw new NydusError('START_UNSUPPORTED', 'EINVAL', `mode ${options.mode} has no device`)
  try {
    return native.createVhostDevice({ path: sock, requestQueues, lanes, pollUs }, events.add)
  } catch (error) {
    throw new NydusError('START_SOCKET_LISTEN', 'EIO', `--sock ${sock}: cannot listen there`, {
      cause: error,
    })
  }
}
