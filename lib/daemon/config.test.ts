import t from 'tap'
import { MAX_CONFIG_BYTES, loadConfig, parseConfig } from './config.js'
import { redacted } from './config/redact.js'
import type { NydusConfig } from './config.js'

type Path = readonly (string | number)[]
const BIG = 0x1000_0000

const v1 = () => ({
  device: {
    id: '',
    backend: { type: 'localfs', config: { dir: '/blobs' } },
    cache: { type: 'blobcache', config: { work_dir: '/cache' } },
  },
  mode: 'direct',
})

const v2 = () => ({
  version: 2,
  backend: { type: 'localfs', localfs: { dir: '/blobs' } },
  cache: { type: 'filecache', filecache: { work_dir: '/cache' } },
})

const backendV1 = (type: string, config: object) => ({
  device: { backend: { type, config } },
  mode: 'direct',
})
const backendV2 = (type: string, config: object) => ({ version: 2, backend: { type, [type]: config } })
const registry = { host: 'r.example', repo: 'a/b' }
const oss = { endpoint: 'oss.example', bucket_name: 'b' }
const s3 = { endpoint: 's3.example', bucket_name: 'b', region: 'r' }

function get(value: unknown, path: Path): unknown {
  let at = value
  for (const key of path) at = (at as Record<string | number, unknown> | undefined)?.[key]
  return at
}

/** A copy of `base` with `value` at `path`; folders on the way are made. */
function set(base: object, path: Path, value: unknown): object {
  const copy = structuredClone(base) as Record<string | number, unknown>
  let at = copy
  for (const key of path.slice(0, -1)) at = (at[key] ??= {}) as Record<string | number, unknown>
  at[path.at(-1) as string] = value
  return copy
}

const parse = async (value: unknown) =>
  (await parseConfig(typeof value === 'string' ? value : JSON.stringify(value))).config

const problem = async (value: unknown): Promise<string> => {
  try {
    await parse(value)
    return 'accepted'
  } catch (error) {
    t.match(error, { name: 'NydusError', code: 'CONFIG_INVALID' })
    return (error as Error).message
  }
}

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
  const backends: [string, object][] = [
    ['registry', registry],
    ['oss', oss],
    ['s3', s3],
    ['http-proxy', { addr: 'http://p' }],
  ]
  for (const [type, config] of backends)
    for (const make of [backendV1, backendV2])
      for (const { key, default: fallback, kind } of httpKeys) {
        const path = key.split('.')
        const prefix = make === backendV1 ? 'device.backend.config' : `backend.${type}`
        const where = `${prefix}.${key}`
        t.strictSame(get(await parse(make(type, config)), ['backend', type, ...path]), fallback, where)
        for (const good of kind.good)
          t.strictSame(
            get(await parse(make(type, set(config, path, good))), ['backend', type, ...path]),
            good,
            `${where}: ${JSON.stringify(good)}`,
          )
        for (const bad of kind.bad) {
          const message = await problem(make(type, set(config, path, bad)))
          t.match(message, kind.right, `${where}: ${JSON.stringify(bad)}`)
          t.ok(message.includes(where), `${message} names ${where}`)
        }
      }
})

t.test('mandatory values, and what else is refused', async t => {
  const rows: [unknown, RegExp][] = [
    ['', /is empty$/],
    ['  \n// only a comment\n', /is empty$/],
    ['[]', /TOML|neither form/],
    ['{}', /neither form: v1 has a key `device`/],
    ['{"mode":"direct"}', /neither form/],
    ['{"device": {}', /is not JSON: unexpected end of the text at line 1 column 14/],
    ['version = 2\nbackend = {', /neither JSON nor TOML: line 2 column/],
    [{ version: 3, backend: v2().backend }, /^the configuration is wrong: version: expected 2, got 3$/],
    [{ version: '2', backend: v2().backend }, /version: expected 2, got "2"/],
    [{ backend: v2().backend }, /version: missing, expected 2/],
    [{ version: 2 }, /backend: missing/],
    [{ device: null, mode: 'direct' }, /device: expected a table of keys, got null/],
    [{ device: {}, mode: 'direct' }, /device\.backend: missing/],
    [set(v1(), ['mode'], undefined), /mode: missing, expected "direct" or "cached"/],
    [set(v1(), ['mode'], 'fast'), /mode: expected "direct" or "cached", got "fast"/],
    [set(v2(), ['rafs', 'mode'], 'Direct'), /rafs\.mode: expected "direct" or "cached", got "Direct"/],
    [
      set(v1(), ['device', 'backend', 'type'], 'ceph'),
      /device\.backend\.type: expected "localfs", .*"http-proxy", got "ceph"/,
    ],
    [
      set(v1(), ['device', 'backend', 'type'], undefined),
      /device\.backend\.type: missing, expected "localfs"/,
    ],
    [set(v2(), ['backend', 'type'], 'registry'), /backend\.registry: missing/],
    [{ device: { backend: { type: 'localfs' } }, mode: 'direct' }, /device\.backend\.config: missing/],
    [backendV1('localfs', {}), /device\.backend\.config: has neither `dir` .* nor `blob_file`/],
    [backendV2('localfs', { dir: '', blob_file: '' }), /backend\.localfs: has neither `dir`/],
    [backendV1('localdisk', { device_path: '' }), /config\.device_path: expected a text that is not empty/],
    [backendV2('localdisk', {}), /backend\.localdisk\.device_path: missing/],
    [backendV1('oss', { ...oss, endpoint: '' }), /config\.endpoint: expected a text that is not empty/],
    [backendV1('oss', { ...oss, bucket_name: undefined }), /config\.bucket_name: missing/],
    [backendV2('s3', { ...s3, region: '' }), /backend\.s3\.region: expected a text that is not empty/],
    [backendV2('s3', { ...s3, bucket_name: '' }), /backend\.s3\.bucket_name/],
    [
      backendV1('registry', { ...registry, host: '' }),
      /config\.host: expected a text that is not empty, got ""/,
    ],
    [backendV1('registry', { host: 'h' }), /config\.repo: missing, expected a text/],
    [backendV2('http-proxy', { addr: 'ftp://x' }), /addr: expected a URL .* UNIX socket, got "ftp:\/\/x"/],
    [backendV2('http-proxy', { addr: 'proxy.sock' }), /backend\.http-proxy\.addr: expected a URL/],
    [
      backendV1('registry', { ...registry, mirrors: [{}] }),
      /config\.mirrors\[0\]\.host: missing, expected a text/,
    ],
    [backendV1('registry', { ...registry, mirrors: 'x' }), /config\.mirrors: expected a list, got "x"/],
    [backendV1('registry', { ...registry, proxy: 5 }), /config\.proxy: expected a table of keys, got 5/],
    [
      set(v1(), ['device', 'cache', 'type'], 'ramcache'),
      /device\.cache\.type: expected .*"blobcache".*got "ramcache"/,
    ],
    [set(v1(), ['device', 'cache', 'config'], undefined), /device\.cache\.config: missing: .*`work_dir`/],
    [
      set(v1(), ['device', 'cache', 'config', 'work_dir'], ''),
      /device\.cache\.config\.work_dir: expected a text that is not empty/,
    ],
    [set(v1(), ['device', 'cache'], []), /device\.cache: expected a table of keys, got a list/],
    [
      set(v2(), ['cache', 'filecache'], undefined),
      /cache\.filecache: missing: type "filecache" needs a table/,
    ],
    [{ ...v2(), cache: { type: 'blobcache' } }, /cache\.filecache: missing: type "blobcache"/],
    [{ ...v2(), cache: { type: 'fscache', filecache: {} } }, /cache\.fscache: missing/],
    [
      set(v1(), ['fs_prefetch'], { enable: true, threads_count: 0 }),
      /fs_prefetch\.threads_count: expected 1 to 1024, got 0/,
    ],
    [set(v1(), ['fs_prefetch'], { enable: true, threads_count: 1025 }), /expected 1 to 1024, got 1025/],
    [
      set(v2(), ['cache', 'prefetch'], { threads: 4 }),
      /cache\.prefetch\.enable: missing, expected true or false/,
    ],
    [
      set(v2(), ['cache', 'prefetch'], { enable: true, threads: 0 }),
      /cache\.prefetch\.threads: expected 1 to 1024/,
    ],
    [
      set(v2(), ['rafs', 'prefetch'], { enable: true, batch_size: BIG + 1 }),
      /rafs\.prefetch\.batch_size: expected 268435456 or less/,
    ],
    [set(v2(), ['overlay'], { upper_dir: '/u' }), /overlay\.work_dir: missing/],
    [
      set(v1(), ['device', 'external_backends'], [{ type: 'x' }]),
      /device\.external_backends\[0\]\.patch: missing/,
    ],
  ]
  for (const [input, right] of rows) t.match(await problem(input), right, JSON.stringify(input).slice(0, 100))
})

t.test('all mistakes at once', async t => {
  const message = await problem({
    device: {
      backend: { type: 'registry', config: { timeout: '5s', retry_limit: -1 } },
      cache: { type: 'no' },
    },
    mode: 'quick',
    amplify_io: 'big',
  })
  for (const path of [
    'device.backend.config.host',
    'device.backend.config.repo',
    'device.backend.config.timeout',
    'device.backend.config.retry_limit',
    'device.cache.type',
    'mode',
    'amplify_io',
  ])
    t.ok(message.includes(`${path}: `), path)
})

t.test('what counts as what', async t => {
  const backend = async (type: string, config: object) =>
    get(await parse(backendV1(type, config)), ['backend', type]) as Record<string, unknown>
  t.match(await backend('registry', { ...registry, auth: '', registry_token: null }), {
    auth: null,
    registry_token: null,
  })
  t.match(await backend('registry', registry), { scheme: 'https', blob_url_scheme: '', auth: null })
  t.match(await backend('registry', { ...registry, scheme: 'http' }), { scheme: 'http' })
  t.match(await backend('s3', { bucket_name: 'b', region: 'r' }), { endpoint: '', scheme: 'https' })
  t.match(await backend('http-proxy', { addr: '/run/p.sock' }), { addr: '/run/p.sock', path: '' })
  t.strictSame(
    get(
      await backend('registry', { ...registry, mirrors: [{ host: 'http://m', headers: { 'X-A': 'b' } }] }),
      ['mirrors', 0],
    ),
    {
      host: 'http://m',
      headers: { 'X-A': 'b' },
      auth_through: false,
      ping_url: '',
      health_check_interval: 5,
      failure_limit: 5,
    },
  )
  // The README of 2020 spells the proxy flat.
  t.match(
    await backend('oss', {
      ...oss,
      proxy: 'http://p:8001',
      proxy_fallback: false,
      proxy_ping_url: 'http://p/ping',
      proxy_check_interval: 9,
    }),
    {
      proxy: {
        url: 'http://p:8001',
        fallback: false,
        ping_url: 'http://p/ping',
        check_interval: 9,
        check_pause_elapsed: 300,
      },
    },
  )
  t.notMatch(Object.keys(await backend('oss', { ...oss, proxy_fallback: true })), ['proxy_fallback'])
})

t.test('caches', async t => {
  const cache = async (given: unknown) => (await parse(set(v1(), ['device', 'cache'], given))).cache
  for (const none of [undefined, null, {}, { type: '' }, { type: null }])
    t.equal((await cache(none)).type, '')
  t.match(await cache({ type: 'dummycache' }), { type: 'dummycache', filecache: undefined })
  t.match(await cache({ type: 'blobcache', config: {} }), { type: 'blobcache', filecache: { work_dir: '.' } })
  t.match(await cache({ type: 'filecache', config: { work_dir: 'c' } }), { filecache: { work_dir: 'c' } })
  t.match(await cache({ type: 'fscache', config: { work_dir: 'c' } }), {
    fscache: { work_dir: 'c' },
    filecache: undefined,
  })
  t.match(await parse(set(v1(), ['digest_validate'], true)), {
    cache: { validate: true },
    rafs: { validate: true },
  })
  t.match(await parse({ ...v2(), cache: undefined }), { cache: { type: '', prefetch: { enable: false } } })
})

t.test('prefetch settings of the file system layer reach the cache unless it has its own', async t => {
  const on = { enable: true, threads: 3, batch_size: 4096, bandwidth_limit: 9 }
  t.match(await parse(set(v1(), ['fs_prefetch'], { enable: true, threads_count: 3 })), {
    cache: { prefetch: { enable: true, threads: 3, prefetch_all: true } },
  })
  t.match(await parse(set(v1(), ['fs_prefetch'], { enable: false, threads_count: 3 })), {
    cache: { prefetch: { enable: false, threads: 8 } },
  })
  t.match(await parse(set(v2(), ['rafs', 'prefetch'], on)), {
    cache: { prefetch: { ...on, prefetch_all: false } },
  })
  const both = set(set(v2(), ['rafs', 'prefetch'], on), ['cache', 'prefetch'], { enable: false })
  t.match(await parse(both), { cache: { prefetch: { enable: false } }, rafs: { prefetch: on } })
  t.match(
    await parse(set(v1(), ['fs_prefetch'], { enable: false, threads_count: 0 })),
    {},
    'threads are not looked at when off',
  )
})

t.test('unknown keys are named in one warning, legacy keys are not', async t => {
  const rows: [object, readonly string[]][] = [
    [v1(), []],
    [set(v1(), ['nonsense'], 1), ['nonsense']],
    [set(v1(), ['device', 'backend', 'config', 'dri'], '/x'), ['device.backend.config.dri']],
    [
      set(set(v1(), ['a b'], 1), ['device', 'cache', 'config', 'z'], {}),
      ['["a b"]', 'device.cache.config.z'],
    ],
    [set(v2(), ['backend', 'localfs', 'x'], 1), ['backend.localfs.x']],
    [set(v2(), ['rafs', 'digest_validate'], true), ['rafs.digest_validate']],
    [
      backendV1('registry', { ...registry, mirrors: [{ host: 'm', foo: 1 }] }),
      ['device.backend.config.mirrors[0].foo'],
    ],
    [set(v1(), ['validation_only'], true), []],
    [set(v1(), ['warmup'], {}), []],
    [set(v1(), ['id_mapping'], {}), []],
    [set(v1(), ['id'], 'x'), []],
    [set(v1(), ['device', 'external_backend'], { config_path: '' }), []],
    [set(v1(), ['device', 'backend', 'config', 'readahead'], true), []],
    [set(v1(), ['device', 'backend', 'config', 'readahead_sec'], 10), []],
    [backendV1('oss', { ...oss, force_upload: true, proxy: { url: 'http://p', timeout: 5 } }), []],
    [{ ...v2(), backend: { ...v2().backend, oss: null, registry: { anything: 1 } } }, []],
  ]
  for (const [input, unknown] of rows) {
    const { warnings } = await parseConfig(JSON.stringify(input), { where: 'configuration c.json' })
    if (unknown.length === 0) t.strictSame(warnings, [], JSON.stringify(input))
    else
      t.strictSame(warnings, [
        `configuration c.json has keys that are not known and have no effect: ${unknown.join(', ')}`,
      ])
  }
})

t.test('forms: comments, TOML, v1 without version', async t => {
  const toml = `version = 2 # must be 2
id = "/17"
[backend]
type = "registry"
[backend.registry]
host = "r.example"
repo = "a/b"
timeout = 0
[cache]
type = "blobcache"
[cache.filecache]
work_dir = "/cache"
[rafs]
validate = true
[rafs.prefetch]
enable = true
threads = 2`
  t.match(await parse(toml), {
    id: '/17',
    backend: { type: 'registry', registry: { host: 'r.example', timeout: 0 } },
    cache: { type: 'blobcache', prefetch: { enable: true, threads: 2, prefetch_all: false } },
    rafs: { mode: 'direct', validate: true },
  })
  t.match(await parse(`# a comment\n${toml}`), { id: '/17' })
  const readme = `{
    "device": { "backend": { "type": "localfs", "config": { "dir": "/b" } }, "cache": {} },
    "mode": "direct",
    "fs_prefetch": { "enable": true, "merging_size": 131072, // 128KB
      "threads_count": 10 /* ten */ },
  }`
  t.match(await parse(readme), { rafs: { prefetch: { batch_size: 131072, threads: 10 } } })
  t.match(await problem('version = 2\ntimeout = 1979-05-27\n[backend]\ntype = "x"'), /backend\.type/)
  t.match(await problem(`${toml}\nbatch_size = 9223372036854775807`), /rafs\.prefetch\.batch_size: expected/)
})

t.test('the result is frozen, and complete in the shape of v2', async t => {
  const config = await parse(v1())
  t.throws(() => ((config as { id: string }).id = 'x'), TypeError)
  t.throws(() => ((config.rafs.prefetch as { threads: number }).threads = 1), TypeError)
  // What the API shows can be mounted again.
  const again = await parse(redacted(config))
  t.strictSame(again, config)
})

t.test('redacted: every key, no secret', async t => {
  const shown = (config: NydusConfig) => JSON.stringify(redacted(config))
  t.match(redacted(await parse(v1())), {
    version: 2,
    backend: { type: 'localfs', oss: null, s3: null, registry: null, localdisk: null, 'http-proxy': null },
    cache: { fscache: null, filecache: { work_dir: '/cache', encryption_key: '' } },
    overlay: null,
    external_backends: [],
  })
  const keys = { access_key_id: 'c2Vj', access_key_secret: 'c2Vj' }
  const rows: [unknown, object][] = [
    [
      backendV1('oss', { ...oss, ...keys }),
      { oss: { access_key_id: '', access_key_secret: '', endpoint: 'oss.example' } },
    ],
    [backendV1('s3', { ...s3, ...keys }), { s3: { access_key_id: '', access_key_secret: '' } }],
    [
      backendV1('registry', { ...registry, auth: 'c2Vj', registry_token: 'c2Vj' }),
      { registry: { auth: null, registry_token: null } },
    ],
    [
      backendV1('registry', { ...registry, proxy: 'http://u:c2Vj@p:1/x@y' }),
      { registry: { proxy: { url: 'http://***@p:1/x@y' } } },
    ],
    [
      backendV1('registry', {
        ...registry,
        mirrors: [{ host: 'http://u:c2Vj@m', headers: { Authorization: 'c2Vj' } }],
      }),
      { registry: { mirrors: [{ host: 'http://***@m', headers: { Authorization: '***' } }] } },
    ],
    [
      set(
        v1(),
        ['device', 'external_backends'],
        [{ type: 'x', patch: { auth: 'c2Vj' }, config: { dir: '/d' } }],
      ),
      {},
    ],
    [set(v1(), ['device', 'cache', 'config', 'encryption_key'], 'c2Vj'), {}],
  ]
  for (const [input, backend] of rows) {
    const config = await parse(input)
    t.match(JSON.stringify(config), /c2Vj/)
    t.notMatch(shown(config), /c2Vj/)
    t.match(redacted(config)['backend'], backend)
  }
})

t.test('no message holds a secret', async t => {
  const inputs: unknown[] = [
    '{"device": {"backend": {"type": "registry", "config": {"auth": "c2Vj", "x" }}}}',
    'version = 2\nauth = "c2Vj\n',
    backendV1('registry', { ...registry, auth: ['c2Vj'] }),
    backendV1('registry', { ...registry, auth: { a: 'c2Vj' } }),
    backendV1('oss', { ...oss, access_key_secret: 5, access_key_id: { x: 'c2Vj' } }),
    backendV1('registry', { ...registry, mirrors: [{ host: 'm', headers: { Authorization: 5 } }] }),
    backendV1('registry', { ...registry, mirrors: [{ host: 'm', headers: 'c2Vj' }] }),
    backendV2('http-proxy', { addr: 'ftp://u:c2Vj@x' }),
    set(v1(), ['mode'], 'http://u:c2Vj@x'),
  ]
  for (const input of inputs) {
    const message = await problem(input)
    t.not(message, 'accepted')
    t.notMatch(message, /c2Vj/)
  }
})

t.test('IMAGE_PULL_AUTH replaces the credentials of a registry, of nothing else', async t => {
  const of = async (input: object, imagePullAuth: string) =>
    (await parseConfig(JSON.stringify(input), { imagePullAuth })).config.backend
  t.match(await of(backendV1('registry', { ...registry, auth: 'old' }), 'new'), { registry: { auth: 'new' } })
  t.match(await of(backendV1('registry', { ...registry, auth: 'old' }), ''), { registry: { auth: 'old' } })
  t.strictSame(await of(v1(), 'new'), (await parse(v1())).backend)
})

t.test('files', async t => {
  const dir = t.testdir({
    'v1.json': JSON.stringify(v1()),
    'big.json': `${JSON.stringify(v1())}${' '.repeat(MAX_CONFIG_BYTES)}`,
    'bad.json': '{"device": }',
    folder: {},
  })
  t.match((await loadConfig(`${dir}/v1.json`)).config, { backend: { localfs: { dir: '/blobs' } } })
  const rows: [string, RegExp][] = [
    ['none.json', /^configuration .*none\.json cannot be read: no such file or folder$/],
    ['folder', /^configuration .*folder cannot be read: it is a folder$/],
    ['big.json', /big\.json cannot be read: it has \d+ bytes, more than the 1048576 allowed$/],
    ['bad.json', /^configuration .*bad\.json is not JSON: a value was expected at line 1 column 12$/],
  ]
  for (const [name, message] of rows) await t.rejects(loadConfig(`${dir}/${name}`), { message })
})
