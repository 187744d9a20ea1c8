import { ManualClock } from '../../base/manual-clock.js'
import { silentLog } from '../../base/log.js'
import type { HttpOptions, MirrorOptions, ProxyOptions, RegistryOptions } from '../backend.js'
import type { Seams } from '../http.js'

/** The defaults of a configuration. */
export const proxyDefaults: ProxyOptions = {
  url: '',
  ping_url: '',
  fallback: true,
  check_interval: 5,
  check_pause_elapsed: 300,
  use_http: false,
  dragonfly_scheduler_endpoint: '',
}

export const mirrorDefaults: MirrorOptions = {
  host: '',
  headers: {},
  auth_through: false,
  ping_url: '',
  health_check_interval: 5,
  failure_limit: 5,
}

export const httpDefaults: HttpOptions = {
  skip_verify: false,
  ca_cert_files: [],
  timeout: 5,
  connect_timeout: 5,
  retry_limit: 0,
  proxy: proxyDefaults,
  mirrors: [],
}

export const registryDefaults: RegistryOptions = {
  ...httpDefaults,
  scheme: 'http',
  host: '',
  repo: 'nydus/test',
  auth: null,
  registry_token: null,
  blob_url_scheme: '',
  blob_redirected_host: '',
}

export const context = { log: silentLog }

/** Seams under a test's control: pauses take no time and are recorded, nothing is random. */
export function testSeams(env: NodeJS.ProcessEnv = {}): Seams & { readonly clock: ManualClock } {
  return { clock: new ManualClock(), random: () => 0.5, env }
}

export function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}
