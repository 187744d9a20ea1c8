/** `/api/v1`: the daemon, its mounts, its settings. */
import { readFile } from 'node:fs/promises'
import { NydusError } from '../../base/errors.js'
import { HOT_SETTINGS, type Control, type MountRequest, type Settings } from '../control.js'
import { LOG_LEVELS } from '../options.js'
import { reason } from '../reason.js'
import { ApiFailure } from './failure.js'
import { done, route, type Route } from './route.js'

const V1 = '/api/v1'

const mountpoint = { mountpoint: { required: true, help: 'Absolute path within the file system served.' } }

function commandOf(body: {
  fs_type: string
  source: string
  config: string
  prefetch_files?: string[] | null | undefined
}): MountRequest {
  return {
    fsType: body.fs_type,
    source: body.source,
    config: body.config,
    prefetchFiles: body.prefetch_files ?? [],
  }
}

async function mount2020(
  control: Control,
  body: {
    source?: string | null | undefined
    fstype?: string | null | undefined
    mountpoint: string
    config?: string | null | undefined
    ops?: 'mount' | 'umount' | 'update' | null | undefined
  },
): Promise<void> {
  if (body.ops === 'umount') return control.umount(body.mountpoint)
  if (typeof body.source !== 'string') throw new ApiFailure(400, 'ParseBody(Error("missing field `source`"))')
  const command: MountRequest = {
    fsType: body.fstype ?? 'rafs',
    source: body.source,
    config: await configOf2020(control, body.config),
    prefetchFiles: [],
  }
  if (body.ops === 'update') return control.remount(body.mountpoint, command)
  return control.mount(body.mountpoint, command)
}

/** The path of a file in 2020; text where it looks like text; nothing: the daemon's own. */
async function configOf2020(control: Control, given: string | null | undefined): Promise<string> {
  if (given === null || given === undefined) return control.defaultConfig()
  if (given.trimStart().startsWith('{')) return given
  try {
    return await readFile(given, 'utf8')
  } catch (error) {
    throw new NydusError(
      'CONFIG_INVALID',
      'EINVAL',
      `configuration ${given} cannot be read: ${reason(error)}`,
    )
  }
}

/** The same in every version of the API; `base` is its path. */
export function logLevelRoute(base: string): Route {
  return route({
    method: 'PUT',
    path: `${base}/daemon`,
    summary: 'Change the log level.',
    operation: 'Configure',
    body: async () => (await import('./bodies.js')).daemonBody,
    handle({ control, body }) {
      const level = LOG_LEVELS.find(name => name === body.log_level)
      if (level === undefined) throw new ApiFailure(500, 'Configure(ResponsePayloadType)')
      control.setLogLevel(level)
      return done
    },
  })
}

export const routesV1: readonly Route[] = [
  route({
    method: 'GET',
    path: `${V1}/daemon`,
    summary: 'Version, state, and what is mounted.',
    operation: 'DaemonInfo',
    handle: ({ control }) => ({ body: control.info() }),
  }),
  logLevelRoute(V1),
  route({
    method: 'GET',
    path: `${V1}/daemon/events`,
    summary: 'The latest errors.',
    operation: 'Events',
    handle: ({ control }) => ({ body: control.events() }),
  }),
  route({
    method: 'GET',
    path: `${V1}/daemon/backend`,
    summary: 'The superblock of a mounted image.',
    operation: 'FsBackendInfo',
    query: mountpoint,
    handle: ({ control, query }) => ({ body: control.backendInfo(query['mountpoint'] ?? '') }),
  }),
  route({
    method: 'PUT',
    path: `${V1}/daemon/start`,
    summary: 'Serve, after a take-over.',
    operation: 'Upgrade',
    async handle({ control }) {
      await control.start()
      return done
    },
  }),
  route({
    method: 'PUT',
    path: `${V1}/daemon/exit`,
    summary: 'End the process; mounts in the host stay.',
    operation: 'Upgrade',
    handle({ control }) {
      control.checkExit()
      return { afterwards: () => control.exit() }
    },
  }),
  route({
    method: 'PUT',
    path: `${V1}/daemon/fuse/sendfd`,
    summary: 'Send state and file descriptor to the supervisor.',
    operation: 'Upgrade',
    async handle({ control }) {
      await control.sendState()
      return done
    },
  }),
  route({
    method: 'PUT',
    path: `${V1}/daemon/fuse/takeover`,
    summary: 'Fetch state and file descriptor from the supervisor.',
    operation: 'Upgrade',
    async handle({ control }) {
      await control.takeover()
      return done
    },
  }),
  route({
    method: 'POST',
    path: `${V1}/mount`,
    summary: 'Mount an image.',
    operation: 'Mount',
    query: mountpoint,
    body: async () => (await import('./bodies.js')).mountBody,
    async handle({ control, query, body }) {
      await control.mount(query['mountpoint'] ?? '', commandOf(body))
      return done
    },
  }),
  route({
    method: 'PUT',
    path: `${V1}/mount`,
    summary: 'Swap the image or configuration of a mount.',
    operation: 'Mount',
    query: mountpoint,
    when: query => query.has('mountpoint'),
    body: async () => (await import('./bodies.js')).mountBody,
    async handle({ control, query, body }) {
      await control.remount(query['mountpoint'] ?? '', commandOf(body))
      return done
    },
  }),
  route({
    method: 'PUT',
    path: `${V1}/mount`,
    summary: 'Mount, update or umount, in the form of 2020.',
    operation: 'Mount',
    body: async () => (await import('./bodies.js')).mountBody2020,
    async handle({ control, body }) {
      await mount2020(control, body)
      return done
    },
  }),
  route({
    method: 'DELETE',
    path: `${V1}/mount`,
    summary: 'Umount.',
    operation: 'Umount',
    query: mountpoint,
    async handle({ control, query }) {
      await control.umount(query['mountpoint'] ?? '')
      return done
    },
  }),
  route({
    method: 'GET',
    path: `${V1}/config`,
    summary: 'Settings that were changed while the daemon runs, without secrets.',
    operation: 'Configure',
    query: { id: { help: '`id` of a configuration; all when absent.' } },
    handle: ({ control, query }) => ({ body: control.settings(query['id']) }),
  }),
  route({
    method: 'PUT',
    path: `${V1}/config`,
    summary: 'Change settings of the backends of one configuration id.',
    operation: 'Configure',
    query: { id: { required: true, help: '`id` of a configuration; need not be in use.' } },
    body: async () => (await import('./bodies.js')).settingsBody,
    handle({ control, query, body }) {
      const keys = Object.keys(body)
      if (keys.length === 0 || keys.some(key => !HOT_SETTINGS.some(known => known === key)))
        throw new ApiFailure(500, 'Configure(ResponsePayloadType)')
      control.changeSettings(query['id'] ?? '', body as Settings)
      return done
    },
  }),
]
