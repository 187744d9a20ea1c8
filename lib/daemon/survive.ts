/**
 * Mistakes in the program, after the start: logged, and the daemon goes on. Its death would leave every reader in
 * its virtual machine hanging for ever, which is worse than what one broken request can do.
 */
import type { Log } from '../base/log.js'
import { LogLimit } from '../base/log-limit.js'

const LINES = 10
const INTERVAL_MS = 10_000

/** Returns what ends it. */
export function survive(log: Log): () => void {
  const limit = new LogLimit(LINES, INTERVAL_MS)
  const report = (error: unknown): void => {
    const held = limit.pass()
    if (held < 0) return
    const stack = error instanceof Error ? error.stack : String(error)
    log.error({ error: stack, ...(held > 0 && { held }) }, 'a mistake in the program: please report it')
  }
  process.on('uncaughtException', report)
  process.on('unhandledRejection', report)
  return () => {
    process.off('uncaughtException', report)
    process.off('unhandledRejection', report)
  }
}
