import { existsSync, lstatSync, statSync } from 'node:fs'
import t from 'tap'
import { silentLog } from '../../base/log.js'
import { startApi } from '../api.js'
import { command, FakeControl, serve } from '../testing/fake-control.js'
import { call, RawConnection } from '../testing/http-client.js'

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
