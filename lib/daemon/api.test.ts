import { writeFileSync } from 'node:fs'
import t from 'tap'
import { ROUTES } from './api.js'
import { command, info, request, serve } from './testing/fake-control.js'
import { call } from './testing/http-client.js'
import { tempDir } from './testing/temp-dir.js'

t.test('every command: what reaches the daemon, and the status', async t => {
  const { path, control } = await serve(t)
  const config = `${tempDir(t)}/c.json`
  writeFileSync(config, '{"file":true}')
  const rows: [method: string, url: string, body: unknown, status: number, calls: unknown[][]][] = [
    ['GET', '/api/v1/daemon', undefined, 200, []],
    ['PUT', '/api/v1/daemon', { log_level: 'debug' }, 204, [['setLogLevel', 'debug']]],
    ['GET', '/api/v1/daemon/events', undefined, 200, []],
    ['GET', '/api/v1/daemon/backend?mountpoint=/a', undefined, 200, [['backendInfo', '/a']]],
    ['PUT', '/api/v1/daemon/start', undefined, 204, [['start']]],
    ['PUT', '/api/v1/daemon/start', '', 204, [['start']]],
    ['PUT', '/api/v1/daemon/exit', '', 204, [['checkExit'], ['exit']]],
    ['PUT', '/api/v1/daemon/fuse/sendfd', undefined, 204, [['sendState']]],
    ['PUT', '/api/v1/daemon/fuse/takeover', undefined, 204, [['takeover']]],
    ['POST', '/api/v1/mount?mountpoint=%2Fa%2Fb', command, 204, [['mount', '/a/b', request]]],
    [
      'POST',
      '/api/v1/mount?mountpoint=/a/b',
      { ...command, extra: 1, prefetch_files: ['/x'] },
      204,
      [['mount', '/a/b', { ...request, prefetchFiles: ['/x'] }]],
    ],
    [
      'POST',
      '/api/v1/mount?mountpoint=/a',
      { ...command, prefetch_files: null },
      204,
      [['mount', '/a', request]],
    ],
    ['PUT', '/api/v1/mount?mountpoint=/a', command, 204, [['remount', '/a', request]]],
    ['DELETE', '/api/v1/mount?mountpoint=/a', undefined, 204, [['umount', '/a']]],
    // The form of 2020.
    [
      'PUT',
      '/api/v1/mount',
      { mountpoint: '/a', source: '/boot', fstype: 'rafs', config, ops: 'mount' },
      204,
      [['mount', '/a', { ...request, config: '{"file":true}' }]],
    ],
    [
      'PUT',
      '/api/v1/mount',
      { mountpoint: '/a', source: '/boot', config: ' {"text":1}' },
      204,
      [['mount', '/a', { ...request, config: ' {"text":1}' }]],
    ],
    [
      'PUT',
      '/api/v1/mount',
      { mountpoint: '/a', source: '/boot' },
      204,
      [['mount', '/a', { ...request, config: '{"default":true}' }]],
    ],
    [
      'PUT',
      '/api/v1/mount',
      { mountpoint: '/a', source: '/boot', ops: 'update', config },
      204,
      [['remount', '/a', { ...request, config: '{"file":true}' }]],
    ],
    ['PUT', '/api/v1/mount', { mountpoint: '/a', ops: 'umount' }, 204, [['umount', '/a']]],
    ['GET', '/api/v1/metrics', undefined, 200, [['global', undefined]]],
    ['GET', '/api/v1/metrics?id=/a', undefined, 200, [['global', '/a']]],
    ['GET', '/api/v1/metrics/files?id=/a&latest=true', undefined, 200, [['files', '/a', true]]],
    ['GET', '/api/v1/metrics/files?latest=false', undefined, 200, [['files', undefined, false]]],
    ['GET', '/api/v1/metrics/pattern?id=%2F', undefined, 200, [['pattern', '/', false]]],
    ['GET', '/api/v1/metrics/pattern?paths=true', undefined, 200, [['pattern', undefined, true]]],
    ['GET', '/api/v1/metrics/backend', undefined, 200, [['backend', undefined]]],
    ['GET', '/api/v1/metrics/blobcache?id=/17', undefined, 200, [['blobcache', '/17']]],
    ['GET', '/api/v1/metrics/inflight', undefined, 204, [['inflight']]],
    ['GET', '/api/v1/config', undefined, 200, [['settings', undefined]]],
    ['GET', '/api/v2/daemon', undefined, 200, []],
    ['PUT', '/api/v2/daemon', { log_level: 'warn' }, 204, [['setLogLevel', 'warn']]],
    ['GET', '/api/v2/blobs?domain_id=d', undefined, 200, []],
    ['DELETE', '/api/v2/blobs?blob_id=b', undefined, 204, []],
    ['GET', '/api/v1/config?id=', undefined, 200, [['settings', '']]],
    [
      'PUT',
      '/api/v1/config?id=/17',
      { registry_auth: 'x' },
      204,
      [['changeSettings', '/17', { registry_auth: 'x' }]],
    ],
    [
      'PUT',
      '/api/v1/config?id=',
      { proxy_url: 'p', dragonfly_scheduler_endpoint: 's' },
      204,
      [['changeSettings', '', { proxy_url: 'p', dragonfly_scheduler_endpoint: 's' }]],
    ],
  ]
  for (const [method, url, body, status, calls] of rows) {
    control.calls.length = 0
    const reply = await call(path, method, url, body)
    const label = `${method} ${url} ${JSON.stringify(body)}`
    t.equal(reply.status, status, label)
    t.strictSame(control.calls, calls, label)
    t.match(reply.headers, { server: 'Nydus API' })
    if (status === 204) {
      t.equal(reply.text, '')
      t.notOk('content-type' in reply.headers || 'content-length' in reply.headers, label)
    } else {
      t.match(reply.headers, {
        'content-type': 'application/json',
        'content-length': String(reply.text.length),
      })
      t.doesNotThrow(() => void JSON.parse(reply.text), label)
    }
  }
  control.inflight = [{ inode: 1 }]
  t.match(await call(path, 'GET', '/api/v1/metrics/inflight'), { status: 200, text: '[{"inode":1}]' })
  t.equal((await call(path, 'GET', '/api/v1/daemon')).text, JSON.stringify(info))
  t.match(JSON.parse((await call(path, 'GET', '/api/v2/daemon')).text), { ...info, backend_collection: null })
})

t.test('a mount that takes long does not hold up questions', async t => {
  const { path, control } = await serve(t)
  let release = () => {}
  control.pending = new Promise(resolve => (release = resolve))
  const mount = call(path, 'POST', '/api/v1/mount?mountpoint=/a', command)
  t.match(await call(path, 'GET', '/api/v1/daemon'), { status: 200 })
  release()
  t.match(await mount, { status: 204 })
})

t.test('the table can be published: every row says what it takes', async t => {
  const { z } = await import('zod')
  for (const { method, path, summary, body } of ROUTES) {
    t.match(path, /^\/api\/v[12]\//)
    t.match(summary, /\.$/, `${method} ${path}`)
    if (body) t.match(z.toJSONSchema(await body(), { io: 'input' }), { type: 'object' })
  }
})
