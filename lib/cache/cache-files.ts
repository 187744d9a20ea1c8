/**
 * Opening what a work_dir holds of a blob: the data file and the chunk map, in any state that builders, daemons
 * of both kinds, crashes and people may have left them in.
 *
 * A ready bit is a claim about the data file of the same name. So the two are opened, and replaced, as a pair,
 * under a lock on the folder that all daemons of this project take. What contradicts itself (a wrong size, a map
 * without its data) is replaced by new, empty files under the same names: another daemon that still has the old
 * ones open keeps them, and nothing but a fetch is lost.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Log } from '../base/log.js'
import type { BitMap } from './bit-map.js'
import { BLOB_FEATURE, type BlobInfo } from './cache.js'
import { checkChunkMap, createChunkMap, mapChunkMap } from './chunk-map.js'
import { lockFolder, shareFile } from './folder-lock.js'
import { openTempFile } from './temp-file.js'

/** What names of a blob's files end with, behind an id. */
export const SUFFIX = {
  data: '.blob.data',
  /** Of a tarfs blob: the same tar may be the blob of a layer with a chunk table, whose data lies elsewhere. */
  tar: '.tar.data',
  map: '.blob.data.chunk_map',
  /** Up to Nydus 2.2. */
  oldMap: '.chunk_map',
  raw: '.blob.raw',
  meta: '.blob.meta',
  digest: '.blob.digest',
  toc: '.blob.toc',
} as const

/** Names of a blob's files in a work_dir. */
export function cachePaths(
  dir: string,
  { id, metaBlobId, features }: Pick<BlobInfo, 'id' | 'metaBlobId' | 'features'>,
) {
  const path = (suffix: string): string => join(dir, id + suffix)
  const names = {
    data: path((features & BLOB_FEATURE.TARFS) === 0 ? SUFFIX.data : SUFFIX.tar),
    map: path(SUFFIX.map),
    /** Data file of a cache in "compressed" mode, whose chunk map has the same name as ours. */
    raw: path(SUFFIX.raw),
    meta: path(SUFFIX.meta),
    digest: path(SUFFIX.digest),
    toc: path(SUFFIX.toc),
  }
  /**
   * Names up to Nydus 2.2, kept as second links, so that daemons of both ages share one set of files: another one for the
   * map, and for blobs with a meta blob of their own (SEPARATE) all names by that one's id.
   */
  const oldId = metaBlobId ?? id
  const old = {
    map: join(dir, oldId + SUFFIX.oldMap),
    ...(metaBlobId !== undefined && {
      data: join(dir, oldId + SUFFIX.data),
      meta: join(dir, oldId + SUFFIX.meta),
    }),
  }
  return { ...names, old }
}

export type CachePaths = ReturnType<typeof cachePaths>

export interface CacheFiles {
  /** Descriptor of the data file. */
  readonly data: number
  readonly writable: boolean
  /** The data file has no name: nobody else can open it. */
  readonly hidden?: true
  /** Path of the chunk map; none where `map` is missing. */
  readonly mapPath?: string
  /** Bits of the map on disk; none for blobs that have no chunk numbers, or when the map is not to be shared. */
  readonly map?: BitMap
}

/** A map of 0 bytes is a Nydus daemon between creation and first write. */
const UNFINISHED_RETRIES = 20
const RETRY_MS = 5
const SHARE_RETRIES = 1000

/** Opens or makes the files. `indexed` false: no chunk map. Throws the system's errors (ENOSPC, EROFS, EACCES, …). */
export async function openCacheFiles(
  dir: string,
  info: BlobInfo,
  indexed: boolean,
  log: Log,
): Promise<CacheFiles> {
  mkdirSync(dir, { recursive: true })
  const paths = cachePaths(dir, info)
  if (existsSync(paths.raw)) {
    log.warn(
      { blob: info.id, path: paths.raw },
      'the cache folder holds this blob in compressed form; it is fetched anew, remove the .blob.raw file to share the folder',
    )
    return { data: openTempFile(info.uncompressedSize, dir), writable: true, hidden: true }
  }
  for (let attempt = 0; ; attempt++) {
    const { unlock } = await lockFolder(dir)
    try {
      const files = openPair(paths, info, indexed, attempt >= UNFINISHED_RETRIES, log)
      if (files !== undefined) {
        // Says that somebody uses it (eviction.ts). Somebody who evicts without our having had the folder's lock ends soon.
        if (shareFile(files.data) || attempt >= SHARE_RETRIES) return files
        closeSync(files.data)
      }
    } finally {
      unlock()
    }
    await sleep(RETRY_MS)
  }
}

/** undefined: try again in a moment. */
function openPair(
  paths: CachePaths,
  info: BlobInfo,
  indexed: boolean,
  insist: boolean,
  log: Log,
): CacheFiles | undefined {
  linkNames(paths)
  if (!indexed) {
    const data = openData(paths.data)
    // A map of a data file that is gone would speak of this one.
    if (data.created && !isTar(paths)) for (const path of mapsOf(paths)) rmSync(path, { force: true })
    return { data: data.fd, writable: fitData(data, info) }
  }
  const map = openExisting(paths.map)
  let data: OpenedData | undefined
  try {
    data = openData(paths.data)
    const wrong = whatIsWrong(map, data, info)
    if (wrong === 'unfinished' && !insist) {
      closeSync(data.fd)
      return undefined
    }
    if (wrong !== undefined) {
      log.warn({ blob: info.id, path: paths.data }, `cached data of this blob is discarded: ${wrong}`)
      closeSync(data.fd)
      data = replacePair(paths, info)
    } else if (map === undefined) createChunkMap(paths.map, info.chunkCount, false)
    linkNames(paths)
    const reuse = wrong === undefined ? map : undefined
    const writable = fitData(data, info) && reuse?.writable !== false
    const opened = reuse?.fd ?? openSync(paths.map, 'r+')
    try {
      const map = mapChunkMap(opened, info.chunkCount, writable)
      return { data: data.fd, writable, map, mapPath: paths.map }
    } finally {
      if (opened !== reuse?.fd) closeSync(opened)
    }
  } catch (error) {
    if (data !== undefined) closeSync(data.fd)
    // Somebody who does not take the lock was faster.
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return undefined
    throw error
  } finally {
    if (map !== undefined) closeSync(map.fd)
  }
}

interface Opened {
  readonly fd: number
  readonly writable: boolean
}
interface OpenedData extends Opened {
  /** The file did not exist before. */
  readonly created: boolean
}

function whatIsWrong(map: Opened | undefined, data: OpenedData, info: BlobInfo): string | undefined {
  const size = fstatSync(data.fd).size
  if (size > info.uncompressedSize)
    return `the data file has ${size} bytes, the image says ${info.uncompressedSize}`
  if (map === undefined) return undefined
  const damage = checkChunkMap(map.fd, info.chunkCount)
  if (damage !== undefined) return damage === 'unfinished' ? damage : `its chunk map ${damage}`
  return data.created ? 'there is a chunk map without a data file' : undefined
}

/** Opens for writing, else for reading; undefined when there is no such file. */
function openExisting(path: string): Opened | undefined {
  try {
    return { fd: openSync(path, 'r+'), writable: true }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENOENT') return undefined
    if (code !== 'EROFS' && code !== 'EACCES' && code !== 'EPERM') throw error
    return { fd: openSync(path, 'r'), writable: false }
  }
}

function openData(path: string): OpenedData {
  const existing = openExisting(path)
  if (existing !== undefined) return { ...existing, created: false }
  return { fd: openSync(path, 'wx+', 0o644), writable: true, created: true }
}

/** Brings a data file that may be written to its full (sparse) length; returns whether it may. */
function fitData(data: OpenedData, info: BlobInfo): boolean {
  if (data.writable && fstatSync(data.fd).size < info.uncompressedSize)
    ftruncateSync(data.fd, info.uncompressedSize)
  return data.writable
}

/**
 * New files under the old names. The map goes first and comes last, so that whoever opens the files in between
 * finds data without a map, never a map that speaks of other data.
 */
function replacePair(paths: CachePaths, info: BlobInfo): OpenedData {
  const temporary = `${paths.data}.${process.pid}.tmp`
  const fd = openSync(temporary, 'w+', 0o644)
  try {
    ftruncateSync(fd, info.uncompressedSize)
    for (const path of [paths.old.map, paths.map, paths.old.data])
      if (path !== undefined) rmSync(path, { force: true })
    renameSync(temporary, paths.data)
    createChunkMap(paths.map, info.chunkCount, true)
  } catch (error) {
    closeSync(fd)
    throw error
  }
  return { fd, writable: true, created: true }
}

function mapsOf(paths: CachePaths): string[] {
  return [paths.old.map, paths.map].filter(path => existsSync(path))
}

/** No map speaks of it, though one of the same id may be there. */
function isTar(paths: CachePaths): boolean {
  return paths.data.endsWith(SUFFIX.tar)
}

/** Resolves when the disk has what was written to the file. */
export async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r')
  try {
    await file.datasync()
  } finally {
    await file.close()
  }
}

/**
 * Takes away what says that chunks are in the data file, also for a machine that loses power. Nobody may have the blob's
 * files open with a map, and the folder's lock must be held.
 */
export async function removeMaps(paths: CachePaths): Promise<void> {
  const maps = isTar(paths) ? [] : mapsOf(paths)
  if (maps.length === 0) return
  for (const path of maps) rmSync(path, { force: true })
  const folder = await open(dirname(paths.map), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** Gives a file that has one of its two names the other as well. */
export function linkNames(paths: CachePaths): void {
  if (isTar(paths)) return
  for (const [now, before] of [
    [paths.data, paths.old.data],
    [paths.map, paths.old.map],
    [paths.meta, paths.old.meta],
  ]) {
    if (now === undefined || before === undefined) continue
    const present = [now, before].map(path => statSync(path, { throwIfNoEntry: false }) !== undefined)
    try {
      if (present[0] === false && present[1] === true) linkSync(before, now)
      else if (present[0] === true && present[1] === false) linkSync(now, before)
    } catch {
      // Read-only folder, no hard links, or somebody was faster: one name is enough for us.
    }
  }
}
