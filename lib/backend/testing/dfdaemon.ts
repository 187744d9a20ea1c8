/**
 * Dragonfly's own dfdaemon as a forward proxy, with a scheduler that knows no other peers. It is not in Debian; built
 * outside of the project by `cargo install dragonfly-client@1.5.10 --root /opt/dragonfly`.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { request } from 'undici'
import { DragonflyScheduler } from './dragonfly-scheduler.js'
import { freePort } from './ports.js'
import { ServerProcess } from './servers.js'

const program = process.env['NYDUS_TEST_DFDAEMON'] ?? '/opt/dragonfly/bin/dfdaemon'

/** Value of tap's `skip` for tests that need dfdaemon: why they cannot run, or false. */
export const dfdaemonMissing: string | false = existsSync(program)
  ? false
  : `dfdaemon is not at ${program}: cargo install dragonfly-client@1.5.10 --root /opt/dragonfly, ` +
    'or name it in NYDUS_TEST_DFDAEMON'

export interface DfdaemonSetup {
  /** The CA that signs what it shows in tunnels; otherwise nobody knows who signed. */
  readonly ca?: { readonly cert: string; readonly key: string }
  /** Lines of YAML for its `proxy` section, indented by two. */
  readonly proxy?: string
}

export interface Dfdaemon {
  /** Listens on the proxy's port; `stop` and `start` keep what it has on its disk. */
  readonly process: ServerProcess
  readonly scheduler: DragonflyScheduler
  readonly url: string
  /** Its health endpoint, for `ping_url`. */
  readonly pingUrl: string
  /** A counter of its metrics since it was started, all labels added up; 0 when it has not counted yet. */
  counter(name: string): Promise<number>
}

interface Ending {
  teardown(end: () => unknown): void
}

/** Starts it and its scheduler; both are stopped when the test is over. */
export async function startDfdaemon(t: Ending, setup: DfdaemonSetup = {}): Promise<Dfdaemon> {
  const scheduler = await DragonflyScheduler.start()
  t.teardown(() => scheduler.stop())
  // Not a test's own folder: the path of its socket may have 107 bytes.
  const dir = mkdtempSync(join(tmpdir(), 'dfdaemon-'))
  const file = (name: string) => join(dir, name)
  for (const folder of ['storage', 'cache', 'plugins']) mkdirSync(file(folder), { recursive: true })
  const port = await freePort()
  const health = await freePort()
  const metrics = await freePort()
  const ca = setup.ca === undefined ? '' : `, caCert: ${setup.ca.cert}, caKey: ${setup.ca.key}`
  // Without `manager` it reads the schedulers from the second file.
  writeFileSync(
    file('dfdaemon.yaml'),
    `host: { ip: 127.0.0.1, hostname: nydus-test }
server: { pluginDir: ${file('plugins')}, cacheDir: ${file('cache')} }
download: { server: { socketPath: ${file('download.sock')} } }
upload: { server: { ip: 127.0.0.1, port: ${await freePort()} } }
storage:
  dir: ${file('storage')}
  server: { ip: 127.0.0.1, tcpPort: ${await freePort()}, quicPort: ${await freePort()} }
health: { server: { ip: 127.0.0.1, port: ${health} } }
metrics: { server: { ip: 127.0.0.1, port: ${metrics} } }
stats: { server: { ip: 127.0.0.1, port: ${await freePort()} } }
proxy:
  server: { ip: 127.0.0.1, port: ${port}${ca} }
${setup.proxy ?? ''}
`,
  )
  writeFileSync(file('dynconfig.yaml'), `scheduler: { addrs: ['${scheduler.host}'] }\n`)
  const process = new ServerProcess(port, [
    program,
    ...['--config', file('dfdaemon.yaml'), '--dynconfig', file('dynconfig.yaml')],
    ...['--console', '--log-level', 'warn', '--log-dir', file('log')],
  ])
  t.teardown(async () => {
    await process.stop()
    rmSync(dir, { recursive: true })
  })
  await process.start()
  return {
    process,
    scheduler,
    url: `http://${process.host}`,
    pingUrl: `http://127.0.0.1:${health}/healthy`,
    counter: async name => {
      const { body } = await request(`http://127.0.0.1:${metrics}/metrics`)
      return sum(await body.text(), name)
    },
  }
}

/** The sum of the samples of one metric in Prometheus' text format. */
function sum(text: string, name: string): number {
  const samples = text.split('\n').filter(line => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
  return samples.reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' '))), 0)
}

/** Requests that went to its task manager, and so to peers or to its disk, and not straight on. */
export const VIA_P2P = 'dragonfly_client_proxy_request_via_dfdaemon_total'
/** All requests of its proxy. */
export const PROXIED = 'dragonfly_client_proxy_request_total'
/** Requests that it made to sources. */
export const TO_SOURCE = 'dragonfly_client_backend_request_total'
