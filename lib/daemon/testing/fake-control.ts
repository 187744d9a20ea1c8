/** The HTTP API in front of a daemon that only writes down what it is told. */
import { silentLog } from '../../base/log.js'
import { startApi } from '../api.js'
import type { Control, DaemonInfo, MountRequest } from '../control.js'
import { ErrorEvents } from '../error-events.js'
import { tempDir } from './temp-dir.js'

export const info: DaemonInfo = {
  version: { package_ver: '0', git_commit: 'c', build_time: 't', profile: 'p', rustc: 'n' },
  id: null,
  supervisor: null,
  state: 'RUNNING',
  backend_collection: {},
}

/** Writes down what it is told; fails where the test says so. */
export class FakeControl implements Control {
  readonly calls: unknown[][] = []
  /** Next failure by method. */
  readonly failures = new Map<string, Error>()
  pending: Promise<void> | undefined
  inflight: object[] = []

  #note(name: string, ...values: unknown[]): void {
    this.calls.push([name, ...values])
    const failure = this.failures.get(name)
    if (failure) throw failure
  }
  readonly metrics = {
    global: (id?: string) => (this.#note('global', id), { id: id ?? '/' }),
    files: (id: string | undefined, latest: boolean) => (this.#note('files', id, latest), latest ? [] : {}),
    pattern: (id: string | undefined, paths: boolean) => (this.#note('pattern', id, paths), []),
    backend: (id?: string) => (this.#note('backend', id), {}),
    blobcache: (id?: string) => (this.#note('blobcache', id), {}),
    inflight: () => (this.#note('inflight'), this.inflight),
  }
  info = () => info
  setLogLevel = (level: string) => this.#note('setLogLevel', level)
  events = () => new ErrorEvents().report()
  backendInfo = (mountpoint: string) => (this.#note('backendInfo', mountpoint), { version: 0x600 })
  async mount(mountpoint: string, request: MountRequest) {
    this.#note('mount', mountpoint, request)
    await this.pending
  }
  remount = async (mountpoint: string, request: MountRequest) => this.#note('remount', mountpoint, request)
  umount = async (mountpoint: string) => this.#note('umount', mountpoint)
  defaultConfig = async () => '{"default":true}'
  settings = (id?: string) => (this.#note('settings', id), { registry_auth: '***' })
  changeSettings = (id: string, settings: object) => this.#note('changeSettings', id, settings)
  start = async () => this.#note('start')
  takeover = async () => this.#note('takeover')
  sendState = async () => this.#note('sendState')
  checkExit = () => this.#note('checkExit')
  exit = () => this.#note('exit')
}

export async function serve(t: { teardown(end: () => unknown): void }) {
  const path = `${tempDir(t)}/api.sock`
  const control = new FakeControl()
  const api = await startApi(path, control, silentLog)
  t.teardown(() => api.close())
  return { path, control, api }
}

/** A mount command, and what the daemon is asked for then. */
export const command = { fs_type: 'rafs', source: '/boot', config: '{}' }
export const request: MountRequest = { fsType: 'rafs', source: '/boot', config: '{}', prefetchFiles: [] }
