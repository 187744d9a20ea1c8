/**
 * What the HTTP API, and whoever else gives orders, may ask of the daemon. Failures are NydusErrors; api/failure.ts
 * turns them into statuses and texts.
 */
import type { EventReport } from './error-events.js'
import type { LogLevel } from './options.js'

export interface MountRequest {
  /** `rafs`, or what the caller asked for instead. */
  readonly fsType: string
  /** Bootstrap file. */
  readonly source: string
  /** Text of a configuration, any form. */
  readonly config: string
  /** Absolute paths within the image. */
  readonly prefetchFiles: readonly string[]
}

/** `GET /api/v1/daemon`: names as clients know them. */
export interface DaemonInfo {
  readonly version: {
    readonly package_ver: string
    readonly git_commit: string
    readonly build_time: string
    readonly profile: string
    readonly rustc: string
  }
  readonly id: string | null
  readonly supervisor: string | null
  readonly state: string
  readonly backend_collection: Readonly<Record<string, BackendInfo>>
}

export interface BackendInfo {
  readonly backend_type: 'Rafs' | 'PassthroughFs'
  readonly mountpoint: string
  readonly mounted_time: string
  /** Without secrets; null when the instance has no configuration. */
  readonly config: Readonly<Record<string, unknown>> | null
}

/** Settings that change while the daemon runs; the names are the API's. */
export const HOT_SETTINGS = ['registry_auth', 'proxy_url', 'dragonfly_scheduler_endpoint'] as const
export type Settings = { readonly [K in (typeof HOT_SETTINGS)[number]]?: string }

export interface Metrics {
  /** `id`: the mountpoint; without it there must be exactly one. Throws METRICS_NO_COUNTER. */
  global(id?: string): object
  files(id: string | undefined, latest: boolean): object
  /** `paths`: with a name of each file. */
  pattern(id: string | undefined, paths: boolean): object | Promise<object>
  backend(id?: string): object
  /** `id`: the configuration's `id`. */
  blobcache(id?: string): object
  /** Requests that are being processed; throws METRICS_UNSUPPORTED where the transport cannot tell. */
  inflight(): readonly object[]
}

export interface Control {
  readonly metrics: Metrics
  info(): DaemonInfo
  setLogLevel(level: LogLevel): void
  events(): EventReport
  /** The superblock of what is mounted there. */
  backendInfo(mountpoint: string): object
  mount(mountpoint: string, request: MountRequest): Promise<void>
  /** Swaps image and configuration of a living instance. */
  remount(mountpoint: string, request: MountRequest): Promise<void>
  umount(mountpoint: string): Promise<void>
  /** The configuration given at the start, for mounts that bring none (2020). Throws MOUNT_NO_CONFIG. */
  defaultConfig(): Promise<string>
  /** Settings of one id, or all as `id:key`; secrets are not shown. */
  settings(id?: string): Readonly<Record<string, string>>
  changeSettings(id: string, settings: Settings): void
  start(): Promise<void>
  takeover(): Promise<void>
  sendState(): Promise<void>
  /** May the process end now? Throws STATE_UNEXPECTED. */
  checkExit(): void
  /** Ends the process, without unmounting what the host's kernel has mounted. */
  exit(): void
}
