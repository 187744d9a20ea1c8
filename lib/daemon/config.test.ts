import t from 'tap'
import { MAX_CONFIG_BYTES, loadConfig, parseConfig } from './config.js'
import { redacted } from './config/redact.js'
import { backendV1, get, parse, problem, set, v1, v2 } from './testing/configurations.js'

t.test('what counts as what', async t => {
  const backend = async (type: string, config: object = {}) =>
    get(await parse(backendV1(type, config)), ['backend', type]) as Record<string, unknown>
  t.match(await backend('registry', { auth: '', registry_token: null }), {
    auth: null,
    registry_token: null,
  })
  t.match(await backend('registry'), { scheme: 'https', blob_url_scheme: '', auth: null })
  t.match(await backend('registry', { scheme: 'http' }), { scheme: 'http' })
  t.match(await backend('s3', { endpoint: undefined }), { endpoint: '', scheme: 'https' })
  t.match(await backend('http-proxy', { addr: '/run/p.sock' }), { addr: '/run/p.sock', path: '' })
  t.strictSame(
    get(await backend('registry', { mirrors: [{ host: 'http://m', headers: { 'X-A': 'b' } }] }), [
      'mirrors',
      0,
    ]),
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
  t.notMatch(Object.keys(await backend('oss', { proxy_fallback: true })), ['proxy_fallback'])
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
    [backendV1('registry', { mirrors: [{ host: 'm', foo: 1 }] }), ['device.backend.config.mirrors[0].foo']],
    [set(v1(), ['validation_only'], true), []],
    [set(v1(), ['warmup'], {}), []],
    [set(v1(), ['id_mapping'], {}), []],
    [set(v1(), ['id'], 'x'), []],
    [set(v1(), ['device', 'external_backend'], { config_path: '' }), []],
    [set(v1(), ['device', 'backend', 'config', 'readahead'], true), []],
    [set(v1(), ['device', 'backend', 'config', 'readahead_sec'], 10), []],
    [backendV1('oss', { force_upload: true, proxy: { url: 'http://p', timeout: 5 } }), []],
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

t.test('external backends are not used: one warning says so, and what to do', async t => {
  const external = [{ patch: { root: '/models' }, type: 'local', config: { root: '/mnt' } }]
  const warnings = async (input: object) =>
    (await parseConfig(JSON.stringify(input), { where: 'configuration c.json' })).warnings
  const rows: [object, string][] = [
    [{ ...v2(), external_backends: external }, 'external_backends'],
    [set(v1(), ['device', 'external_backends'], external), 'device.external_backends'],
  ]
  for (const [input, key] of rows) {
    t.match(await warnings(input), [
      `configuration c.json has ${key}, which have no effect: data that an image keeps elsewhere`,
    ])
    t.match(await parse(input), { external_backends: external }, 'they are shown as they were given')
    t.equal((await warnings({ ...input, nonsense: 1 })).length, 2, 'beside that of unknown keys')
  }
  for (const none of [[], null, undefined])
    t.strictSame(await warnings({ ...v2(), external_backends: none }), [])
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

t.test('IMAGE_PULL_AUTH replaces the credentials of a registry, of nothing else', async t => {
  const of = async (input: object, imagePullAuth: string) =>
    (await parseConfig(JSON.stringify(input), { imagePullAuth })).config.backend
  t.match(await of(backendV1('registry', { auth: 'old' }), 'new'), { registry: { auth: 'new' } })
  t.match(await of(backendV1('registry', { auth: 'old' }), ''), { registry: { auth: 'old' } })
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
