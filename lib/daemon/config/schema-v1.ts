/**
 * Configuration v1 (JSON): the form of 2020, and what the snapshotter, Kata and nydusify still write (design:
 * nydusd.md 2.2). Decodes to the same `NydusConfig` as v2.
 */
import * as z from 'zod'
import { backendOptions } from './backend.js'
import {
  CACHE_TYPES,
  checkThreads,
  externalBackends,
  filecacheOptions,
  finishCache,
  THREADS_MESSAGE,
} from './schema-v2.js'
import type { NydusConfig, PrefetchSettings } from './types.js'
import { count, flag, MAX_BATCH, section, text } from './values.js'

export const backendV1 = z.lazy(() =>
  z.discriminatedUnion('type', [
    z
      .strictObject({ type: z.literal('localfs'), config: backendOptions.localfs })
      .transform(given => ({ type: given.type, localfs: given.config })),
    z
      .strictObject({ type: z.literal('localdisk'), config: backendOptions.localdisk })
      .transform(given => ({ type: given.type, localdisk: given.config })),
    z
      .strictObject({ type: z.literal('oss'), config: backendOptions.oss })
      .transform(given => ({ type: given.type, oss: given.config })),
    z
      .strictObject({ type: z.literal('s3'), config: backendOptions.s3 })
      .transform(given => ({ type: given.type, s3: given.config })),
    z
      .strictObject({ type: z.literal('registry'), config: backendOptions.registry })
      .transform(given => ({ type: given.type, registry: given.config })),
    z
      .strictObject({ type: z.literal('http-proxy'), config: backendOptions['http-proxy'] })
      .transform(given => ({ type: given.type, 'http-proxy': given.config })),
  ]),
)

export const cacheV1 = z.lazy(() =>
  z
    .strictObject({
      type: z
        .enum(CACHE_TYPES)
        .nullish()
        .transform(given => given ?? ''),
      config: filecacheOptions().nullish(),
      compressed: flag(),
      validate: flag(),
    })
    .refine(given => given.type === '' || given.type === 'dummycache' || given.config, {
      path: ['config'],
      message: 'missing: a cache of this type needs `config` (at least {}); `work_dir` in it is the folder',
    }),
)

const fsPrefetch = z.lazy(() =>
  section({
    enable: flag(),
    threads_count: count(8),
    merging_size: count(0x10_0000, MAX_BATCH),
    bandwidth_rate: count(0),
    prefetch_all: flag(true),
    stream_prefetch: flag(),
  }).refine(given => checkThreads(given, given.threads_count), {
    path: ['threads_count'],
    message: THREADS_MESSAGE,
  }),
)

export const configV1 = z.lazy(() =>
  z
    .strictObject({
      device: z.strictObject({
        id: text(),
        backend: backendV1,
        cache: z.preprocess(given => given ?? {}, cacheV1),
        external_backends: externalBackends,
      }),
      mode: z.enum(['direct', 'cached']),
      digest_validate: flag(),
      iostats_files: flag(),
      enable_xattr: flag(),
      access_pattern: flag(),
      latest_read_files: flag(),
      amplify_io: count(0x10_0000, MAX_BATCH),
      fs_prefetch: fsPrefetch,
    })
    .transform((given): NydusConfig => {
      const { device, fs_prefetch } = given
      const prefetch = prefetchSettings(fs_prefetch)
      return {
        version: 2,
        id: device.id,
        backend: device.backend,
        external_backends: device.external_backends,
        cache: cacheSettings(device.cache, given.digest_validate, prefetch),
        rafs: {
          mode: given.mode,
          batch_size: given.amplify_io,
          validate: given.digest_validate,
          enable_xattr: given.enable_xattr,
          iostats_files: given.iostats_files,
          access_pattern: given.access_pattern,
          latest_read_files: given.latest_read_files,
          prefetch,
        },
      }
    }),
)

function prefetchSettings(given: z.output<typeof fsPrefetch>): PrefetchSettings {
  return {
    enable: given.enable,
    threads: given.threads_count,
    batch_size: given.merging_size,
    bandwidth_limit: given.bandwidth_rate,
    prefetch_all: given.prefetch_all,
    stream_prefetch: given.stream_prefetch,
  }
}

function cacheSettings(
  given: z.output<typeof cacheV1>,
  validate: boolean,
  prefetch: PrefetchSettings,
): NydusConfig['cache'] {
  const { type, config, compressed } = given
  return finishCache(
    {
      type,
      compressed,
      validate: given.validate || validate,
      prefetch: undefined,
      filecache: type === 'blobcache' || type === 'filecache' ? config : undefined,
      fscache: type === 'fscache' && config ? { work_dir: config.work_dir } : undefined,
    },
    prefetch,
  )
}
