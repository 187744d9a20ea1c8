/**
 * Caches that change hands: `node dist/scripts/check-peer-cache.js [NYDUSD]` fills a work_dir with the reference
 * nydusd (default /opt/peers/bin/nydusd) and reads it with this project's cache, and the other way round. The second
 * one has no blobs to fall back on. Needs root and /dev/fuse; no part of `npm test`.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { digestOf, startDigest } from '../lib/base/digest.js'
import { explain } from '../lib/base/errors.js'
import { CacheManager } from '../lib/cache/manager.js'
import { TestBackend } from '../lib/cache/testing/backend.js'
import {
  cacheConfig,
  fixturePaths,
  openFixture,
  wrongChunks,
  type FixtureName,
} from '../lib/cache/testing/fixtures.js'
import { native } from '../lib/native.js'

const PEER = process.argv[2] ?? '/opt/peers/bin/nydusd'
const MNT_DETACH = 2
const IMAGES: readonly FixtureName[] = [
  'v5-lz4-blake3',
  'v5-zstd-sha256',
  'v6-zstd-blake3',
  'v6-none',
  'v6-lz4-64k',
  'v6-batch',
  'v6-zran',
  'layers',
]

async function* filesBelow(dir: Buffer): AsyncGenerator<Buffer> {
  const entries = await readdir(dir, { withFileTypes: true, encoding: 'buffer' })
  for (const entry of entries.toSorted((a, b) => Buffer.compare(a.name, b.name))) {
    const path = Buffer.concat([dir, Buffer.from('/'), entry.name])
    if (entry.isDirectory()) yield* filesBelow(path)
    else if (entry.isFile()) yield path
  }
}

/** Digest over names and contents of all regular files below `dir`. */
async function treeDigest(dir: string): Promise<string> {
  const digest = startDigest('sha256')
  for await (const path of filesBelow(Buffer.from(dir))) {
    digest.update(path)
    digest.update(digestOf('sha256', await readFile(path)))
  }
  return digest.digest().toString('hex')
}

/** Serves the image with the peer over FUSE, and reads all of it. */
async function readWithPeer(
  root: string,
  bootstrap: string,
  blobs: string,
  workDir: string,
): Promise<string> {
  const mountpoint = join(root, 'mnt')
  mkdirSync(mountpoint, { recursive: true })
  const config = {
    device: {
      backend: { type: 'localfs', config: { dir: blobs } },
      cache: { type: 'blobcache', config: { work_dir: workDir } },
    },
    mode: 'direct',
    digest_validate: false,
  }
  writeFileSync(join(root, 'config.json'), JSON.stringify(config))
  const args = [
    '--config',
    join(root, 'config.json'),
    '--rlimit-nofile',
    '0',
    '--mountpoint',
    mountpoint,
    '--bootstrap',
    bootstrap,
  ]
  const peer = spawn(PEER, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  peer.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
  const ended = once(peer, 'exit')
  try {
    while (!(await readFile('/proc/mounts', 'utf8')).includes(` ${mountpoint} `)) {
      if (peer.exitCode !== null)
        throw new Error(`the peer does not serve it: ${log.trim().split('\n').at(-1)}`)
      await sleep(20)
    }
    return await treeDigest(mountpoint)
  } finally {
    if (peer.exitCode === null) peer.kill('SIGTERM')
    await ended
    if ((await readFile('/proc/mounts', 'utf8')).includes(` ${mountpoint} `))
      native.umount(mountpoint, MNT_DETACH)
  }
}

/** Fetches every chunk of the image through our cache; returns how many were wrong, and the requests it took. */
async function readWithOurs(name: FixtureName, blobs: string, workDir: string): Promise<string> {
  const fixture = await openFixture(name)
  const backend = new TestBackend(blobs)
  const manager = new CacheManager()
  let wrong = 0
  for (const [i, info] of fixture.image.blobs.entries()) {
    const blob = await manager.open(info, backend, cacheConfig(workDir))
    wrong += (await wrongChunks(blob, fixture.wants[i] ?? [], workDir)).length
  }
  await manager.close()
  await fixture.image.close()
  return `${wrong} wrong chunks, ${backend.asked.length} requests`
}

async function check(name: FixtureName): Promise<string> {
  const root = mkdtempSync(join(tmpdir(), 'nydus-peer-'))
  const { dir, bootstrap } = fixturePaths(name)
  const [blobs, none, theirs, ours] = ['blobs', 'none', 'theirs', 'ours'].map(sub => join(root, sub))
  if (blobs === undefined || none === undefined || theirs === undefined || ours === undefined)
    return 'no folders'
  try {
    cpSync(dir, blobs, { recursive: true })
    for (const sub of [none, theirs, ours]) mkdirSync(sub)
    const expected = await readWithPeer(root, bootstrap, blobs, theirs)
    const back = await readWithOurs(name, none, theirs)
    await readWithOurs(name, blobs, ours)
    const again = await readWithPeer(root, bootstrap, none, ours)
    if (back !== '0 wrong chunks, 0 requests') return `FAILED: the peer's cache gives ${back}`
    return again === expected ? 'ok both ways' : 'FAILED: the peer reads other bytes from our cache'
  } catch (error) {
    return `not checked: ${explain(error)}`
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

if (!existsSync(PEER)) {
  process.stderr.write(`${PEER} does not exist: name a nydusd\n`)
  process.exitCode = 2
} else
  for (const name of IMAGES) {
    const result = await check(name)
    if (result.startsWith('FAILED')) process.exitCode = 1
    process.stdout.write(`${name}: ${result}\n`)
  }
