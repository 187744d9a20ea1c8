/**
 * Backend options: the `config` object of v1, the table named after the type in v2 (design: nydusd.md 2.5). The
 * types they decode to are declared by the layer that uses them, lib/backend/backend.ts.
 *
 * A declaration is made when the first configuration needs it (z.lazy): all of them take 10 ms, and a daemon has one
 * backend.
 */
import { isAbsolute } from 'node:path'
import * as z from 'zod'
import type {
  HttpProxyOptions,
  LocaldiskOptions,
  LocalfsOptions,
  MirrorOptions,
  OssOptions,
  ProxyOptions,
  RegistryOptions,
  S3Options,
} from '../../backend/backend.js'
import { count, flag, required, section, text, textMap, textOrNull, texts } from './values.js'

const proxy = () =>
  section({
    url: text(),
    ping_url: text(),
    fallback: flag(true),
    check_interval: count(5),
    check_pause_elapsed: count(300),
    use_http: flag(),
    dragonfly_scheduler_endpoint: text(),
  })

const mirror = () =>
  z.strictObject({
    host: required(),
    headers: textMap(),
    auth_through: flag(),
    ping_url: text(),
    health_check_interval: count(5),
    failure_limit: count(5),
  })

/** `proxy` as one text, in the README of 2020; its companions stood beside it as `proxy_…`. */
const http = () => ({
  skip_verify: flag(),
  ca_cert_files: texts(),
  timeout: count(5),
  connect_timeout: count(5),
  retry_limit: count(0),
  proxy: z.preprocess(given => (typeof given === 'string' ? { url: given } : given), proxy()),
  proxy_fallback: z.boolean().nullish(),
  proxy_ping_url: z.string().nullish(),
  proxy_check_interval: z.int().min(0).nullish(),
  mirrors: z
    .array(mirror())
    .nullish()
    .transform((given): readonly MirrorOptions[] => given ?? []),
})

interface FlatProxy {
  readonly proxy: ProxyOptions
  readonly proxy_fallback?: boolean | null | undefined
  readonly proxy_ping_url?: string | null | undefined
  readonly proxy_check_interval?: number | null | undefined
}

function foldProxy<T extends FlatProxy>(given: T): Omit<T, Exclude<keyof FlatProxy, 'proxy'>> {
  const { proxy_fallback, proxy_ping_url, proxy_check_interval, ...rest } = given
  return {
    ...rest,
    proxy: {
      ...rest.proxy,
      ...(typeof proxy_fallback === 'boolean' && { fallback: proxy_fallback }),
      ...(typeof proxy_ping_url === 'string' && { ping_url: proxy_ping_url }),
      ...(typeof proxy_check_interval === 'number' && { check_interval: proxy_check_interval }),
    },
  }
}

const bucket = () => ({
  ...http(),
  scheme: text('https'),
  bucket_name: required(),
  object_prefix: text(),
  access_key_id: text(),
  access_key_secret: text(),
})

/** One options object per backend type; missing mandatory values and contradictions are errors. */
export const backendOptions = {
  localfs: z.lazy(() =>
    z
      .strictObject({ blob_file: text(), dir: text(), alt_dirs: texts() })
      .refine(given => given.blob_file !== '' || given.dir !== '', {
        message: 'has neither `dir` (folder of the blobs) nor `blob_file`; expected one of them',
      }),
  ),
  localdisk: z.lazy(() => z.strictObject({ device_path: required(), disable_gpt: flag() })),
  oss: z.lazy(() => z.strictObject({ ...bucket(), endpoint: required() }).transform(foldProxy)),
  s3: z.lazy(() =>
    z.strictObject({ ...bucket(), endpoint: text(), region: required() }).transform(foldProxy),
  ),
  registry: z.lazy(() =>
    z
      .strictObject({
        ...http(),
        scheme: text('https'),
        host: required(),
        repo: required(),
        auth: textOrNull(),
        registry_token: textOrNull(),
        blob_url_scheme: text(),
        blob_redirected_host: text(),
      })
      .transform(foldProxy),
  ),
  'http-proxy': z.lazy(() =>
    z
      .strictObject({
        ...http(),
        addr: z.string().refine(given => /^https?:\/\/./.test(given) || isAbsolute(given), {
          message:
            'expected a URL that starts with http:// or https://, or the absolute path of a UNIX socket',
        }),
        path: text(),
      })
      .transform(foldProxy),
  ),
} satisfies {
  localfs: z.ZodType<LocalfsOptions>
  localdisk: z.ZodType<LocaldiskOptions>
  oss: z.ZodType<OssOptions>
  s3: z.ZodType<S3Options>
  registry: z.ZodType<RegistryOptions>
  'http-proxy': z.ZodType<HttpProxyOptions>
}
