/**
 * Mixed cold and warm reads for some minutes while the backend flaps: `node dist/scripts/soak.js [SECONDS]` (300 unless
 * told). Mounts come and go, caches begin empty again and again. Prints file descriptors, sockets and memory of the
 * daemon as it goes; exit status 1 when a byte was wrong, or when something grew. No part of `npm test`.
 */
import { readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { VhostFrontend } from '../addon/test/frontend.js'
import { FuseClient } from '../addon/test/fuse-client.js'
import { BlobServer } from '../lib/backend/testing/blob-server.js'
import { type Fault, FaultProxy } from '../lib/backend/testing/fault-proxy.js'
import { guestFiles, inParallel, readFile } from '../lib/daemon/testing/guest-tree.js'
import type { Expected } from '../lib/rafs/testing/fixtures.js'
import { Daemon } from '../vm-tests/daemon.js'
import { expectedManifest, fixtureNamed } from '../vm-tests/fixtures.js'

const SECONDS = Number(process.argv[2] ?? 300)
const IMAGE = fixtureNamed('v6-none')
const READERS = 16
const FAULTS: readonly Fault[] = [
  { resetAfter: 1000 },
  { resetAfter: -1 },
  { status: 503 },
  { status: 429 },
  { shortBy: 1 },
  'corrupt',
  'garbage',
  'hang',
]
/** Allowed between the first third of the time, when everything has been used once, and the end. */
const MAX_GROWTH_BYTES = 32 << 20
const MAX_GROWTH_FDS = 8

interface State {
  readonly fds: number
  readonly sockets: number
  /** Anonymous resident bytes. */
  readonly bytes: number
}

function stateOf(pid: number): State {
  const links = readdirSync(`/proc/${pid}/fd`).flatMap(fd => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)]
    } catch {
      return []
    }
  })
  const status = readFileSync(`/proc/${pid}/status`, 'latin1')
  return {
    fds: links.length,
    sockets: links.filter(link => link.startsWith('socket:')).length,
    bytes: Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1]) * 1024,
  }
}

/** Every seventh request or so goes wrong, another way each time; now and then nothing works for a second. */
function flap(proxy: FaultProxy): void {
  let count = 0
  proxy.always(() => (++count % 7 === 0 ? (FAULTS[(count / 7) % FAULTS.length] ?? 'pass') : 'pass'))
}

const manifest = expectedManifest(IMAGE)
  .toString()
  .trimEnd()
  .split('\n')
  .map(line => JSON.parse(line) as Expected)
const [blobName = ''] = readdirSync(IMAGE.blobs)
const server = await BlobServer.start(readFileSync(join(IMAGE.blobs, blobName)))
const proxy = await FaultProxy.start(server.url)
flap(proxy)
const daemon = await Daemon.start()
const frontend = new VhostFrontend({ path: daemon.sock })
await frontend.connect()
await frontend.start()
const fuse = new FuseClient(frontend)
await fuse.init()

const outcomes: Record<string, number> = {}
const states: State[] = []
const started = performance.now()
const elapsed = (): number => (performance.now() - started) / 1000

for (let round = 0; elapsed() < SECONDS; round++) {
  const workDir = join(daemon.folder, `cache-${round % 2}`)
  const cached = round % 4 !== 3
  const config = JSON.stringify({
    device: {
      id: '/soak',
      backend: { type: 'http-proxy', config: { addr: proxy.url, timeout: 1 } },
      cache: cached ? { type: 'blobcache', config: { work_dir: workDir } } : {},
    },
    mode: 'direct',
    digest_validate: round % 2 === 0,
    amplify_io: round % 3 === 0 ? 0 : 1 << 17,
  })
  await daemon.api('POST', 'mount?mountpoint=/soak', { fs_type: 'rafs', source: IMAGE.bootstrap, config })
  const files = await guestFiles(fuse, '/soak', manifest)
  const mixed = files.toSorted((a, b) => (a.sha256 < b.sha256 ? -1 : 1))
  const outage = round % 5 === 4 ? setTimeout(() => void proxy.stop(), 200) : undefined
  // Cold, then warm where there is a cache.
  for (const part of [mixed, files])
    for (const outcome of await inParallel(part, file => readFile(fuse, file), READERS))
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
  clearTimeout(outage)
  if (round % 5 === 4) {
    await proxy.stop()
    await proxy.start()
  }
  await daemon.api('DELETE', 'mount?mountpoint=/soak')
  rmSync(workDir, { recursive: true, force: true })
  const state = stateOf(daemon.pid)
  states.push(state)
  process.stdout.write(
    `${elapsed().toFixed(0).padStart(4)} s  ${state.fds} descriptors, ${state.sockets} sockets, ` +
      `${(state.bytes / 2 ** 20).toFixed(0)} MiB; ${JSON.stringify(outcomes)}\n`,
  )
}

const settled = states.slice(Math.floor(states.length / 3))
const [first, last] = [settled[0], settled.at(-1)]
const problems: string[] = []
if (outcomes['wrong'] !== undefined) problems.push(`${outcomes['wrong']} files had wrong bytes`)
if (first !== undefined && last !== undefined) {
  if (last.fds > first.fds + MAX_GROWTH_FDS)
    problems.push(`descriptors grew from ${first.fds} to ${last.fds}`)
  if (last.bytes > first.bytes + MAX_GROWTH_BYTES)
    problems.push(`memory grew from ${first.bytes} to ${last.bytes} bytes`)
}
frontend.close()
await daemon.stop()
await proxy.stop()
await server.stop()
for (const problem of problems) process.stdout.write(`FAILED: ${problem}\n`)
process.stdout.write(
  `${proxy.requests.length} requests, ${states.length} mounts in ${elapsed().toFixed(0)} s\n`,
)
process.exitCode = problems.length > 0 ? 1 : 0
