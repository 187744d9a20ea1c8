/** Everything behind the device, put together: mounts, cache, lanes, API. */
import { systemClock } from '../base/clock.js'
import { explain } from '../base/errors.js'
import { workerEntry } from '../base/program-files.js'
import { newCounters } from '../fuse/counters.js'
import { Lanes } from '../fuse/lanes.js'
import type { Device, Native } from '../native.js'
import type { ImageHandle } from '../rafs/handle.js'
import type { MountChange } from '../vfs/changes.js'
import { ColdReads } from '../vfs/cold-reads.js'
import { MountTable } from '../vfs/mount-table.js'
import type { Environment } from './daemon.js'
import { DaemonControl } from './daemon-control.js'
import type { DeviceEvents } from './device-events.js'
import type { Ends } from './ends.js'
import type { ErrorEvents } from './error-events.js'
import { Images } from './images.js'
import { Instances } from './instances.js'
import { Lifecycle } from './lifecycle.js'
import type { DaemonLog } from './log.js'
import { DaemonMetrics } from './metrics.js'
import { prepareFirstMount } from './mount-request.js'
import type { DaemonOptions } from './options.js'
import { ProgramPages } from './program-pages.js'
import { SettingsStore } from './settings.js'
import { survive } from './survive.js'

export interface ServicesContext {
  readonly options: DaemonOptions
  readonly env: Environment
  readonly native: Native
  readonly device: Device
  readonly events: DeviceEvents
  readonly log: DaemonLog['log']
  readonly errors: ErrorEvents
  /** Gets the end of everything that is started. */
  readonly ends: Ends
  /** Ends the daemon. */
  readonly stop: (why: string) => void
}

/** Resolves when the daemon serves, and its API socket is there. Throws NydusError. */
export async function startServices(context: ServicesContext): Promise<void> {
  const { options, env, native, device, events, log, errors, ends, stop } = context
  events.logTo(log)
  ends.add(survive(log))
  const lifecycle = new Lifecycle((from, to, event) => log.info({ from, to, event }, 'state'))

  const settings = new SettingsStore()
  const images: Images = new Images(settings, log, options.lanes, {
    settled: () => table.settled(),
    holds: (file, offset, length): boolean => coldReads.holds(file, offset, length),
  })
  ends.add(() => images.close())
  const table: MountTable<ImageHandle> = new MountTable({
    lanes: { broadcast: change => lanes.broadcast(change) },
    lookupCount: slot => device.lookupCount(slot),
    // One part for each lane, and one for reads that fail in the yard.
    newCounters: () => newCounters(options.lanes + 1),
    onClosed: slot => coldReads.abortSlot(slot),
    sleep: ms => systemClock.sleep(ms),
    onError: error => log.error({ error: explain(error) }, 'mounts'),
  })
  const pages = new ProgramPages(() => native.dropProgramPages(), log)
  ends.add(() => pages.close())
  const instances = new Instances(table, { images, log, onMounted: () => pages.used() })
  ends.add(() => instances.close())
  const coldReads: ColdReads = new ColdReads({
    source: instances,
    onFailed: read => instances.readFailed(read, options.lanes),
    complete: (ticket, status, extents) => device.completeDeferred(ticket, status, extents),
    log,
  })
  ends.add(() => coldReads.abortAll('the daemon ends'))
  const lanes: Lanes<MountChange<ImageHandle>> = new Lanes({
    device,
    lanes: options.lanes,
    entry: workerEntry('fuse/lane-worker'),
    // Without an API nobody can mount or unmount.
    fixedMounts: options.apisock === undefined && options.supervisor === undefined,
    snapshot: () => table.snapshot(),
    onColdReads: reads => coldReads.add(reads),
    quit: () => native.quit(),
    log,
  })

  lanes.boot()
  ends.add(() => lanes.stop())
  // While lanes start.
  if (options.bootstrap !== undefined) await images.preload()

  // Before the lanes serve: a guest that is there already must not see an empty root first.
  const first = await prepareFirstMount(options, env['IMAGE_PULL_AUTH'])
  if (first) await instances.mount(options.virtualMountpoint, first)
  lifecycle.take('Mount')
  lanes.start()
  lifecycle.take('Start')
  pages.used()

  const { apisock } = options
  if (apisock === undefined) return
  const { startApi } = await import('./api.js')
  const metrics = new DaemonMetrics(instances, images, coldReads)
  const control = new DaemonControl({ options, lifecycle, instances, settings, metrics, errors, log, stop })
  const api = await startApi(apisock, control, log)
  ends.add(() => api.close())
  await images.preload()
}
