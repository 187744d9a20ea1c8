/**
 * Caches that change hands: `node dist/scripts/check-peer-cache.js` lets the reference's nydusd (`scripts/bench/install-peers`)
 * fill a work_dir and this project's serve the image from it, and the other way round. The second one finds blobs of
 * the right length, but of zeros: a fetch would give wrong bytes or EIO. No part of `npm test`.
 */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { explain } from '../lib/base/errors.js'
import { expected, fixtureNamed } from '../lib/rafs/testing/fixtures.js'
import { FIXTURES, type Fixture } from '../vm-tests/fixtures.js'
import { difference, serverNamed, treeOf } from './peer-tree.js'

const ours = serverNamed('nydus-ts')
const peer = serverNamed('nydusd')

/** Files of the same names and lengths, without any of the bytes. */
function withoutBytes(blobs: string, folder: string): void {
  mkdirSync(folder)
  for (const name of readdirSync(blobs)) {
    writeFileSync(join(folder, name), '')
    truncateSync(join(folder, name), statSync(join(blobs, name)).size)
  }
}

async function check(fixture: Fixture, filler: typeof ours, user: typeof ours): Promise<string | undefined> {
  const root = mkdtempSync(join(tmpdir(), 'nydus-peer-'))
  const [blobs, zeros, workDir] = [join(root, 'blobs'), join(root, 'zeros'), join(root, 'cache')]
  try {
    cpSync(fixture.blobs, blobs, { recursive: true })
    withoutBytes(blobs, zeros)
    mkdirSync(workDir)
    const { bootstrap } = fixture
    const manifest = expected(fixtureNamed(fixture.name))
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
    if (problem !== undefined) process.exitCode = 1
    process.stdout.write(
      `${fixture.name}, filled by ${filler.name}: ${problem ?? `${user.name} serves all of it`}\n`,
    )
  }
