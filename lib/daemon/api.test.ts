import { existsSync, lstatSync, statSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { NydusError, type Code } from '../base/errors.js'
import { silentLog } from '../base/log.js'
import { ROUTES, startApi } from './api.js'
import type { Control, DaemonInfo, MountRequest } from './control.js'
import { ErrorEvents } from './error-events.js'
import { call, RawConnection } from './testing/http-client.js'
import { tempDir } from './testing/temp-dir.js'

const info: DaemonInfo = {
  version: { package_ver: '0', git_commit: 'c', build_time: 't', profile: 'p', rustc: 'n' },
  id: null,
  supervisor: null,
  state: 'RUNNING',
  backend_collection: {},
}

/** Writes down what it is told; fails where the test says so. */
class FakeControl implements Control {
  readonly calls: unknown[][] = []
  /** Next failure by method. */
  readonly failures = new Map<string, Error>()
  pending: Promise<void> | undefined
  inflight: object[] = []

  #note(name: string, ...values: unknown[]): void {
    this.calls.push([name, ...values])
    const failure = this.failures.get(name)
    if (failure) throw failure
  }
  readonly metrics = {
    global: (id?: string) => (this.#note('global', id), { id: id ?? '/' }),
    files: (id: string | undefined, latest: boolean) => (this.#note('files', id, latest), latest ? [] : {}),
    pattern: (id: string | undefined, paths: boolean) => (this.#note('pattern', id, paths), []),
    backend: (id?: string) => (this.#note('backend', id), {}),
    blobcache: (id?: string) => (this.#note('blobcache', id), {}),
    inflight: () => (this.#note('inflight'), this.inflight),
  }
  info = () => info
  setLogLevel = (level: string) => this.#note('setLogLevel', level)
  events = () => new ErrorEvents().report()
  backendInfo = (mountpoint: string) => (this.#note('backendInfo', mountpoint), { version: 0x600 })
  async mount(mountpoint: string, request: MountRequest) {
    this.#note('mount', mountpoint, request)
    await this.pending
  }
  remount = async (mountpoint: string, request: MountRequest) => this.#note('remount', mountpoint, request)
  umount = async (mountpoint: string) => this.#note('umount', mountpoint)
  defaultConfig = async () => '{"default":true}'
  settings = (id?: string) => (this.#note('settings', id), { registry_auth: '***' })
  changeSettings = (id: string, settings: object) => this.#note('changeSettings', id, settings)
  start = async () => this.#note('start')
  takeover = async () => this.#note('takeover')
  sendState = async () => this.#note('sendState')
  checkExit = () => this.#note('checkExit')
  exit = () => this.#note('exit')
}

async function serve(t: { teardown(end: () => unknown): void }) {
  const path = `${tempDir(t)}/api.sock`
  const control = new FakeControl()
  const api = await startApi(path, control, silentLog)
  t.teardown(() => api.close())
  return { path, control, api }
}

const command = { fs_type: 'rafs', source: '/boot', config: '{}' }
const request: MountRequest = { fsType: 'rafs', source: '/boot', config: '{}', prefetchFiles: [] }

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

t.test('requests that are wrong', async t => {
  const { path, control } = await serve(t)
  const rows: [method: string, url: string, body: unknown, status: number, message: string | RegExp][] = [
    ['GET', '/', undefined, 404, 'NoRoute'],
    ['GET', '/api/v1/daemon/', undefined, 404, 'NoRoute'],
    ['GET', '/api/v1/nothing', undefined, 404, 'NoRoute'],
    ['GET', '/api/v3/daemon', undefined, 404, 'NoRoute'],
    ['POST', '/api/v1/daemon', {}, 400, /^BadRequest/],
    ['DELETE', '/api/v1/metrics', undefined, 400, /^BadRequest/],
    ['PATCH', '/api/v1/mount?mountpoint=/a', command, 400, /^BadRequest/],
    ['GET', '/api/v1/daemon', '{}', 400, /^BadRequest/],
    ['PUT', '/api/v1/daemon', undefined, 400, /^BadRequest/],
    ['PUT', '/api/v1/daemon', '', 400, /^BadRequest/],
    ['PUT', '/api/v1/daemon', {}, 400, 'ParseBody(Error("missing field `log_level`", line: 1, column: 2))'],
    [
      'PUT',
      '/api/v1/daemon',
      { log_level: 5 },
      400,
      /^ParseBody\(Error\("log_level: expected a text, got 5", line: 1, column: 15\)\)$/,
    ],
    ['PUT', '/api/v1/daemon', { log_level: 'loud' }, 500, 'Configure(ResponsePayloadType)'],
    [
      'PUT',
      '/api/v1/daemon',
      '{"log_level": }',
      400,
      /^ParseBody\(Error\("a value was expected", line: 1, column: 15\)\)$/,
    ],
    ['PUT', '/api/v1/daemon', 'garbage', 400, /^ParseBody/],
    ['PUT', '/api/v1/daemon', '[]', 400, /^ParseBody/],
    [
      'GET',
      '/api/v1/daemon/backend',
      undefined,
      400,
      `QueryString("'mountpoint' should be specified in query string")`,
    ],
    [
      'POST',
      '/api/v1/mount',
      command,
      400,
      `QueryString("'mountpoint' should be specified in query string")`,
    ],
    [
      'DELETE',
      '/api/v1/mount?id=/a',
      undefined,
      400,
      `QueryString("'mountpoint' should be specified in query string")`,
    ],
    [
      'PUT',
      '/api/v1/config',
      { registry_auth: 'x' },
      400,
      `QueryString("'id' should be specified in query string")`,
    ],
    [
      'POST',
      '/api/v1/mount?mountpoint=/a',
      { fs_type: 'rafs', source: '/b' },
      400,
      'ParseBody(Error("missing field `config`", line: 1, column: 32))',
    ],
    [
      'POST',
      '/api/v1/mount?mountpoint=/a',
      { ...command, config: {} },
      400,
      /config: expected a text, got a table/,
    ],
    [
      'POST',
      '/api/v1/mount?mountpoint=/a',
      { ...command, prefetch_files: '/x' },
      400,
      /prefetch_files: expected a list, got "\/x"/,
    ],
    ['PUT', '/api/v1/mount', { source: '/b' }, 400, /missing field `mountpoint`/],
    ['PUT', '/api/v1/mount', { mountpoint: '/b' }, 400, /missing field `source`/],
    [
      'PUT',
      '/api/v1/mount',
      { mountpoint: '/b', ops: 'remove' },
      400,
      /ops: expected "mount" or "umount" or "update", got "remove"/,
    ],
    [
      'PUT',
      '/api/v1/mount',
      { mountpoint: '/b', source: '/c', config: '/no/such/file' },
      500,
      /Mount\(Failed to load config: .*\/no\/such\/file cannot be read: no such file or folder\)/,
    ],
    ['PUT', '/api/v1/config?id=x', { nonsense: 'x' }, 500, 'Configure(ResponsePayloadType)'],
    ['PUT', '/api/v2/daemon', { log_level: 'loud' }, 500, 'Configure(ResponsePayloadType)'],
    [
      'GET',
      '/api/v2/blobs',
      undefined,
      400,
      `QueryString("'domain_id' should be specified in query string")`,
    ],
    [
      'DELETE',
      '/api/v2/blobs',
      undefined,
      400,
      `QueryString("'blob_id' should be specified in query string")`,
    ],
    [
      'DELETE',
      '/api/v2/blobs?domain_id=d',
      undefined,
      501,
      /^DeleteBlobObject\(DaemonAbnormal\(Unsupported\)/,
    ],
    ['PUT', '/api/v2/blobs', {}, 400, /missing field `type`/],
    ['PUT', '/api/v2/blobs', { type: 'bootstrap', id: 'b' }, 400, /neither `config` nor `config_v2`/],
    ['PUT', '/api/v1/config?id=x', {}, 500, 'Configure(ResponsePayloadType)'],
    [
      'PUT',
      '/api/v1/config?id=x',
      { registry_auth: 5 },
      400,
      /ParseBody.*registry_auth: expected a text, got a number \(not shown/,
    ],
    ['PUT', '/api/v1/config?id=x', { registry_auth: ['c2Vj'] }, 400, /^((?!c2Vj).)*$/],
  ]
  for (const [method, url, body, status, message] of rows) {
    const reply = await call(path, method, url, body)
    const label = `${method} ${url} ${JSON.stringify(body)}`
    t.equal(reply.status, status, label)
    const error = JSON.parse(reply.text) as { code: string; message: string }
    t.equal(error.code, 'UNDEFINED', label)
    if (typeof message === 'string') t.equal(error.message, message, label)
    else t.match(error.message, message, label)
  }
  t.strictSame(control.calls, [], 'nothing reached the daemon')
})

t.test('failures of the daemon, in the words that clients look for', async t => {
  const { path, control } = await serve(t)
  const rows: [
    fails: string,
    code: Code,
    method: string,
    url: string,
    status: number,
    message: string | RegExp,
  ][] = [
    [
      'mount',
      'VFS_MOUNTED',
      'POST',
      'mount?mountpoint=/a',
      500,
      'Mount(MountFilesystem(Other("object or filesystem already exists")))',
    ],
    [
      'mount',
      'RAFS_NOT_FOUND',
      'POST',
      'mount?mountpoint=/a',
      500,
      /^Mount\(RAFS failed to handle request, Failed to fill superBlock: No such file or directory \(os error 2\): the reason\)$/,
    ],
    [
      'mount',
      'RAFS_NOT_BOOTSTRAP',
      'POST',
      'mount?mountpoint=/a',
      500,
      'Mount(RAFS failed to handle request, Failed to fill superBlock: the reason)',
    ],
    ['mount', 'MOUNT_BAD_TYPE', 'POST', 'mount?mountpoint=/a', 500, 'Mount(the reason)'],
    ['mount', 'VFS_PATH_INVALID', 'POST', 'mount?mountpoint=a', 500, /^Mount\(VFS failed, PathWalk/],
    [
      'mount',
      'CONFIG_INVALID',
      'POST',
      'mount?mountpoint=/a',
      500,
      /Failed to load config: failed to parse configuration information: the reason/,
    ],
    ['mount', 'START_PREFETCH_FILES', 'POST', 'mount?mountpoint=/a', 500, /invalid prefetch file list/],
    ['mount', 'BACKEND_UNSUPPORTED', 'POST', 'mount?mountpoint=/a', 500, 'Mount(the reason)'],
    ['remount', 'VFS_NOT_MOUNTED', 'PUT', 'mount?mountpoint=/a', 500, /object or filesystem doesn't exist/],
    [
      'remount',
      'MOUNT_TYPE_MISMATCH',
      'PUT',
      'mount?mountpoint=/a',
      500,
      /filesystem type mismatch, expect RAFS/,
    ],
    [
      'umount',
      'VFS_NOT_MOUNTED',
      'DELETE',
      'mount?mountpoint=/a',
      500,
      /^Umount\(.*object or filesystem doesn't exist/,
    ],
    [
      'backendInfo',
      'VFS_NOT_MOUNTED',
      'GET',
      'daemon/backend?mountpoint=/a',
      500,
      `FsBackendInfo(Metrics(Daemon(Other("object or filesystem doesn't exist"))))`,
    ],
    ['global', 'METRICS_NO_COUNTER', 'GET', 'metrics', 404, 'GlobalMetrics(Metrics(Stats(NoCounter)))'],
    ['files', 'METRICS_NO_COUNTER', 'GET', 'metrics/files', 404, 'FsFilesMetrics(Metrics(Stats(NoCounter)))'],
    ['pattern', 'METRICS_NO_COUNTER', 'GET', 'metrics/pattern', 404, 'Pattern(Metrics(Stats(NoCounter)))'],
    [
      'backend',
      'METRICS_NO_COUNTER',
      'GET',
      'metrics/backend',
      404,
      'BackendMetrics(Metrics(Stats(NoCounter)))',
    ],
    [
      'blobcache',
      'METRICS_NO_COUNTER',
      'GET',
      'metrics/blobcache',
      404,
      'BlobcacheMetrics(Metrics(Stats(NoCounter)))',
    ],
    [
      'inflight',
      'METRICS_UNSUPPORTED',
      'GET',
      'metrics/inflight',
      500,
      'InflightMetrics(Metrics(Daemon(Unsupported)))',
    ],
    ['start', 'STATE_UNEXPECTED', 'PUT', 'daemon/start', 400, 'Upgrade(UnexpectedEvent("the"))'],
    [
      'sendState',
      'DAEMON_UNSUPPORTED',
      'PUT',
      'daemon/fuse/sendfd',
      501,
      /^Upgrade\(DaemonAbnormal\(Unsupported\)/,
    ],
    ['takeover', 'DAEMON_NOT_READY', 'PUT', 'daemon/fuse/takeover', 503, 'Upgrade(DaemonAbnormal(NotReady))'],
  ]
  for (const [fails, code, method, url, status, message] of rows) {
    control.failures.clear()
    control.failures.set(fails, new NydusError(code, 'EIO', 'the reason'))
    const reply = await call(
      path,
      method,
      `/api/v1/${url}`,
      method.startsWith('P') && url.startsWith('mount') ? command : undefined,
    )
    t.equal(reply.status, status, code)
    const error = JSON.parse(reply.text) as { code: string; message: string }
    if (typeof message === 'string') t.equal(error.message, message)
    else t.match(error.message, message)
  }
  control.failures.set('global', new TypeError('a mistake in the program'))
  t.match(await call(path, 'GET', '/api/v1/metrics'), { status: 500, text: /a mistake in the program/ })
  control.failures.clear()
  t.match(await call(path, 'GET', '/api/v1/metrics'), { status: 200 }, 'it lives on')
})

t.test('exit: the answer is sent first; where it is not possible nothing ends', async t => {
  const { path, control } = await serve(t)
  control.failures.set(
    'checkExit',
    new NydusError('STATE_UNEXPECTED', 'EINVAL', 'Exit is not possible while STOPPED'),
  )
  t.match(await call(path, 'PUT', '/api/v1/daemon/exit'), {
    status: 400,
    text: /UnexpectedEvent\(\\"Exit\\"\)/,
  })
  t.strictSame(control.calls, [['checkExit']])
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

t.test('large bodies, chunked bodies, Expect, pipelining, HTTP/1.0', async t => {
  const { path, control } = await serve(t)
  const prefetch_files = Array.from(
    { length: 60_000 },
    (_, i) => `/usr/share/some/folder/with/a/long/path/${i}/file-${i}.so`,
  )
  const large = { ...command, prefetch_files }
  t.ok(JSON.stringify(large).length > 3 << 20)
  t.match(await call(path, 'POST', '/api/v1/mount?mountpoint=/a', large), { status: 204 })
  t.match(
    await call(path, 'POST', '/api/v1/mount?mountpoint=/b', { ...command, config: 'x'.repeat(5 << 20) }),
    { status: 204 },
  )
  t.match(
    await call(path, 'POST', '/api/v1/mount?mountpoint=/c', large, { 'Transfer-Encoding': 'chunked' }),
    { status: 204 },
  )
  t.strictSame(
    control.calls.map(at => at[1]),
    ['/a', '/b', '/c'],
  )

  const text = JSON.stringify(command)
  const expecting = new RawConnection(path)
  expecting.write(
    `POST /api/v1/mount?mountpoint=/d HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: ${text.length}\r\n\r\n`,
  )
  await expecting.until(/^HTTP\/1\.1 100 /)
  expecting.write(text)
  t.match(await expecting.until(/ 204 /), /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 204 /)
  expecting.close()

  const pipelined = new RawConnection(path)
  pipelined.write(
    'GET /api/v1/daemon HTTP/1.1\r\nHost: x\r\n\r\n' +
      `PUT /api/v1/mount?mountpoint=/e HTTP/1.1\r\nHost: x\r\nContent-Length: ${text.length}\r\n\r\n${text}` +
      'GET /api/v1/none HTTP/1.1\r\nHost: x\r\n\r\n',
  )
  const statuses = [...(await pipelined.until(/NoRoute/)).matchAll(/HTTP\/1\.1 (\d+) /g)].map(at => at[1])
  t.strictSame(statuses, ['200', '204', '404'])
  pipelined.close()

  const old = new RawConnection(path)
  old.write('GET /api/v1/daemon HTTP/1.0\r\n\r\n')
  t.match(await old.until(/RUNNING/), /^HTTP\/1\.1 200 [^]*Content-Length: \d+/)
  old.close()
})

t.test('too large, or no HTTP at all: an answer, and the daemon lives on', async t => {
  const { path } = await serve(t)
  const big = new RawConnection(path)
  big.write(`POST /api/v1/mount?mountpoint=/a HTTP/1.1\r\nHost: x\r\nContent-Length: ${1 << 30}\r\n\r\n{`)
  t.match(await big.until(/allowed by server/), /^HTTP\/1\.1 413 [^]*larger than the limit of 16777216/)
  await big.until(/never/)
  t.ok(big.ended, 'the rest of the body is not waited for')

  const endless = new RawConnection(path)
  endless.write('POST /api/v1/mount?mountpoint=/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n')
  const chunk = 'x'.repeat(1 << 20)
  for (let i = 0; i < 17; i++) endless.write(`100000\r\n${chunk}\r\n`)
  t.match(await endless.until(/allowed by server/), /^HTTP\/1\.1 413 /)
  endless.close()

  const garbage = new RawConnection(path)
  garbage.write('\x16\x03\x01 hello\r\n\r\n')
  t.match(await garbage.until(/never/), /^HTTP\/1\.1 400 [^]*"message":"BadRequest: Invalid request\."/)
  t.match(await call(path, 'GET', '/api/v1/daemon'), { status: 200 })
})

t.test('many connections that say nothing stay open while others are served', async t => {
  const { path } = await serve(t)
  const idle = Array.from({ length: 50 }, () => new RawConnection(path))
  const used = new RawConnection(path)
  for (let i = 1; i <= 3; i++) {
    used.write('GET /api/v1/daemon HTTP/1.1\r\nHost: x\r\n\r\n')
    await used.until(new RegExp(`(RUNNING[^]*){${i}}`))
  }
  t.notOk(used.ended)
  t.notOk(idle.some(at => at.ended))
  for (const connection of [...idle, used]) connection.close()
})

t.test('the socket: mode 0600, gone after close; connections end with it', async t => {
  const { path, api } = await serve(t)
  t.ok(lstatSync(path).isSocket())
  t.equal(statSync(path).mode & 0o777, 0o600)
  const idle = new RawConnection(path)
  await call(path, 'GET', '/api/v1/daemon')
  await api.close()
  t.notOk(existsSync(path))
  await idle.until(/never/)
  t.ok(idle.ended)
  await t.rejects(startApi(`${path}/x`, new FakeControl(), silentLog), { code: 'START_SOCKET_LISTEN' })
})

t.test('the table can be published: every row says what it takes', async t => {
  const { z } = await import('zod')
  for (const { method, path, summary, body } of ROUTES) {
    t.match(path, /^\/api\/v[12]\//)
    t.match(summary, /\.$/, `${method} ${path}`)
    if (body) t.match(z.toJSONSchema(await body(), { io: 'input' }), { type: 'object' })
  }
})
