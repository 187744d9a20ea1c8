/**
 * From configuration to backend: one row per type. A row loads its code when it is used, so a daemon that reads
 * local files never loads an HTTP client.
 */
import type { Log } from '../base/log.js'
import type { Backend, BackendConfig } from './backend.js'

/** What a backend may use of the daemon. */
export interface BackendContext {
  readonly log: Log
}

type Opener<T extends BackendConfig['type']> = (
  config: Extract<BackendConfig, { type: T }>,
  context: BackendContext,
) => Promise<Backend>

const OPENERS: { readonly [T in BackendConfig['type']]: Opener<T> } = {
  localfs: async config => (await import('./localfs.js')).openLocalfs(config),
  localdisk: async config => (await import('./localdisk.js')).openLocaldisk(config),
  registry: async (config, context) => (await import('./registry.js')).openRegistry(config, context),
  oss: async (config, context) => (await import('./oss.js')).openOss(config, context),
  s3: async (config, context) => (await import('./s3.js')).openS3(config, context),
  'http-proxy': async (config, context) => (await import('./http-proxy.js')).openHttpProxy(config, context),
}

/** Cheap: no blob, socket or device is opened or asked before the first read. Throws BACKEND_CONFIG. */
export function openBackend<T extends BackendConfig['type']>(
  config: Extract<BackendConfig, { type: T }>,
  context: BackendContext,
): Promise<Backend> {
  const type: T = config.type
  return OPENERS[type](config, context)
}
