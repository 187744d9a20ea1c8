/**
 * A configuration as the API shows it: the v2 shape with every key, `null` for absent tables, and no secret in it
 * (http-api.md 3). The reference lets S3 keys through; here they go as well, and so do passwords within URLs,
 * headers of mirrors and what an external backend is patched with.
 */
import { withoutUserinfo } from './issues.js'
import { BACKEND_TYPES, type NydusConfig } from './types.js'

/** Shown as an empty text, as the reference does for OSS. */
const BLANK: ReadonlySet<string> = new Set(['access_key_id', 'access_key_secret', 'encryption_key'])
/** Shown as null, as the reference does for the registry. */
const NONE: ReadonlySet<string> = new Set(['auth', 'registry_token'])
/** Tables of texts whose values may be anything. */
const MASKED: ReadonlySet<string> = new Set(['headers', 'patch'])

function blank(key: string, value: unknown): unknown {
  if (BLANK.has(key)) return ''
  if (NONE.has(key)) return null
  if (typeof value === 'string') return withoutUserinfo(value)
  if (Array.isArray(value)) return value.map(item => blank('', item))
  if (typeof value !== 'object' || value === null) return value
  const mask = MASKED.has(key)
  return Object.fromEntries(
    Object.entries(value).map(([inner, at]) => [inner, mask ? '***' : blank(inner, at)]),
  )
}

/** For `GET /api/v1/daemon` and for logs. */
export function redacted(config: NydusConfig): Record<string, unknown> {
  const { backend, cache } = config
  const tables: Record<string, unknown> = {
    ...Object.fromEntries(BACKEND_TYPES.map(type => [type, null])),
    ...backend,
  }
  const full = {
    ...config,
    backend: { type: backend.type, ...tables },
    cache: { ...cache, filecache: cache.filecache ?? null, fscache: cache.fscache ?? null },
    overlay: config.overlay ?? null,
  }
  return blank('', full) as Record<string, unknown>
}
