/**
 * Every kind of image in a real guest: `node dist/scripts/check-guest-image.js [WORD…]` builds one of each, mounts it in a
 * running guest of QEMU through this project's nydusd, and compares every entry and byte there. With words, only kinds that
 * have all of them. As root; takes some minutes, no part of `npm test`.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { explain } from '../lib/base/errors.js'
import { Daemon } from '../vm-tests/daemon.js'
import { bootGuest } from '../vm-tests/vm.js'
import { combinations, root, type Combination } from './image-kinds.js'

const daemon = await Daemon.start(undefined, mkdtempSync(join(root, 'daemon-')))
const guest = await bootGuest({ fs: [{ socket: daemon.sock, tag: 'nydus' }] })
await guest.mount('nydus', '/mnt')

/** As the fixtures' manifests are written, which is what the guest's agent reads: keys in order, ASCII. */
function manifestText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(manifestText).join(', ')}]`
  if (typeof value === 'object' && value !== null)
    return `{${Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, field]) => `${manifestText(key)}: ${manifestText(field)}`)
      .join(', ')}}`
  return JSON.stringify(value).replaceAll(
    /[\u007f-\uffff]/g,
    letter => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** Empty when the guest sees what it must. */
async function judge({ kind, options }: Combination): Promise<string> {
  const out = mkdtempSync(join(root, 'image-'))
  const workDir = mkdtempSync(join(root, 'cache-'))
  try {
    await daemon.mount('/image', kind.make(out, options), { blobs: out, workDir, digestValidate: true })
    const manifest = kind.manifest().map(entry => `${manifestText(entry)}\n`)
    const seen = await guest.compare('/mnt/image', Buffer.from(manifest.join('')))
    const right = seen.differences === 0 && seen.entries === manifest.length
    return right
      ? ''
      : `${seen.differences} differences in ${seen.entries} entries: ${seen.lines.slice(0, 3).join('; ')}`
  } catch (error) {
    return explain(error)
  } finally {
    await daemon.umount('/image').catch(() => undefined)
    rmSync(out, { recursive: true, force: true })
    rmSync(workDir, { recursive: true, force: true })
  }
}

let failed = 0
const kinds = combinations(process.argv.slice(2))
for (const kind of kinds) {
  const problem = await judge(kind)
  if (problem !== '') failed++
  process.stdout.write(`${kind.name}: ${problem === '' ? 'ok' : `FAILED (${problem})`}\n`)
}
await guest.machine.kill()
await daemon.stop()
process.stdout.write(`${kinds.length - failed} of ${kinds.length} kinds are right in the guest\n`)
process.exitCode = failed === 0 ? 0 : 1
