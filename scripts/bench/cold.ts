/**
 * Cold starts: the files that a container reads when it starts, from a registry with some latency, with an empty cache;
 * one after the other and many at once, beside nydusd with the same settings. Each measurement has a server, a cache and
 * a connection of its own.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FuseClient } from '../../addon/test/fuse-client.js'
import { dockerRegistry, storeBlob } from '../../lib/backend/testing/servers.js'
import { nodeAt, readAll } from '../../lib/daemon/testing/guest-tree.js'
import { sha256 } from '../../vm-tests/manifest.js'
import { DelayProxy } from './delay-proxy.js'
import { serve } from './guest.js'
import { median } from './report.js'
import { debianTree, rafsImage } from './rootfs.js'
import { Server, SERVERS, type BackendSection, type ServerKind } from './servers.js'

export interface ColdOptions {
  readonly rounds: number
  /** Milliseconds in front of every answer of the registry. */
  readonly latency: number
  /** Folder of the root file system; made by debootstrap when empty. */
  readonly tree: string
  /** Arguments of `nydus-image create` besides the usual ones. */
  readonly imageArguments: readonly string[]
  /** Merged into the configurations of both servers. */
  readonly settings: Readonly<Record<string, unknown>>
  readonly only: string
}

export interface ColdSample {
  readonly server: string
  readonly readers: number
  readonly round: number
  readonly seconds: number
  readonly requests: number
  readonly bytes: number
}

export interface ColdReport {
  readonly samples: readonly ColdSample[]
  readonly files: number
  readonly fileBytes: number
  readonly blobBytes: number
}

const REPO = 'bench/rootfs'
const PACKAGES = 'python3,perl,git,ca-certificates,curl'
/** What the kernel asks for at once when it reads a file from its start to its end. */
const READ_SIZE = 128 << 10
/** Readers, and at most so many times nydusd's time. */
export const WANTED: readonly (readonly [readers: number, ratio: number])[] = [
  [1, 0.8],
  [32, 0.4],
]

interface WantedFile {
  readonly path: string
  readonly size: number
  readonly sha256: string
}

/** What a container of a Debian with these packages opens when it starts (recorded by strace), in that order. */
function startupFiles(tree: string): WantedFile[] {
  const list = readFileSync(
    fileURLToPath(new URL('../../../scripts/bench/startup.txt', import.meta.url)),
    'utf8',
  )
  return list
    .trim()
    .split('\n')
    .filter(path => existsSync(join(tree, path)))
    .map(path => {
      const bytes = readFileSync(join(tree, path))
      return { path, size: bytes.length, sha256: sha256(bytes) }
    })
}

/** Reads every file as `readers` processes at once would; returns the seconds. Throws for a wrong byte. */
async function readFiles(fuse: FuseClient, files: readonly WantedFile[], readers: number): Promise<number> {
  const nodes = new Map<string, bigint>()
  for (const { path } of files) nodes.set(path, await nodeAt(fuse, path))
  const contents = new Map<string, Buffer>()
  const started = performance.now()
  const next = files.values()
  const reader = async (): Promise<void> => {
    for (const file of next)
      contents.set(file.path, await readAll(fuse, nodes.get(file.path) ?? 0n, file.size, READ_SIZE))
  }
  await Promise.all(Array.from({ length: readers }, reader))
  const seconds = (performance.now() - started) / 1000
  for (const file of files)
    if (sha256(contents.get(file.path) ?? Buffer.alloc(0)) !== file.sha256)
      throw new Error(`${file.path}: the server gave other bytes than the tree has`)
  return seconds
}

export async function runCold(
  cache: string,
  options: ColdOptions,
  say: (line: string) => void,
): Promise<ColdReport> {
  const tree = options.tree === '' ? join(cache, 'tree') : options.tree
  say('the root file system and its image')
  debianTree(tree, PACKAGES)
  const { bootstrap, blobs } = rafsImage(cache, tree, ['--fs-version', '6', ...options.imageArguments])
  const files = startupFiles(tree)
  const folder = mkdtempSync(join(tmpdir(), 'nydus-cold-'))
  const registry = await dockerRegistry({ dir: folder })
  let blobBytes = 0
  for (const id of readdirSync(blobs)) {
    const blob = readFileSync(join(blobs, id))
    blobBytes += blob.length
    storeBlob(folder, REPO, blob, id)
  }
  const proxy = await DelayProxy.start(registry.port, options.latency)
  const backend: BackendSection = {
    type: 'registry',
    config: { scheme: 'http', host: `127.0.0.1:${proxy.port}`, repo: REPO },
  }
  const samples: ColdSample[] = []
  const measure = async (kind: ServerKind, readers: number, round: number): Promise<void> => {
    const work = mkdtempSync(join(folder, 'run-'))
    const { server, frontend, fuse } = await serve(() =>
      Server.start(kind, { bootstrap, blobs, folder: tree }, work, [], {
        backend,
        settings: options.settings,
      }),
    )
    try {
      await proxy.traffic()
      const seconds = await readFiles(fuse, files, readers)
      samples.push({ server: kind.name, readers, round, seconds, ...(await proxy.traffic()) })
      frontend.close()
    } finally {
      await server.stop()
      rmSync(work, { recursive: true, force: true })
    }
  }
  try {
    const kinds = SERVERS.filter(
      kind => kind.name !== 'virtiofsd' && kind.missing === undefined && kind.name.includes(options.only),
    )
    for (let round = 0; round < options.rounds; round++)
      for (const [readers] of WANTED)
        for (const kind of kinds) {
          say(`round ${round + 1}/${options.rounds}  ${readers} readers  ${kind.name}`)
          await measure(kind, readers, round)
        }
  } finally {
    proxy.stop()
    await registry.stop()
    rmSync(folder, { recursive: true, force: true })
  }
  return {
    samples,
    files: files.length,
    fileBytes: files.reduce((sum, { size }) => sum + size, 0),
    blobBytes,
  }
}

export function coldTable(report: ColdReport): string {
  const { samples, files, fileBytes, blobBytes } = report
  const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`
  const lines = [`${files} files of ${mb(fileBytes)}, from a blob of ${mb(blobBytes)}`]
  for (const [readers, wanted] of WANTED) {
    const of = (server: string, figure: 'seconds' | 'requests' | 'bytes'): number =>
      median(samples.filter(s => s.server === server && s.readers === readers).map(sample => sample[figure]))
    lines.push(readers === 1 ? 'one reader' : `${readers} readers at once`)
    for (const server of new Set(samples.map(s => s.server)))
      lines.push(
        `  ${server.padEnd(10)} ${of(server, 'seconds').toFixed(3).padStart(8)} s  ` +
          `${String(of(server, 'requests')).padStart(5)} requests  ${mb(of(server, 'bytes')).padStart(10)}`,
      )
    const [time, bytes] = (['seconds', 'bytes'] as const).map(
      figure => of('nydus-ts', figure) / of('nydusd', figure),
    )
    if (time === undefined || bytes === undefined || Number.isNaN(time)) continue
    lines.push(
      `  ${time.toFixed(2)}x the time of nydusd, wanted at most ${wanted}x: ${time <= wanted ? 'reached' : 'MISSED'}; ` +
        `${bytes.toFixed(2)}x the bytes, wanted no more: ${bytes <= 1 ? 'reached' : 'MISSED'}`,
    )
  }
  return lines.join('\n')
}
