import t from 'tap'
import type { NydusConfig } from '../config.js'
import { backendV1, backendV2, parse, problem, set, v1 } from '../testing/configurations.js'
import { redacted } from './redact.js'

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
      backendV1('oss', { ...keys }),
      { oss: { access_key_id: '', access_key_secret: '', endpoint: 'oss.example' } },
    ],
    [backendV1('s3', { ...keys }), { s3: { access_key_id: '', access_key_secret: '' } }],
    [
      backendV1('registry', { auth: 'c2Vj', registry_token: 'c2Vj' }),
      { registry: { auth: null, registry_token: null } },
    ],
    [
      backendV1('registry', { proxy: 'http://u:c2Vj@p:1/x@y' }),
      { registry: { proxy: { url: 'http://***@p:1/x@y' } } },
    ],
    [
      backendV1('registry', {
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
    backendV1('registry', { auth: ['c2Vj'] }),
    backendV1('registry', { auth: { a: 'c2Vj' } }),
    backendV1('oss', { access_key_secret: 5, access_key_id: { x: 'c2Vj' } }),
    backendV1('registry', { mirrors: [{ host: 'm', headers: { Authorization: 5 } }] }),
    backendV1('registry', { mirrors: [{ host: 'm', headers: 'c2Vj' }] }),
    backendV2('http-proxy', { addr: 'ftp://u:c2Vj@x' }),
    set(v1(), ['mode'], 'http://u:c2Vj@x'),
  ]
  for (const input of inputs) {
    const message = await problem(input)
    t.not(message, 'accepted')
    t.notMatch(message, /c2Vj/)
  }
})
