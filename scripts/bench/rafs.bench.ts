/**
 * What a lane pays per request for metadata, and what opening a big image costs. Run alone:
 * `node dist/scripts/bench/rafs.bench.js [files]` prints one JSON object a line.
 *
 * Garbage is counted as growth of the young generation over many requests: a handler that allocates one number per
 * request shows as 16 bytes per operation.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { openRafs } from '../../lib/rafs/fs.js'
import { RafsImage } from '../../lib/rafs/image.js'
import { fileName, folderName, writeLargeV6 } from '../../lib/rafs/testing/large-v6.js'
import { newAttr, type DirSink, type ExtentSink, type FileSystem } from '../../lib/vfs/filesystem.js'

const FILES_PER_FOLDER = 1000
const ROUNDS = 5
const OPERATIONS = 400_000

export interface Result {
  readonly name: string
  readonly [figure: string]: number | string
}

/** CPU time and bytes of garbage per call, in the best of some rounds: what the thread did, not what it waited for. */
function measure(name: string, run: (i: number) => number, perCall = 1): Result {
  let best = Infinity
  let garbage = Infinity
  let sum = 0
  for (let round = 0; round < ROUNDS; round++) {
    const heap = process.memoryUsage().heapUsed
    const start = process.cpuUsage()
    for (let i = 0; i < OPERATIONS / perCall; i++) sum += run(i)
    const ns = (process.cpuUsage(start).user * 1000) / OPERATIONS
    const grown = Math.max(0, process.memoryUsage().heapUsed - heap) / OPERATIONS
    best = Math.min(best, ns)
    garbage = Math.min(garbage, grown)
  }
  if (!Number.isFinite(sum)) throw new Error(`${name}: no result`)
  return { name, cpuNsPerOp: Math.round(best * 10) / 10, garbageBytesPerOp: Math.round(garbage * 10) / 10 }
}

function encoded(names: readonly string[]): Uint8Array[] {
  return names.map(name => Uint8Array.from(Buffer.from(name)))
}

const entries: DirSink = { entry: (ino, _mode, _bytes, start) => ino + start > 0 }
const extents: ExtentSink = { add: () => true, want: () => true }

/** Requests as guests send them, spread over the whole image. */
function requests(fs: FileSystem, folders: number): Result[] {
  const names = encoded(Array.from({ length: FILES_PER_FOLDER }, (_, i) => fileName(i)))
  const inos = Float64Array.from({ length: folders }, (_, i) => {
    const name = Buffer.from(folderName(i))
    return fs.lookup(fs.rootIno, name, 0, name.length)
  })
  const files = Float64Array.from({ length: 4096 }, (_, i) => {
    const name = names[(i * 7) % names.length] ?? new Uint8Array()
    return fs.lookup(inos[i % folders] ?? 0, name, 0, name.length)
  })
  const attr = newAttr()
  return [
    measure('lookup, one of 1000 names', i => {
      const name = names[(i * 31) % names.length]
      return name === undefined ? NaN : fs.lookup(inos[(i >> 6) % folders] ?? 0, name, 0, name.length)
    }),
    measure('getattr', i => fs.getattr(files[i & 4095] ?? 0, attr)),
    measure('readdir, per entry', i => fs.readdir(inos[i % folders] ?? 0, 0, entries), FILES_PER_FOLDER + 2),
    measure('read 4 KiB', i => fs.read(files[i & 4095] ?? 0, 0, 4096, extents)),
  ]
}

function rss(): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? NaN) * 1024
}

const MiB = 1 << 20

export async function rafsBench(files: number): Promise<Result[]> {
  const dir = mkdtempSync(join(tmpdir(), 'rafs-bench-'))
  try {
    const path = join(dir, 'boot')
    const folders = Math.ceil(files / FILES_PER_FOLDER)
    const start = performance.now()
    const length = writeLargeV6(path, { folders, filesPerFolder: FILES_PER_FOLDER, chunkTable: true })
    const written = performance.now()
    const before = rss()
    const image = await RafsImage.open({ path, xattrs: true, validate: true })
    const fs = openRafs(image.handle([]))
    const opened = performance.now()
    const opening = {
      name: `open ${files} files`,
      bootstrapMiB: Math.round(length / MiB),
      generateMs: Math.round(written - start),
      openMs: Math.round((opened - written) * 10) / 10,
      rssGrowthMiB: Math.round(((rss() - before) / MiB) * 10) / 10,
    }
    const results = requests(fs, folders)
    const indexed = performance.now()
    image.chunkDigest(0, 0)
    const walked = performance.now()
    let entriesSeen = 0
    for (const _ of image.walk()) entriesSeen++
    const end = performance.now()
    await image.close()
    return [
      opening,
      ...results,
      {
        name: 'index of chunk digests, once',
        ms: Math.round(walked - indexed),
        chunks: folders * FILES_PER_FOLDER,
      },
      { name: 'walk', ms: Math.round(end - walked), entries: entriesSeen },
    ]
  } finally {
    rmSync(dir, { recursive: true })
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  for (const result of await rafsBench(Number(process.argv[2] ?? 1_000_000)))
    console.log(JSON.stringify(result))
