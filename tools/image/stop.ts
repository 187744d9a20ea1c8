/** Ctrl-C and its like: no half-written file stays behind, and the terminal gets its cursor back. */
import { temporaryFiles } from '../../lib/base/temporary-files.js'

const SHOW_CURSOR = '\x1b[?25h'

/** Ends the process by the signal itself: a shell sees 128 + its number. */
export function stopOnSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => {
      temporaryFiles.removeAll()
      if (process.stderr.isTTY) process.stderr.write(SHOW_CURSOR)
      // `once` has given the signal its default action back. process.exit would wait for a thread that reads a FIFO.
      process.kill(process.pid, signal)
    })
}
