/**
 * Images that change hands: `node dist/scripts/check-peer-image.js [WORD…]` builds one of every kind with this project's
 * nydus-image, lets the reference (`scripts/bench/install-peers`) check it and serve it to a guest, and compares what the
 * guest sees with the tree that went in; then this project's check looks at the reference's images. As root: the tree has
 * devices and owners. With words, only combinations that have all of them. No part of `npm test`.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { explain } from '../lib/base/errors.js'
import { FIXTURES } from '../vm-tests/fixtures.js'
import { combinations, ours, root, run, type Kind } from './image-kinds.js'
import { difference, serverNamed, treeOf } from './peer-tree.js'

const peerServer = serverNamed('nydusd')
const peer = join(dirname(peerServer.program), 'nydus-image')
const wanted = process.argv.slice(2)

/** The last lines, which say what is wrong, as one and without colours. */
function reason(text: string): string {
  const lines = stripVTControlCharacters(text)
    .split('\n')
    .map(line => line.trim())
  return lines
    .filter(line => line !== '')
    .slice(-3)
    .join(' ')
}

/** 2.2 has no batches, for instance. */
function unknown(problem: string): boolean {
  return /invalid blob features|0x40000080|INVALID_FEATURES/i.test(problem)
}

async function judge(kind: Kind, options: readonly string[]): Promise<string[]> {
  const out = mkdtempSync(join(root, 'image-'))
  const work = mkdtempSync(join(root, 'cache-'))
  const said: string[] = []
  const note = (what: string, problem: string | undefined): void => {
    if (problem === undefined) said.push(`${what} ok`)
    else if (unknown(problem)) said.push(`${what}: not known to it`)
    else {
      said.push(`${what} FAILED (${reason(problem)})`)
      process.exitCode = 1
    }
  }
  try {
    const bootstrap = kind.make(out, options)
    note('our check', run(ours, ['check', '-B', bootstrap]))
    note('its check', run(peer, ['check', '-B', bootstrap, '-D', out]))
    const serve = (): Promise<string | undefined> =>
      treeOf(peerServer, { bootstrap, blobs: out, workDir: work }).then(
        seen => difference(kind.manifest(), seen),
        (error: unknown) => explain(error),
      )
    const served = await serve()
    // Now and then it sleeps through the first kick of its queue.
    note('its nydusd', served?.startsWith('INIT of node 0') === true ? await serve() : served)
  } catch (error) {
    note('build', explain(error))
  } finally {
    rmSync(out, { recursive: true, force: true })
    rmSync(work, { recursive: true, force: true })
  }
  return said
}

for (const { name, kind, options } of combinations(wanted))
  process.stdout.write(`${name}: ${(await judge(kind, options)).join(', ')}\n`)
if (wanted.length === 0)
  for (const { name, bootstrap } of FIXTURES) {
    const problem = run(ours, ['check', '-B', bootstrap])
    if (problem !== undefined) process.exitCode = 1
    const said = problem === undefined ? 'our check ok' : `our check FAILED (${reason(problem)})`
    process.stdout.write(`its ${name}: ${said}\n`)
  }
