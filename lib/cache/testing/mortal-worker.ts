/**
 * A chunk Worker that dies of its first job. NYDUS_TEST_DEATH is `always`, or a file that tells that it happened
 * once.
 */
import { writeFileSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'

function mustDie(): boolean {
  const death = process.env['NYDUS_TEST_DEATH'] ?? ''
  try {
    if (death !== 'always') writeFileSync(death, '', { flag: 'wx' })
    return true
  } catch {
    return false
  }
}

if (mustDie()) parentPort?.on('message', () => process.exit(7))
else await import('../chunk-worker.js')
