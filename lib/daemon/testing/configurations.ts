/** Configurations of both versions, and what the parser makes of changes to them. */
import t from 'tap'
import { parseConfig } from '../config.js'

/** The most bytes that `amplify_io`, `batch_size` and `merging_size` may be. */
export const BIG = 0x1000_0000

type Path = readonly (string | number)[]

/** The smallest useful configuration of each version. */
export const v1 = () => ({
  device: {
    id: '',
    backend: { type: 'localfs', config: { dir: '/blobs' } },
    cache: { type: 'blobcache', config: { work_dir: '/cache' } },
  },
  mode: 'direct',
})

export const v2 = () => ({
  version: 2,
  backend: { type: 'localfs', localfs: { dir: '/blobs' } },
  cache: { type: 'filecache', filecache: { work_dir: '/cache' } },
})

/** What a type of backend cannot do without, where that is one and the same for all that want it. */
const LEAST: Readonly<Record<string, object>> = {
  registry: { host: 'r.example', repo: 'a/b' },
  oss: { endpoint: 'oss.example', bucket_name: 'b' },
  s3: { endpoint: 's3.example', bucket_name: 'b', region: 'r' },
  'http-proxy': { addr: 'http://p' },
}

/** A configuration with a backend that has the least that it needs and `config`; what is undefined there is missing. */
export const backendV1 = (type: string, config: object = {}) => ({
  device: { backend: { type, config: { ...LEAST[type], ...config } } },
  mode: 'direct',
})
export const backendV2 = (type: string, config: object = {}) => ({
  version: 2,
  backend: { type, [type]: { ...LEAST[type], ...config } },
})

/** The value at `path`, undefined where there is none. */
export function get(value: unknown, path: Path): unknown {
  let at = value
  for (const key of path) at = (at as Record<string | number, unknown> | undefined)?.[key]
  return at
}

/** A copy of `base` with `value` at `path`; folders on the way are made. */
export function set(base: object, path: Path, value: unknown): object {
  const copy = structuredClone(base) as Record<string | number, unknown>
  let at = copy
  for (const key of path.slice(0, -1)) at = (at[key] ??= {}) as Record<string | number, unknown>
  at[path.at(-1) as string] = value
  return copy
}

export const parse = async (value: unknown) =>
  (await parseConfig(typeof value === 'string' ? value : JSON.stringify(value))).config

/** The message with which `value` is refused; `accepted` when it is not. */
export const problem = async (value: unknown): Promise<string> => {
  try {
    await parse(value)
    return 'accepted'
  } catch (error) {
    t.match(error, { name: 'NydusError', code: 'CONFIG_INVALID' })
    return (error as Error).message
  }
}
