/**
 * Configuration v2 (TOML or JSON), design: nydusd.md 2.3. Decodes to `NydusConfig`. Declarations are made when they are
 * needed (z.lazy), as in backend.ts.
 */
import * as z from 'zod'
import { backendOptions } from './backend.js'
import { BACKEND_TYPES, type BackendType, type NydusConfig } from './types.js'
import { count, flag, MAX_BATCH, MAX_THREADS, required, section, text } from './values.js'

/** Tables of other backend types may stand beside the one that `type` names: they are not looked at. */
const unused = () =>
  Object.fromEntries(BACKEND_TYPES.map(type => [type, z.unknown().optional()])) as Record<
    BackendType,
    z.ZodOptional<z.ZodUnknown>
  >

export const backendV2 = z.lazy(() =>
  z.discriminatedUnion('type', [
    z
      .strictObject({ ...unused(), type: z.literal('localfs'), localfs: backendOptions.localfs })
      .transform(given => ({ type: given.type, localfs: given.localfs })),
    z
      .strictObject({ ...unused(), type: z.literal('localdisk'), localdisk: backendOptions.localdisk })
      .transform(given => ({ type: given.type, localdisk: given.localdisk })),
    z
      .strictObject({ ...unused(), type: z.literal('oss'), oss: backendOptions.oss })
      .transform(given => ({ type: given.type, oss: given.oss })),
    z
      .strictObject({ ...unused(), type: z.literal('s3'), s3: backendOptions.s3 })
      .transform(given => ({ type: given.type, s3: given.s3 })),
    z
      .strictObject({ ...unused(), type: z.literal('registry'), registry: backendOptions.registry })
      .transform(given => ({ type: given.type, registry: given.registry })),
    z
      .strictObject({
        ...unused(),
        type: z.literal('http-proxy'),
        'http-proxy': backendOptions['http-proxy'],
      })
      .transform(given => ({ type: given.type, 'http-proxy': given['http-proxy'] })),
  ]),
)

export const externalBackends = z.lazy(() =>
  z
    .array(
      z.strictObject({
        patch: z.record(z.string(), z.string()),
        type: z.string(),
        config: z.record(z.string(), z.string()),
      }),
    )
    .nullish()
    .transform(given => given ?? []),
)

/** Thread counts matter only where prefetch is on: templates carry 0 where it is off. */
export function checkThreads(given: { enable: boolean }, threads: number): boolean {
  return !given.enable || (threads >= 1 && threads <= MAX_THREADS)
}
export const THREADS_MESSAGE = `expected 1 to ${MAX_THREADS}`

const prefetch = z.lazy(() =>
  z
    .strictObject({
      enable: z.boolean(),
      threads: count(8),
      batch_size: count(0x10_0000, MAX_BATCH),
      bandwidth_limit: count(0),
      prefetch_all: flag(),
      stream_prefetch: flag(),
    })
    .refine(given => checkThreads(given, given.threads), { path: ['threads'], message: THREADS_MESSAGE }),
)

export const NO_PREFETCH = {
  enable: false,
  threads: 8,
  batch_size: 0x10_0000,
  bandwidth_limit: 0,
  prefetch_all: false,
  stream_prefetch: false,
} as const

export const CACHE_TYPES = ['', 'dummycache', 'blobcache', 'filecache', 'fscache'] as const

const workDir = () =>
  z
    .string()
    .min(1)
    .nullish()
    .transform(given => given ?? '.')

export const filecacheOptions = () =>
  z.strictObject({
    work_dir: workDir(),
    disable_indexed_map: flag(),
    size_limit: count(0),
    enable_encryption: flag(),
    enable_convergent_encryption: flag(),
    encryption_key: text(),
  })

export const cacheV2 = z.lazy(() =>
  z
    .strictObject({
      type: z
        .enum(CACHE_TYPES)
        .nullish()
        .transform(given => given ?? ''),
      compressed: flag(),
      validate: flag(),
      prefetch: prefetch.nullish(),
      filecache: filecacheOptions().nullish(),
      fscache: z.strictObject({ work_dir: workDir() }).nullish(),
    })
    .superRefine((given, context) => {
      const table = given.type === 'blobcache' ? 'filecache' : given.type
      if ((table === 'filecache' || table === 'fscache') && !given[table])
        context.addIssue({
          code: 'custom',
          path: [table],
          message: `missing: type "${given.type}" needs a table \`${table}\` with its \`work_dir\``,
        })
    }),
)

const rafsKeys = () => ({
  mode: z
    .enum(['direct', 'cached'])
    .nullish()
    .transform(given => given ?? 'direct'),
  batch_size: count(0x10_0000, MAX_BATCH),
  validate: flag(),
  enable_xattr: flag(),
  iostats_files: flag(),
  access_pattern: flag(),
  latest_read_files: flag(),
  prefetch: prefetch.nullish(),
})

export const configV2 = z.lazy(() =>
  z
    .strictObject({
      version: z.literal(2),
      id: text(),
      backend: backendV2,
      external_backends: externalBackends,
      cache: z.preprocess(given => given ?? {}, cacheV2),
      rafs: section(rafsKeys()),
      overlay: z.strictObject({ upper_dir: required(), work_dir: required() }).nullish(),
    })
    .transform((given): NydusConfig => {
      const { cache, rafs, overlay } = given
      const prefetch = rafs.prefetch ?? NO_PREFETCH
      return {
        version: 2,
        id: given.id,
        backend: given.backend,
        external_backends: given.external_backends,
        cache: finishCache(cache, prefetch),
        rafs: { ...rafs, prefetch },
        ...(overlay && { overlay }),
      }
    }),
)

/** Absent tables go; settings of the file system layer apply where the cache has none of its own. */
export function finishCache(
  cache: z.output<typeof cacheV2>,
  prefetch: NydusConfig['rafs']['prefetch'],
): NydusConfig['cache'] {
  const { filecache, fscache } = cache
  return {
    type: cache.type,
    compressed: cache.compressed,
    validate: cache.validate,
    prefetch: cache.prefetch ?? (prefetch.enable ? prefetch : NO_PREFETCH),
    ...(filecache && { filecache }),
    ...(fscache && { fscache }),
  }
}
