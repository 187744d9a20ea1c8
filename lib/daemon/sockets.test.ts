import { existsSync, lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { tempDir } from './testing/temp-dir.js'
import { clearSocketPath, removeSocket } from './sockets.js'

async function listen(path: string): Promise<Server> {
  const server = createServer(socket => socket.destroy())
  server.listen(path)
  await once(server, 'listening')
  return server
}

/** A socket whose process was killed. */
async function leaveStale(path: string): Promise<void> {
  const code = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.send('ready'))`
  const child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  await once(child, 'message')
  child.kill('SIGKILL')
  await once(child, 'exit')
}

t.test('nothing there, or a dead socket: free to bind', async t => {
  const dir = tempDir(t)
  await clearSocketPath(`${dir}/a.sock`, '--sock')
  await leaveStale(`${dir}/a.sock`)
  t.ok(lstatSync(`${dir}/a.sock`).isSocket())
  await clearSocketPath(`${dir}/a.sock`, '--sock')
  t.notOk(existsSync(`${dir}/a.sock`))
})

t.test('a socket that somebody listens on is refused, and stays', async t => {
  const dir = tempDir(t)
  const server = await listen(`${dir}/a.sock`)
  t.teardown(() => server.close())
  let connections = 0
  server.on('connection', () => connections++)
  await t.rejects(clearSocketPath(`${dir}/a.sock`, '--apisock'), {
    code: 'START_SOCKET_IN_USE',
    message: /^--apisock .*a\.sock: another process listens there; stop it or choose another path$/,
  })
  t.ok(lstatSync(`${dir}/a.sock`).isSocket())
  t.equal(connections, 0, 'its owner is not disturbed')
})

t.test('what is not a socket is never removed', async t => {
  const dir = tempDir(t)
  writeFileSync(`${dir}/file`, 'precious')
  mkdirSync(`${dir}/folder`)
  symlinkSync(`${dir}/file`, `${dir}/link`)
  for (const name of ['file', 'folder', 'link'])
    await t.rejects(clearSocketPath(`${dir}/${name}`, '--sock'), {
      code: 'START_SOCKET_EXISTS',
      message: /is not a socket is there already; remove it or choose another path$/,
    })
  await removeSocket(`${dir}/file`)
  t.equal(readFileSync(`${dir}/file`, 'utf8'), 'precious')
})

t.test('paths that cannot be bound', async t => {
  const dir = tempDir(t)
  writeFileSync(`${dir}/file`, '')
  const long = `/tmp/${'x'.repeat(103)}`
  await t.rejects(clearSocketPath(long, '--sock'), {
    message: `--sock ${long}: the path has 108 bytes, a UNIX socket's may have 107; use a shorter one`,
  })
  await clearSocketPath(`/tmp/${'x'.repeat(102)}`, '--sock')
  await t.rejects(clearSocketPath(`${dir}/none/a.sock`, '--sock'), {
    message: /the folder .*none cannot be used: no such file or folder$/,
  })
  await t.rejects(clearSocketPath(`${dir}/file/a.sock`, '--sock'), { message: /it is not a folder$/ })
})
