import t from 'tap'
import { backendV1, backendV2, BIG, problem, set, v1, v2 } from '../testing/configurations.js'

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
    [backendV1('oss', { endpoint: '' }), /config\.endpoint: expected a text that is not empty/],
    [backendV1('oss', { bucket_name: undefined }), /config\.bucket_name: missing/],
    [backendV2('s3', { region: '' }), /backend\.s3\.region: expected a text that is not empty/],
    [backendV2('s3', { bucket_name: '' }), /backend\.s3\.bucket_name/],
    [backendV1('registry', { host: '' }), /config\.host: expected a text that is not empty, got ""/],
    [backendV1('registry', { repo: undefined }), /config\.repo: missing, expected a text/],
    [backendV2('http-proxy', { addr: 'ftp://x' }), /addr: expected a URL .* UNIX socket, got "ftp:\/\/x"/],
    [backendV2('http-proxy', { addr: 'proxy.sock' }), /backend\.http-proxy\.addr: expected a URL/],
    [backendV1('registry', { mirrors: [{}] }), /config\.mirrors\[0\]\.host: missing, expected a text/],
    [backendV1('registry', { mirrors: 'x' }), /config\.mirrors: expected a list, got "x"/],
    [backendV1('registry', { proxy: 5 }), /config\.proxy: expected a table of keys, got 5/],
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
