/** Where a command finds the blobs of an image: options that several commands share. */
import { readFile } from 'node:fs/promises'
import { Option, type Command } from 'commander'
import type { Backend, BackendConfig } from '../../lib/backend/backend.js'
import { NydusError } from '../../lib/base/errors.js'
import { silentLog } from '../../lib/base/log.js'
import type { ParsedConfig } from '../../lib/daemon/config.js'
import type { Io } from '../program.js'
import { warn } from './log-options.js'

export interface BackendValues {
  readonly blob?: string
  readonly blobDir?: string
  readonly config?: string
  readonly backendType?: string
  readonly backendConfig?: string
  readonly backendConfigFile?: string
}

const TYPES = ['localfs', 'localdisk', 'oss', 's3', 'registry', 'http-proxy']

/** Adds the options; `BackendValues` is what commander makes of them. */
export function withBackend(command: Command): Command {
  return command
    .option('-D, --blob-dir <folder>', 'folder of the data blobs, each named by its id')
    .option('-C, --config <file>', 'configuration of nydusd: its backend is used')
    .addOption(new Option('--backend-type <type>', 'kind of storage that has the blobs').choices(TYPES))
    .option('--backend-config <json>', 'its settings, the `config` object of a backend')
    .option('--backend-config-file <file>', 'the same in a file')
}

function usage(text: string): NydusError {
  return new NydusError('CLI_USAGE', 'EINVAL', text)
}

function localfs(dir: string, blobFile: string): BackendConfig {
  return { type: 'localfs', localfs: { dir, blob_file: blobFile, alt_dirs: [] } }
}

async function configOf(values: BackendValues, io: Io): Promise<BackendConfig | undefined> {
  const given = [values.blob, values.blobDir, values.config, values.backendType].filter(
    value => value !== undefined,
  )
  if (given.length > 1)
    throw usage('the blobs are named twice: give one of --blob, --blob-dir, --config and --backend-type')
  if (values.blob !== undefined) return localfs('', values.blob)
  if (values.blobDir !== undefined) return localfs(values.blobDir, '')
  if (values.config !== undefined) {
    const { loadConfig } = await import('../../lib/daemon/config.js')
    return backendOf(await loadConfig(values.config, pullAuth()), io)
  }
  if (values.backendType === undefined) {
    if (values.backendConfig !== undefined || values.backendConfigFile !== undefined)
      throw usage('--backend-config needs --backend-type, which says what kind of storage it is for')
    return undefined
  }
  return await typedConfig(values.backendType, values, io)
}

/** `--backend-config` is JSON; in older releases it was a file that holds it. */
async function settingsText(type: string, values: BackendValues): Promise<{ text: string; where: string }> {
  const { backendConfig: given, backendConfigFile: named } = values
  if ((given === undefined) === (named === undefined))
    throw usage(
      `--backend-type ${type} needs its settings: give one of --backend-config and --backend-config-file`,
    )
  const path = named ?? (given?.trimStart().startsWith('{') === true ? undefined : given)
  if (path === undefined) return { text: given ?? '', where: '--backend-config' }
  const where = `${named === undefined ? '--backend-config' : '--backend-config-file'} ${path}`
  const { reason } = await import('../../lib/daemon/reason.js')
  try {
    return { text: await readFile(path, 'utf8'), where }
  } catch (error) {
    throw new NydusError('CONFIG_UNREADABLE', 'EINVAL', `${where} cannot be read: ${reason(error)}`)
  }
}

export async function typedConfig(type: string, values: BackendValues, io: Io): Promise<BackendConfig> {
  const { text, where } = await settingsText(type, values)
  const { parseConfig } = await import('../../lib/daemon/config.js')
  let settings: unknown
  try {
    settings = JSON.parse(text)
  } catch {
    // The parser's message quotes the text, which may hold a secret.
    throw new NydusError('CONFIG_INVALID', 'EINVAL', `${where} is not JSON`)
  }
  const whole = JSON.stringify({ device: { backend: { type, config: settings } }, mode: 'direct' })
  return backendOf(await parseConfig(whole, { where, ...pullAuth() }), io)
}

function backendOf({ config, warnings }: ParsedConfig, io: Io): BackendConfig {
  for (const warning of warnings) warn(io, warning)
  return config.backend
}

function pullAuth(): { imagePullAuth?: string } {
  const auth = process.env['IMAGE_PULL_AUTH']
  return auth === undefined ? {} : { imagePullAuth: auth }
}

/** Undefined when no option names a place. Throws CLI_USAGE, CONFIG_*, BACKEND_CONFIG. */
export async function openBackendOf(values: BackendValues, io: Io): Promise<Backend | undefined> {
  const config = await configOf(values, io)
  if (config === undefined) return undefined
  const { openBackend } = await import('../../lib/backend/open.js')
  return await openBackend(config, { log: silentLog })
}
