/**
 * Blob cache entries, as `PUT /api/v2/blobs` and `nydus-image export -C` take them (design: nydusd.md 2.4). Two spellings, one result; `config_v2` wins.
 */
import * as z from 'zod'
import type { BackendConfig } from '../../backend/backend.js'
import { backendV1 } from './schema-v1.js'
import { backendV2, cacheV2, externalBackends, finishCache, NO_PREFETCH } from './schema-v2.js'
import type { CacheSettings, ExternalBackend } from './types.js'
import { MAX_BATCH, text } from './values.js'

export interface BlobEntry {
  readonly type: 'bootstrap' | 'datablob'
  readonly id: string
  readonly domainId: string
  readonly config: {
    readonly id: string
    readonly backend: BackendConfig
    readonly external_backends: readonly ExternalBackend[]
    readonly cache: CacheSettings
    /** The bootstrap file; null for data blobs. */
    readonly metadata_path: string | null
  }
}

const metadataPath = z
  .string()
  .nullish()
  .transform(given => given ?? null)

/** The legacy form, what the snapshotter sends. `prefetch_config` carries all four keys or is absent. */
const legacy = z
  .strictObject({
    id: text(),
    backend_type: z.string(),
    backend_config: z.unknown(),
    external_backends: externalBackends,
    cache_type: z.enum(['blobcache', 'filecache', 'fscache']),
    cache_config: z.unknown(),
    prefetch_config: z
      .strictObject({
        enable: z.boolean(),
        threads_count: z.int().min(0),
        merging_size: z.int().min(0).max(MAX_BATCH),
        bandwidth_rate: z.int().min(0),
      })
      .nullish(),
    metadata_path: metadataPath,
  })
  .transform((given, context): BlobEntry['config'] => {
    const backend = inner(backendV1, { type: given.backend_type, config: given.backend_config }, context, {
      type: 'backend_type',
      config: 'backend_config',
    })
    const table = given.cache_type === 'fscache' ? 'fscache' : 'filecache'
    const cache = inner(cacheV2, { type: given.cache_type, [table]: given.cache_config }, context, {
      type: 'cache_type',
      [table]: 'cache_config',
    })
    if (!backend || !cache) return z.NEVER
    const { prefetch_config } = given
    const prefetch = prefetch_config && {
      ...NO_PREFETCH,
      enable: prefetch_config.enable,
      threads: prefetch_config.threads_count,
      batch_size: prefetch_config.merging_size,
      bandwidth_limit: prefetch_config.bandwidth_rate,
    }
    return {
      id: given.id,
      backend,
      external_backends: given.external_backends,
      cache: finishCache({ ...cache, prefetch }, NO_PREFETCH),
      metadata_path: given.metadata_path,
    }
  })

/** Decodes a part that the legacy form spells with other keys; problems carry the keys that were written. */
function inner<T>(
  schema: z.ZodType<T>,
  input: unknown,
  context: z.RefinementCtx,
  spelling: Readonly<Record<string, string>>,
): T | undefined {
  const result = schema.safeParse(input)
  if (result.success) return result.data
  for (const issue of result.error.issues) {
    const [first, ...rest] = issue.path
    context.addIssue({ ...issue, path: [spelling[String(first)] ?? String(first), ...rest] })
  }
  return undefined
}

const current = z
  .strictObject({
    version: z.literal(2),
    id: text(),
    backend: backendV2,
    external_backends: externalBackends,
    cache: cacheV2,
    metadata_path: metadataPath,
  })
  .transform((given): BlobEntry['config'] => ({
    id: given.id,
    backend: given.backend,
    external_backends: given.external_backends,
    cache: finishCache(given.cache, NO_PREFETCH),
    metadata_path: given.metadata_path,
  }))

/** Decodes to BlobEntry. */
export const blobEntry = z
  .strictObject({
    type: z.enum(['bootstrap', 'datablob']),
    id: z.string().min(1),
    domain_id: text(),
    config: legacy.nullish(),
    config_v2: current.nullish(),
  })
  .transform((given, context): BlobEntry => {
    const config = given.config_v2 ?? given.config
    if (!config) {
      context.addIssue({ code: 'custom', message: 'has neither `config` nor `config_v2`; one is needed' })
      return z.NEVER
    }
    return { type: given.type, id: given.id, domainId: given.domain_id, config }
  })
