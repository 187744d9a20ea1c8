import t from 'tap'
import { backendV1, backendV2, BIG, get, parse, problem, set, v1, v2 } from '../testing/configurations.js'

const flag = { good: [true, false], bad: ['true', 1, [], {}], right: /expected true or false/ }
const text = { good: ['x', ''], bad: [5, true, [], {}], right: /expected a text/ }
const count = {
  good: [0, 7, 2 ** 40],
  bad: [-1, 1.5, '7', true, {}],
  right: /expected (a whole number|0 or more)/,
}
const bounded = { good: [0, 7, BIG], bad: [-1, 0.5, '7', BIG + 1], right: /expected (a whole number|\d+ or)/ }
const texts = { good: [[], ['/a', '/b']], bad: ['/a', [1], {}], right: /expected a (list|text)/ }

/** Where a key stands in v1 and in v2 (null: not there), where its value ends up, its default in each. */
const keys: {
  v1: string | null
  v2: string | null
  to: string
  default: readonly [v1: unknown, v2: unknown]
  kind: { good: readonly unknown[]; bad: readonly unknown[]; right: RegExp }
}[] = [
  { v1: 'device.id', v2: 'id', to: 'id', default: ['', ''], kind: text },
  {
    v1: 'device.backend.config.blob_file',
    v2: 'backend.localfs.blob_file',
    to: 'backend.localfs.blob_file',
    default: ['', ''],
    kind: text,
  },
  {
    v1: 'device.backend.config.alt_dirs',
    v2: 'backend.localfs.alt_dirs',
    to: 'backend.localfs.alt_dirs',
    default: [[], []],
    kind: texts,
  },
  {
    v1: 'device.cache.compressed',
    v2: 'cache.compressed',
    to: 'cache.compressed',
    default: [false, false],
    kind: flag,
  },
  {
    v1: 'device.cache.validate',
    v2: 'cache.validate',
    to: 'cache.validate',
    default: [false, false],
    kind: flag,
  },
  {
    v1: 'device.cache.config.disable_indexed_map',
    v2: 'cache.filecache.disable_indexed_map',
    to: 'cache.filecache.disable_indexed_map',
    default: [false, false],
    kind: flag,
  },
  {
    v1: 'device.cache.config.size_limit',
    v2: 'cache.filecache.size_limit',
    to: 'cache.filecache.size_limit',
    default: [0, 0],
    kind: count,
  },
  {
    v1: 'device.cache.config.enable_encryption',
    v2: 'cache.filecache.enable_encryption',
    to: 'cache.filecache.enable_encryption',
    default: [false, false],
    kind: flag,
  },
  { v1: 'digest_validate', v2: 'rafs.validate', to: 'rafs.validate', default: [false, false], kind: flag },
  {
    v1: 'iostats_files',
    v2: 'rafs.iostats_files',
    to: 'rafs.iostats_files',
    default: [false, false],
    kind: flag,
  },
  {
    v1: 'enable_xattr',
    v2: 'rafs.enable_xattr',
    to: 'rafs.enable_xattr',
    default: [false, false],
    kind: flag,
  },
  {
    v1: 'access_pattern',
    v2: 'rafs.access_pattern',
    to: 'rafs.access_pattern',
    default: [false, false],
    kind: flag,
  },
  {
    v1: 'latest_read_files',
    v2: 'rafs.latest_read_files',
    to: 'rafs.latest_read_files',
    default: [false, false],
    kind: flag,
  },
  {
    v1: 'amplify_io',
    v2: 'rafs.batch_size',
    to: 'rafs.batch_size',
    default: [1048576, 1048576],
    kind: bounded,
  },
  {
    v1: 'fs_prefetch.merging_size',
    v2: null,
    to: 'rafs.prefetch.batch_size',
    default: [1048576, 1048576],
    kind: bounded,
  },
  { v1: 'fs_prefetch.threads_count', v2: null, to: 'rafs.prefetch.threads', default: [8, 8], kind: count },
  {
    v1: 'fs_prefetch.bandwidth_rate',
    v2: null,
    to: 'rafs.prefetch.bandwidth_limit',
    default: [0, 0],
    kind: count,
  },
  {
    v1: 'fs_prefetch.prefetch_all',
    v2: null,
    to: 'rafs.prefetch.prefetch_all',
    default: [true, false],
    kind: flag,
  },
  {
    v1: 'fs_prefetch.stream_prefetch',
    v2: null,
    to: 'rafs.prefetch.stream_prefetch',
    default: [false, false],
    kind: flag,
  },
  { v1: 'fs_prefetch.enable', v2: null, to: 'rafs.prefetch.enable', default: [false, false], kind: flag },
]

t.test('every key: default, right values, null, wrong values', async t => {
  for (const key of keys)
    for (const [base, from, index] of [
      [v1(), key.v1, 0],
      [v2(), key.v2, 1],
    ] as const) {
      const to = key.to.split('.')
      t.strictSame(get(await parse(base), to), key.default[index], `${key.to}: default of v${index + 1}`)
      if (from === null) continue
      const path = from.split('.')
      t.strictSame(
        get(await parse(set(base, path, null)), to),
        key.default[index],
        `${from}: null is the default`,
      )
      for (const good of key.kind.good)
        t.strictSame(get(await parse(set(base, path, good)), to), good, `${from}: ${JSON.stringify(good)}`)
      for (const bad of key.kind.bad) {
        const message = await problem(set(base, path, bad))
        t.match(message, key.kind.right, `${from}: ${JSON.stringify(bad)}`)
        t.ok(message.includes(from), `${message} names ${from}`)
      }
    }
})

/** Options of HTTP backends: in v1 within `config`, in v2 within the table of the type. */
const httpKeys: { key: string; default: unknown; kind: (typeof keys)[0]['kind'] }[] = [
  { key: 'skip_verify', default: false, kind: flag },
  { key: 'ca_cert_files', default: [], kind: texts },
  { key: 'timeout', default: 5, kind: count },
  { key: 'connect_timeout', default: 5, kind: count },
  { key: 'retry_limit', default: 0, kind: count },
  { key: 'proxy.url', default: '', kind: text },
  { key: 'proxy.ping_url', default: '', kind: text },
  { key: 'proxy.fallback', default: true, kind: flag },
  { key: 'proxy.check_interval', default: 5, kind: count },
  { key: 'proxy.check_pause_elapsed', default: 300, kind: count },
  { key: 'proxy.use_http', default: false, kind: flag },
  { key: 'proxy.dragonfly_scheduler_endpoint', default: '', kind: text },
]

t.test('every HTTP backend takes the common options', async t => {
  for (const type of ['registry', 'oss', 's3', 'http-proxy'])
    for (const make of [backendV1, backendV2])
      for (const { key, default: fallback, kind } of httpKeys) {
        const path = key.split('.')
        const prefix = make === backendV1 ? 'device.backend.config' : `backend.${type}`
        const where = `${prefix}.${key}`
        t.strictSame(get(await parse(make(type)), ['backend', type, ...path]), fallback, where)
        for (const good of kind.good)
          t.strictSame(
            get(await parse(make(type, set({}, path, good))), ['backend', type, ...path]),
            good,
            `${where}: ${JSON.stringify(good)}`,
          )
        for (const bad of kind.bad) {
          const message = await problem(make(type, set({}, path, bad)))
          t.match(message, kind.right, `${where}: ${JSON.stringify(bad)}`)
          t.ok(message.includes(where), `${message} names ${where}`)
        }
      }
})
