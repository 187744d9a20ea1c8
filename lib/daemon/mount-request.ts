/** From what the API or the command line asks for to what can be opened. */
import { readFile } from 'node:fs/promises'
import { NydusError } from '../base/errors.js'
import type { NydusConfig, ParsedConfig } from './config.js'
import type { MountRequest } from './control.js'
import type { DaemonOptions } from './options.js'
import { checkPrefetchPaths, resolvePrefetchFiles } from './prefetch-files.js'
import { reason } from './reason.js'

export interface Preparation {
  readonly source: string
  readonly config: NydusConfig
  /** Paths within the image. */
  readonly prefetchFiles: readonly string[]
  /** Sentences for the log. */
  readonly warnings: readonly string[]
}

const PASSTHROUGH = ['passthrough', 'passthroughfs', 'passthrough_fs']

/** Everything that can be wrong before anything is opened. Throws NydusError MOUNT_…, CONFIG_…, START_PREFETCH_FILES. */
export async function prepareMount(request: MountRequest): Promise<Preparation> {
  const { fsType, source } = request
  if (PASSTHROUGH.includes(fsType))
    throw new NydusError(
      'MOUNT_UNSUPPORTED',
      'EOPNOTSUPP',
      `fs_type ${fsType} (a folder of the host) is not available; this daemon serves images: fs_type rafs`,
    )
  if (fsType !== 'rafs')
    throw new NydusError(
      'MOUNT_BAD_TYPE',
      'EINVAL',
      `only 'rafs' and 'passthrough_fs' are supported, but ${fsType} was specified`,
    )
  const { parseConfig } = await import('./config.js')
  const parsed = await parseConfig(request.config)
  return { source, ...parsed, prefetchFiles: checkPrefetchPaths(request.prefetchFiles, 'prefetch_files') }
}

/** `--bootstrap` with its companions; undefined without one. `auth`: IMAGE_PULL_AUTH. */
export async function prepareFirstMount(
  options: DaemonOptions,
  auth: string | undefined,
): Promise<Preparation | undefined> {
  const { bootstrap: source, config } = options
  if (source === undefined) return undefined
  const prefetchFiles = await resolvePrefetchFiles(options.prefetchFiles)
  const { loadConfig, parseConfig } = await import('./config.js')
  const parsed: ParsedConfig =
    config === undefined
      ? await parseConfig(await defaultConfigText(options))
      : await loadConfig(config, auth === undefined ? {} : { imagePullAuth: auth })
  return { source, ...parsed, prefetchFiles }
}

/** The daemon's own configuration, as text: `--config`, or what `--localfs-dir` stands for. */
export async function defaultConfigText(options: DaemonOptions): Promise<string> {
  const { config, localfsDir } = options
  if (localfsDir !== undefined)
    return JSON.stringify({
      version: 2,
      backend: { type: 'localfs', localfs: { dir: localfsDir } },
      cache: { type: 'filecache', filecache: { work_dir: localfsDir } },
      rafs: { enable_xattr: true },
    })
  if (config === undefined)
    throw new NydusError(
      'CONFIG_INVALID',
      'EINVAL',
      'the request has no `config`, and the daemon was started without --config',
    )
  try {
    return await readFile(config, 'utf8')
  } catch (error) {
    throw new NydusError(
      'CONFIG_INVALID',
      'EINVAL',
      `configuration ${config} cannot be read: ${reason(error)}`,
    )
  }
}
