import t from 'tap'
import { NydusError, type Code } from '../../base/errors.js'
import { command, serve } from '../testing/fake-control.js'
import { call } from '../testing/http-client.js'

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
