/**
 * The chunk map on disk: which chunks of a blob lie in its data file (blobs-and-cache.md §6). Several daemons,
 * ours and Nydus's, map one file and set bits in it.
 */
import {
  closeSync,
  fstatSync,
  linkSync,
  openSync,
  readSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { native } from '../native.js'
import { BitMap, byteLength } from './bit-map.js'
import { CHUNK_MAP_MAGIC, CHUNK_MAP_MAGIC2, CHUNK_MAP_VERSION, ChunkMapHeader } from './layout.js'

/** Bytes of the file for `chunkCount` chunks. */
export function chunkMapSize(chunkCount: number): number {
  return ChunkMapHeader.size + byteLength(chunkCount)
}

/** Why an open chunk map cannot be used; undefined when it can. 'unfinished': its creator may still be at work. */
export function checkChunkMap(fd: number, chunkCount: number): string | undefined {
  const size = fstatSync(fd).size
  if (size === 0) return 'unfinished'
  if (size !== chunkMapSize(chunkCount))
    return `has ${size} bytes, ${chunkCount} chunks need ${chunkMapSize(chunkCount)}`
  const head = new Uint8Array(ChunkMapHeader.size)
  readSync(fd, head, 0, head.byteLength, 0)
  const header = ChunkMapHeader.read(head)
  if (header.magic === 0) return 'unfinished'
  // Version 0 has neither the second magic nor the "all ready" word.
  const known = header.version === 0 || header.magic2 === CHUNK_MAP_MAGIC2
  if (header.magic !== CHUNK_MAP_MAGIC || header.version > CHUNK_MAP_VERSION || !known)
    return `has an unknown header (magic 0x${header.magic.toString(16)}, version ${header.version})`
  return undefined
}

/** Maps a map that `checkChunkMap` let pass; the descriptor can be closed afterwards. */
export function mapChunkMap(fd: number, chunkCount: number, writable: boolean): BitMap {
  const buffer = native.mapFile(fd, chunkMapSize(chunkCount), writable ? 'rw' : 'r')
  return new BitMap(new Uint8Array(buffer, ChunkMapHeader.size), chunkCount)
}

/**
 * Makes an empty map appear at `path` complete, or not at all. Written byte by byte, not as a hole: a store into a
 * mapped hole of a full disk would be lost. With `replace` an existing map is replaced, otherwise EEXIST is thrown.
 */
export function createChunkMap(path: string, chunkCount: number, replace: boolean): void {
  const temporary = `${path}.${process.pid}.tmp`
  const content = new Uint8Array(chunkMapSize(chunkCount))
  ChunkMapHeader.write(content, {
    magic: CHUNK_MAP_MAGIC,
    version: CHUNK_MAP_VERSION,
    magic2: CHUNK_MAP_MAGIC2,
  })
  const fd = openSync(temporary, 'w', 0o644)
  try {
    let done = 0
    while (done < content.byteLength) done += writeSync(fd, content, done, content.byteLength - done, done)
    if (replace) renameSync(temporary, path)
    else linkSync(temporary, path)
  } finally {
    closeSync(fd)
    try {
      unlinkSync(temporary)
    } catch {
      // Renamed.
    }
  }
}
