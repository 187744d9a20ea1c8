/**
 * Caches that change hands: `node dist/scripts/check-peer-cache.js` lets the reference's nydusd (`scripts/bench/install-peers`)
 * fill a work_dir and this project's serve the image from it, and the other way round. The second one finds blobs whose
 * chunks are zeros: a fetch would give wrong bytes or EIO. No part of `npm test`.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { explain } from '../lib/base/errors.js'
import { RafsImage } from '../lib/rafs/image.js'
import { expectedRecords, fixtureNamed, FIXTURES, type Fixture } from '../vm-tests/fixtures.js'
import { difference, serverNamed, treeOf } from './peer-tree.js'

const ours = serverNamed('nydus-ts')
const peer = serverNamed('nydusd')

/** Overwrites the chunks of all blobs with zeros; what a blob holds besides chunks (tables, a bootstrap) stays. */
async function eraseChunks(fixture: Fixture, folder: string): Promise<void> {
  const image = await RafsImage.open({ path: fixture.bootstrap, xattrs: false, validate: false })
  for (const { id, compressedSize } of image.blobs) {
    const bytes = readFileSync(join(folder, id))
    writeFileSync(join(folder, id), bytes.fill(0, 0, compressedSize))
  }
  await image.close()
}

async function check(fixture: Fixture, filler: typeof ours, user: typeof ours): Promise<string | undefined> {
  const root = mkdtempSync(join(tmpdir(), 'nydus-peer-'))
  const [blobs, zeros, workDir] = [join(root, 'blobs'), join(root, 'zeros'), join(root, 'cache')]
  try {
    cpSync(fixture.blobs, blobs, { recursive: true })
    cpSync(fixture.blobs, zeros, { recursive: true })
    await eraseChunks(fixture, zeros)
    mkdirSync(workDir)
    const { bootstrap } = fixture
    const manifest = expectedRecords(fixtureNamed(fixture.name))
    const filled = difference(manifest, await treeOf(filler, { bootstrap, blobs, workDir }))
    if (filled !== undefined) return `${filler.name}, which fills it: ${filled}`
    const used = difference(manifest, await treeOf(user, { bootstrap, blobs: zeros, workDir }))
    return used === undefined ? undefined : `${user.name}, from the cache of ${filler.name}: ${used}`
  } catch (error) {
    return explain(error)
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

for (const fixture of FIXTURES)
  for (const [filler, user] of [
    [peer, ours],
    [ours, peer],
  ] as const) {
    const problem = await check(fixture, filler, user)
    // Nydus 2.2 knows no batches (0x40000000 of the blob's features).
    const unknown = problem?.includes('invalid blob features') === true
    if (problem !== undefined && !unknown) process.exitCode = 1
    const result = unknown ? `not checked: ${peer.name} does not know this kind of image` : problem
    process.stdout.write(
      `${fixture.name}, filled by ${filler.name}: ${result ?? `${user.name} serves all of it`}\n`,
    )
  }
