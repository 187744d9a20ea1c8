/** docker-registry in the shapes that several tests want. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Certs } from './certs.js'
import { base64 } from './fixtures.js'
import { dockerRegistry, nginx, type ServerProcess } from './servers.js'
import { TokenServer } from './token-server.js'

interface Ending {
  teardown(end: () => unknown): void
}

/** What `auth` has to be in a configuration for the registry below. */
export const BASIC_AUTH = base64('user:päss:word')

/** Keeps its blobs in `dir`; over TLS, and only for the user of BASIC_AUTH. */
export async function registryWithPassword(t: Ending, dir: string, certs: Certs): Promise<ServerProcess> {
  const file = join(dir, 'htpasswd')
  writeFileSync(file, execFileSync('htpasswd', ['-Bbn', 'user', 'päss:word']))
  const registry = await dockerRegistry({
    dir,
    certs,
    extra: `auth:\n  htpasswd: { realm: test, path: ${file} }`,
  })
  t.teardown(() => registry.stop())
  return registry
}

export interface RedirectingRegistry {
  readonly registry: ServerProcess
  readonly tokens: TokenServer
  /** Where the registry keeps its blobs. */
  readonly folder: string
  readonly store: ServerProcess
  /** What the store has answered. */
  readonly accessLog: string
}

/** Sends whoever has a token on to nginx, which refuses everybody who shows it one. In new folders of `dir`. */
export async function redirectingRegistry(
  t: Ending,
  dir: string,
  certs: Certs,
): Promise<RedirectingRegistry> {
  const folder = join(dir, 'registry')
  const storeDir = join(dir, 'store')
  mkdirSync(folder)
  mkdirSync(storeDir)
  const store = await nginx(
    storeDir,
    `server {
      listen 127.0.0.1:$PORT;
      root ${join(folder, 'data')};
      if ($http_authorization) { return 400; }
    }`,
  )
  t.teardown(() => store.stop())
  const tokens = await TokenServer.start(certs)
  t.teardown(() => tokens.stop())
  const registry = await dockerRegistry({
    dir: folder,
    certs,
    extra: `${tokens.config}middleware:
  storage:
    - name: redirect
      options: { baseurl: "http://${store.host}/" }`,
  })
  t.teardown(() => registry.stop())
  return { registry, tokens, folder, store, accessLog: join(storeDir, 'access.log') }
}
