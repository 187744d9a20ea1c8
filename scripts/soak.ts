/**
 * Mixed cold and warm reads for some minutes while the backend flaps: `node dist/scripts/soak.js [SECONDS]` (300 unless
 * told). Mounts come and go, caches begin empty again and again; half of them may hold a third of the image only, so that
 * chunks are evicted while they are read. Prints file descriptors, sockets and memory of the daemon as it goes; exit status
 * 1 when a byte was wrong, when something grew, or when nothing was evicted. No part of `npm test`.
 */
import { readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { VhostFrontend } from '../addon/test/frontend.js'
import { FuseClient } from '../addon/test/fuse-client.js'
import { BlobServer, serveBlob } from '../lib/backend/testing/blob-server.js'
import { type Fault, FaultProxy } from '../lib/backend/testing/fault-proxy.js'
import { guestFiles, inParallel, readFile } from '../lib/daemon/testing/guest-tree.js'
import { october2020 } from '../lib/rafs/testing/early-v5.js'
import { expectedRecords, fixtureNamed } from '../vm-tests/fixtures.js'
import type { ManifestRecord } from '../vm-tests/manifest.js'
import { Daemon } from '../vm-tests/daemon.js'

const SECONDS = Number(process.argv[2] ?? 300)
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
/** A limited cache may hold this part of the image; so long after the last read it must have come down to it. */
const LIMITED_TO = 1 / 3
const SETTLE_MS = 20_000

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

interface SoakedImage {
  readonly bootstrap: string
  readonly manifest: readonly ManifestRecord[]
  /** Bytes of its blob, plain. */
  readonly size: number
}

const daemon = await Daemon.start()
const blobs = new Map<string, Buffer>()

/** A fixture image; `bootstrap` unless it is the fixture's own. */
function imageOf(name: string, bootstrap?: (own: string) => string): SoakedImage {
  const fixture = fixtureNamed(name)
  for (const blob of readdirSync(fixture.blobs)) blobs.set(blob, readFileSync(join(fixture.blobs, blob)))
  const manifest = expectedRecords(fixture)
  return {
    bootstrap: bootstrap?.(fixture.bootstrap) ?? fixture.bootstrap,
    manifest,
    size: manifest.reduce((sum, { size = 0 }) => sum + size, 0),
  }
}

/** Of 2020: chunks have no numbers there, what is in the cache only the process knows. */
function early(own: string): string {
  const path = join(daemon.folder, 'early.boot')
  writeFileSync(path, october2020(Uint8Array.from(readFileSync(own))))
  return path
}

function folderBytes(folder: string): number {
  return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).blocks * 512, 0)
}

async function comesDownTo(bytes: number, folder: string): Promise<boolean> {
  const deadline = performance.now() + SETTLE_MS
  while (folderBytes(folder) > bytes) {
    if (performance.now() > deadline) return false
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  return true
}

const images = [imageOf('v6-none'), imageOf('v5-lz4-blake3', early)] as const
const server = await BlobServer.start(Buffer.alloc(0))
server.hook = (request, response) => {
  serveBlob(blobs.get(basename(request.url ?? '')) ?? server.blob, request, response)
  return true
}
const proxy = await FaultProxy.start(server.url)
flap(proxy)
const frontend = new VhostFrontend({ path: daemon.sock })
await frontend.connect()
await frontend.start()
const fuse = new FuseClient(frontend)
await fuse.init()

const outcomes: Record<string, number> = {}
const states: State[] = []
const problems: string[] = []
let evicted = 0
const started = performance.now()
const elapsed = (): number => (performance.now() - started) / 1000

for (let round = 0; elapsed() < SECONDS; round++) {
  const workDir = join(daemon.folder, `cache-${round % 2}`)
  const cached = round % 4 !== 3
  const image = images[Math.floor(round / 4) % 2] ?? images[0]
  // Once with digests checked, once without.
  const limit = round % 4 === 1 || round % 4 === 2 ? Math.round(image.size * LIMITED_TO) : 0
  const config = JSON.stringify({
    device: {
      id: '/soak',
      backend: { type: 'http-proxy', config: { addr: proxy.url, timeout: 1 } },
      cache: cached ? { type: 'blobcache', config: { work_dir: workDir, size_limit: limit } } : {},
    },
    mode: 'direct',
    digest_validate: round % 2 === 0,
    amplify_io: round % 3 === 0 ? 0 : 1 << 17,
  })
  await daemon.api('POST', 'mount?mountpoint=/soak', { fs_type: 'rafs', source: image.bootstrap, config })
  const files = await guestFiles(fuse, '/soak', image.manifest)
  const mixed = files.toSorted((a, b) => (a.sha256 < b.sha256 ? -1 : 1))
  const outage = round % 5 === 4 ? setTimeout(() => void proxy.stop(), 200) : undefined
  // Cold, then warm where there is a cache with room for all.
  for (const part of limit > 0 ? [mixed, files, mixed] : [mixed, files])
    for (const outcome of await inParallel(part, file => readFile(fuse, file), READERS))
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
  clearTimeout(outage)
  if (round % 5 === 4) {
    await proxy.stop()
    await proxy.start()
  }
  if (limit > 0) {
    const metrics = await daemon.api('GET', 'metrics/blobcache?id=/soak')
    evicted += (metrics as { evicted_data_amount: number }).evicted_data_amount
    if (!(await comesDownTo(limit, workDir)))
      problems.push(`round ${round}: ${folderBytes(workDir)} bytes in a cache of ${limit}`)
  }
  await daemon.api('DELETE', 'mount?mountpoint=/soak')
  rmSync(workDir, { recursive: true, force: true })
  const state = stateOf(daemon.pid)
  states.push(state)
  process.stdout.write(
    `${elapsed().toFixed(0).padStart(4)} s  ${state.fds} descriptors, ${state.sockets} sockets, ` +
      `${(state.bytes / 2 ** 20).toFixed(0)} MiB, ${(evicted / 2 ** 20).toFixed(0)} MiB evicted; ` +
      `${JSON.stringify(outcomes)}\n`,
  )
}

const settled = states.slice(Math.floor(states.length / 3))
const [first, last] = [settled[0], settled.at(-1)]
if (outcomes['wrong'] !== undefined) problems.push(`${outcomes['wrong']} files had wrong bytes`)
if (evicted === 0) problems.push('nothing was evicted')
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
