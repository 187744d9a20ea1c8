/** Starts, ends, and what comes and goes in between: front-ends, sockets, signals. */
import { cpSync, existsSync, lstatSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { Daemon, instanceConfig, nydusdPath } from '../../vm-tests/daemon.js'
import { fixtureNamed } from '../../vm-tests/fixtures.js'
import { connectGuest, startDaemon } from './testing/daemon.js'
import { list, nodeAt, readAll } from './testing/guest-tree.js'
import { call, RawConnection } from './testing/http-client.js'
import { tempDir } from './testing/temp-dir.js'

const image = fixtureNamed('v6-zstd-blake3')
const other = fixtureNamed('v5-zstd-sha256')

/** Until the process is gone; its zombie counts as gone. */
async function gone(pid: number): Promise<void> {
  const state = () => {
    try {
      return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.[0]
    } catch {
      return undefined
    }
  }
  for (let at = state(); at !== undefined && at !== 'Z'; at = state()) await delay(5)
}

/** Until the log says so; it comes through a pipe. */
async function logged(daemon: Daemon, pattern: RegExp): Promise<void> {
  while (!pattern.test(daemon.log)) await delay(5)
}

t.test('ends at once with code 0: by signal or API, with a guest or without', async t => {
  const ways: [string, boolean, (daemon: Daemon) => unknown][] = [
    ['SIGTERM', false, daemon => process.kill(daemon.pid, 'SIGTERM')],
    ['SIGINT', false, daemon => process.kill(daemon.pid, 'SIGINT')],
    ['API', false, daemon => daemon.api('PUT', 'daemon/exit')],
    ['SIGTERM', true, daemon => process.kill(daemon.pid, 'SIGTERM')],
    ['API', true, daemon => daemon.api('PUT', 'daemon/exit')],
  ]
  for (const [name, withGuest, end] of ways)
    await t.test(`${name}, ${withGuest ? 'a guest' : 'no guest'}`, async t => {
      const daemon = await startDaemon(t)
      await daemon.mount('/a', image.bootstrap, { blobs: image.blobs })
      if (withGuest) await nodeAt(await connectGuest(t, daemon), '/a/dedup')
      // The snapshotter's connection, which says nothing.
      const idle = new RawConnection(daemon.apisock)
      await end(daemon)
      await gone(daemon.pid)
      await idle.until(/never/)
      t.notOk(existsSync(daemon.sock), 'the vhost-user socket is gone')
      t.notOk(existsSync(daemon.apisock), 'the API socket is gone')
      t.equal(await daemon.stop(), 'exit code 0')
      t.match(daemon.log, /"msg":"nydusd ends"/)
      t.notMatch(daemon.log, /takes too long|not clean|"level":"error"/)
    })
})

t.test('a signal during the start', async t => {
  const dir = tempDir(t)
  const child = spawn(nydusdPath(), ['--sock', `${dir}/v.sock`, '--apisock', `${dir}/a.sock`], {
    stdio: 'ignore',
  })
  while (!existsSync(`${dir}/v.sock`)) await delay(1)
  child.kill('SIGTERM')
  t.strictSame(await once(child, 'exit'), [0, null])
  t.notOk(existsSync(`${dir}/v.sock`))
})

t.test('SIGHUP means nothing: the terminal goes, the guests stay', async t => {
  const daemon = await startDaemon(t)
  process.kill(daemon.pid, 'SIGHUP')
  t.match(await daemon.api('GET', 'daemon'), { state: 'RUNNING' })
})

t.test('one guest after the other, the daemon stays', async t => {
  const daemon = await startDaemon(t)
  await daemon.mount('/a', image.bootstrap, { blobs: image.blobs, workDir: `${daemon.folder}/cache` })
  for (let boot = 1; boot <= 5; boot++) {
    const fuse = await connectGuest(t, daemon)
    const node = await nodeAt(fuse, '/a/dedup/copy0')
    const { size } = await fuse.getattr(node)
    t.equal((await readAll(fuse, node, Number(size))).length, 70_000, `guest ${boot}`)
    fuse.frontend.close()
  }
  t.match(await daemon.api('GET', 'daemon'), { state: 'RUNNING' })
  t.notMatch(daemon.log, /"level":"error"/)
})

t.test('when the API socket appears the daemon is RUNNING; before any front-end', async t => {
  const daemon = await startDaemon(t, [
    ...['--config', writeConfig(tempDir(t)), '--bootstrap', image.bootstrap, '--virtual-mountpoint', '/x/y'],
  ])
  t.match(await daemon.api('GET', 'daemon'), {
    state: 'RUNNING',
    id: null,
    supervisor: null,
    version: { git_commit: /./, rustc: /^node v/ },
    backend_collection: {
      '/x/y': {
        backend_type: 'Rafs',
        mountpoint: '/x/y',
        mounted_time: /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} \+00:00:00$/,
        config: { version: 2, backend: { type: 'localfs', oss: null } },
      },
    },
  })
  for (const path of [daemon.sock, daemon.apisock]) {
    t.ok(lstatSync(path).isSocket())
    t.equal(statSync(path).mode & 0o777, 0o600)
  }
  const fuse = await connectGuest(t, daemon)
  t.strictSame(
    (await list(fuse, 1n)).map(([name]) => name.toString()),
    ['x'],
  )
})

function writeConfig(dir: string): string {
  const path = `${dir}/config.json`
  writeFileSync(path, instanceConfig({ blobs: image.blobs, workDir: `${dir}/cache` }))
  return path
}

t.test('the same sockets again after kill -9', async t => {
  const dir = tempDir(t)
  const first = await Daemon.start(['virtiofs'], dir)
  process.kill(first.pid, 'SIGKILL')
  await gone(first.pid)
  t.ok(lstatSync(first.sock).isSocket(), 'left behind')
  const second = await startDaemonIn(t, dir)
  // The dead ones' files were there from the start, so that says nothing: ask until it answers.
  const info = async () => (await second.api('GET', 'daemon').catch(() => undefined)) ?? (await delay(5))
  let answer = await info()
  while (answer === undefined) answer = await info()
  t.match(answer, { state: 'RUNNING' })
  const third = spawn(nydusdPath(), ['--sock', second.sock], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  third.stderr.on('data', (part: Buffer) => (said += part.toString()))
  t.strictSame(await once(third, 'close'), [1, null])
  t.match(said, /^Error: --sock .* another process listens there; stop it or choose another path\n$/)
  t.match(await second.api('GET', 'daemon'), { state: 'RUNNING' })
})

async function startDaemonIn(t: Test, dir: string): Promise<Daemon> {
  const daemon = await Daemon.start(['virtiofs'], dir)
  t.teardown(() => daemon.stop())
  return daemon
}

t.test('log: level changed while running, file, rotation option', async t => {
  const dir = tempDir(t)
  const daemon = await startDaemon(t, [
    '--log-level',
    'error',
    '--log-file',
    `${dir}/logs/d`,
    '--log-rotation-size',
    '100',
  ])
  const read = () => readFileSync(`${dir}/logs/d.log`, 'utf8')
  t.equal(read(), '')
  await daemon.api('PUT', 'daemon', { log_level: 'info' })
  await daemon.mount('/a', image.bootstrap, { blobs: image.blobs })
  t.match(read(), /"level":"info".*"mountpoint":"\/a".*"msg":"mounted"/)
  t.equal(daemon.log, '', 'nothing on stderr')
})

t.test('the reason why an API call failed is in the log', async t => {
  const daemon = await startDaemon(t)
  await t.rejects(daemon.mount('/a', '/no/such/bootstrap', { blobs: image.blobs }))
  await logged(daemon, /"level":"warn".*no\/such\/bootstrap.*API: a request failed/)
})

t.test('mounts: failures change nothing; remount; the form of 2020', async t => {
  const config = writeConfig(tempDir(t))
  const daemon = await startDaemon(t, ['--config', config])
  const fuse = await connectGuest(t, daemon)
  const names = async (path: string) =>
    (await list(fuse, await nodeAt(fuse, path))).map(([name]) => name.toString('latin1'))
  const post = (path: string, body: unknown) =>
    call(daemon.apisock, 'POST', `/api/v1/mount?mountpoint=${path}`, body)
  const command = (over: object = {}) => ({
    fs_type: 'rafs',
    source: image.bootstrap,
    config: instanceConfig({ blobs: image.blobs }),
    ...over,
  })

  t.match(await post('/a', command()), { status: 204 })
  const before = await daemon.api('GET', 'daemon')
  const failures: [string, object, RegExp][] = [
    ['/a', {}, /^Mount\(MountFilesystem\(Other\("object or filesystem already exists"\)\)\)$/],
    ['/a/', {}, /already exists/],
    [
      '/b',
      { source: '/no/such/file' },
      /Failed to fill superBlock: No such file or directory \(os error 2\)/,
    ],
    ['/b', { source: '/' }, /is a folder; wanted the bootstrap file/],
    ['/b', { source: '/etc/hostname' }, /failed to fill whole buffer/],
    ['/b', { source: '/dev/null' }, /is not a regular file/],
    ['/b', { source: config }, /failed to fill whole buffer|is not a RAFS bootstrap/],
    [
      '/b',
      { config: '' },
      /Failed to load config: failed to parse configuration information: the configuration is empty/,
    ],
    [
      '/b',
      { config: '{"device":{}}' },
      /failed to parse configuration information: .*device\.backend: missing/,
    ],
    [
      '/b',
      { config: command().config.replace('localfs', 'registry') },
      /device\.backend\.config\.host: missing/,
    ],
    ['/b', { fs_type: 'ext4' }, /only 'rafs' and 'passthrough_fs' are supported, but ext4 was specified/],
    ['/b', { fs_type: 'passthrough_fs' }, /passthrough_fs \(a folder of the host\) is not available/],
    ['/b', { prefetch_files: ['usr'] }, /invalid prefetch file list: .*"usr" is not a path within the image/],
    ['b', {}, /VFS failed, PathWalk/],
    ['/b/../c', {}, /VFS failed, PathWalk/],
    [
      '/b',
      {
        config: command().config.replace(
          '"cache":{}',
          '"cache":{"type":"fscache","config":{"work_dir":"/x"}}',
        ),
      },
      /fscache/,
    ],
  ]
  for (const [path, over, message] of failures) {
    const reply = await post(path, command(over))
    t.equal(reply.status, 500, JSON.stringify(over))
    t.match((JSON.parse(reply.text) as { message: string }).message, message)
  }
  t.strictSame(await daemon.api('GET', 'daemon'), before)
  t.strictSame(await names('/'), ['a'])
  for (const method of ['PUT', 'DELETE'] as const)
    t.match(
      await call(
        daemon.apisock,
        method,
        '/api/v1/mount?mountpoint=/b',
        method === 'PUT' ? command() : undefined,
      ),
      {
        status: 500,
        text: /object or filesystem doesn't exist/,
      },
    )

  t.match(
    await call(daemon.apisock, 'PUT', '/api/v1/mount?mountpoint=/a', command({ fs_type: 'passthrough' })),
    {
      status: 500,
      text: /filesystem type mismatch, expect RAFS/,
    },
  )
  t.match(await daemon.api('GET', 'daemon/backend?mountpoint=/a'), { version: 0x600, magic: 0xe0f5e1e2 })
  const swap = command({ source: other.bootstrap, config: instanceConfig({ blobs: other.blobs }) })
  t.match(await call(daemon.apisock, 'PUT', '/api/v1/mount?mountpoint=/a', swap), { status: 204 })
  t.match(await daemon.api('GET', 'daemon/backend?mountpoint=/a'), { version: 0x500, magic: 0x52414653 })

  // 2020: mountpoint in the body, `config` a path, absent: the daemon's own.
  await daemon.api('PUT', 'mount', {
    mountpoint: '/c/d',
    source: image.bootstrap,
    fstype: 'rafs',
    ops: 'mount',
  })
  await daemon.api('PUT', 'mount', { mountpoint: '/e', source: image.bootstrap, config })
  t.strictSame((await names('/')).toSorted(), ['a', 'c', 'e'])
  t.ok((await names('/c/d')).includes('dedup'))
  await daemon.api('PUT', 'mount', { mountpoint: '/c/d', ops: 'umount' })
  await daemon.umount('/e')
  t.strictSame(await names('/'), ['a'])
})

t.test('--localfs-dir stands for a configuration', async t => {
  const dir = tempDir(t)
  cpSync(image.blobs, dir, { recursive: true })
  const daemon = await startDaemon(t, ['--bootstrap', image.bootstrap, '--localfs-dir', dir])
  const fuse = await connectGuest(t, daemon)
  t.equal((await readAll(fuse, await nodeAt(fuse, '/dedup/copy0'), 70_000)).length, 70_000)
  t.ok(
    readdirSync(dir).some(name => name.endsWith('.blob.data')),
    'it is the cache, too',
  )
})
