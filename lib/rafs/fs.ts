/**
 * A lane's end of a mounted image: maps the bootstrap and the chunk maps, and reads them in place. Each lane has its
 * own mappings; nothing is shared but the files.
 */
import { closeSync, openSync } from 'node:fs'
import type { BlobHandle } from '../cache/cache.js'
import { native } from '../native.js'
import type { FileSystem } from '../vfs/filesystem.js'
import { Blobs } from './blobs.js'
import { Bootstrap } from './bootstrap.js'
import type { ImageHandle } from './handle.js'
import { owner } from './owner.js'
import { RafsReader } from './reader.js'
import { readSuper } from './super.js'

/** Blob ids are the yard's business: in a lane the blob that holds its own bootstrap needs no name. */
const NO_STEM = 'self'

/** Throws NydusError when a file cannot be mapped or the image is not what the yard saw. */
export function openRafs(handle: ImageHandle): FileSystem {
  const memory = native.mapFile(handle.bootstrapFd, handle.bootstrapLength, 'r')
  const boot = new Bootstrap(memory, handle.bootstrapLength, 'bootstrap')
  const sb = readSuper(boot, NO_STEM)
  const blobs = new Blobs(sb.blobs, handle.blobs, handle.blobs.map(mapChunkMap))
  return new RafsReader(boot, sb, blobs, {
    bootstrapFile: handle.bootstrapFile,
    xattrs: handle.xattrs,
    validate: handle.validate,
    ...owner(),
  })
}

function mapChunkMap({ mapPath, mapLength }: BlobHandle): Uint8Array {
  if (mapPath === '') return new Uint8Array(0)
  const fd = openSync(mapPath, 'r')
  try {
    return new Uint8Array(native.mapFile(fd, mapLength, 'r'))
  } finally {
    closeSync(fd)
  }
}
