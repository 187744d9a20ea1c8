/** What the API can make the daemon do. */
import { NydusError } from '../base/errors.js'
import { redacted } from './config/redact.js'
import type { BackendInfo, Control, DaemonInfo, Metrics, MountRequest, Settings } from './control.js'
import type { ErrorEvents, EventReport } from './error-events.js'
import type { Instances } from './instances.js'
import type { Lifecycle, LifecycleEvent } from './lifecycle.js'
import type { DaemonLog } from './log.js'
import { defaultConfigText, prepareMount } from './mount-request.js'
import type { DaemonOptions, LogLevel } from './options.js'
import type { SettingsStore } from './settings.js'
import { buildInfo, runtime } from './version.js'

export interface ControlContext {
  readonly options: DaemonOptions
  readonly lifecycle: Lifecycle
  readonly instances: Instances
  readonly settings: SettingsStore
  readonly metrics: Metrics
  readonly errors: ErrorEvents
  readonly log: DaemonLog['log']
  readonly stop: (why: string) => void
}

/** Kernels know attribute timeouts in seconds; this one means for ever. */
const FOREVER = { secs: 2 ** 32, nanos: 0 }

/** `2024-01-02 03:04:05.515000000 +00:00:00` */
function timeText(ms: number): string {
  const [date, time] = new Date(ms).toISOString().slice(0, -1).split('T')
  return `${date} ${time}000000 +00:00:00`
}

export class DaemonControl implements Control {
  readonly metrics: Metrics
  readonly #context: ControlContext
  readonly #version: DaemonInfo['version']

  constructor(context: ControlContext) {
    this.#context = context
    this.metrics = context.metrics
    const { version, commit, time, profile } = buildInfo()
    this.#version = {
      package_ver: version,
      git_commit: commit,
      build_time: time,
      profile,
      rustc: runtime(),
    }
  }

  info(): DaemonInfo {
    const { options, lifecycle, instances } = this.#context
    const collection: Record<string, BackendInfo> = {}
    for (const { mount, instance } of instances.list())
      collection[mount.path] = {
        backend_type: 'Rafs',
        mountpoint: mount.path,
        mounted_time: timeText(mount.mountedAt),
        config: redacted(instance.config),
      }
    return {
      version: this.#version,
      id: options.id ?? null,
      supervisor: options.supervisor ?? null,
      state: lifecycle.state,
      backend_collection: collection,
    }
  }

  setLogLevel(level: LogLevel): void {
    const { log } = this.#context
    log.level = level
    log.info({ level }, 'log level changed')
  }

  events(): EventReport {
    return this.#context.errors.report()
  }

  backendInfo(mountpoint: string): object {
    const { image } = this.#context.instances.at(mountpoint).instance
    return { ...image.facts, attr_timeout: FOREVER, entry_timeout: FOREVER }
  }

  async mount(mountpoint: string, request: MountRequest): Promise<void> {
    await this.#context.instances.mount(mountpoint, await prepareMount(request))
  }

  async remount(mountpoint: string, request: MountRequest): Promise<void> {
    const { instances } = this.#context
    instances.at(mountpoint)
    if (request.fsType !== 'rafs')
      throw new NydusError('MOUNT_TYPE_MISMATCH', 'EINVAL', `${request.fsType} cannot replace an image`)
    await instances.remount(mountpoint, await prepareMount(request))
  }

  async umount(mountpoint: string): Promise<void> {
    await this.#context.instances.umount(mountpoint)
  }

  async defaultConfig(): Promise<string> {
    return await defaultConfigText(this.#context.options)
  }

  settings(id?: string): Readonly<Record<string, string>> {
    return this.#context.settings.list(id)
  }

  changeSettings(id: string, settings: Settings): void {
    const { instances, log } = this.#context
    this.#context.settings.change(id, settings)
    for (const { instance } of instances.list())
      if (instance.config.id === id) instance.backend.reconfigure({ ...settings })
    log.info({ id, keys: Object.keys(settings) }, 'settings changed')
  }

  async start(): Promise<void> {
    this.#cannot('Start')
  }

  async takeover(): Promise<void> {
    this.#cannot('Takeover')
  }

  /** A vhost-user device is served anew by whoever listens on its socket; there is no descriptor to pass on. */
  #cannot(event: LifecycleEvent): void {
    this.#context.lifecycle.check(event)
  }

  async sendState(): Promise<void> {
    throw new NydusError(
      'DAEMON_UNSUPPORTED',
      'EOPNOTSUPP',
      'a vhost-user device has no descriptor that a supervisor could keep',
    )
  }

  checkExit(): void {
    const { lifecycle } = this.#context
    if (lifecycle.state === 'STOPPED') lifecycle.check('Exit')
  }

  exit(): void {
    this.#context.stop('exit through the API')
  }
}
