/** What a guest sees of an image, whoever serves it: this project's nydusd or the reference's, over vhost-user. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { guestTree } from '../lib/daemon/testing/guest-tree.js'
import type { ManifestRecord } from '../vm-tests/manifest.js'
import { serve } from './bench/guest.js'
import { Server, SERVERS, type ServerKind } from './bench/servers.js'

/** Throws when it is not installed. */
export function serverNamed(name: ServerKind['name']): ServerKind {
  const kind = SERVERS.find(at => at.name === name)
  if (kind === undefined || kind.missing !== undefined) throw new Error(kind?.missing ?? `no server ${name}`)
  return kind
}

export interface ServedImage {
  readonly bootstrap: string
  /** Folder of a localfs backend. */
  readonly blobs: string
  /** Of the blobcache. */
  readonly workDir: string
}

/** Starts the server, reads every entry and every byte of the image as its guest, and ends it. */
export async function treeOf(kind: ServerKind, image: ServedImage): Promise<readonly ManifestRecord[]> {
  const folder = mkdtempSync(join(tmpdir(), 'nydus-tree-'))
  const device = {
    backend: { type: 'localfs', config: { dir: image.blobs } },
    cache: { type: 'blobcache', config: { work_dir: image.workDir } },
  }
  const { server, frontend, fuse } = await serve(() =>
    Server.start(kind, { ...image, folder: '' }, folder, [], { settings: { device } }),
  )
  try {
    return await guestTree(fuse, '/')
  } finally {
    frontend.close()
    // Not killed: what the cache has not noted on disk yet would be lost.
    await server.stop('SIGTERM')
    rmSync(folder, { recursive: true, force: true })
  }
}

/**
 * The first entry in which two trees differ, as a sentence; undefined when they are the same. An mtime of 0 does not
 * count: the reference shows the time of the mount instead.
 */
export function difference(
  expected: readonly ManifestRecord[],
  seen: readonly ManifestRecord[],
): string | undefined {
  const found = new Map(seen.map(entry => [entry.path, entry]))
  for (const entry of expected) {
    const other = found.get(entry.path)
    if (other === undefined) return `${entry.path} is missing`
    const fields = entry.mtime === 0 ? { ...other, mtime: entry.mtime } : other
    if (!isDeepStrictEqual(fields, entry))
      return `${JSON.stringify(fields)} instead of ${JSON.stringify(entry)}`
    found.delete(entry.path)
  }
  const [extra] = found.keys()
  return extra === undefined ? undefined : `${extra} should not be there`
}
