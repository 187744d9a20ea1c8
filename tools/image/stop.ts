/** Ctrl-C and its like: no half-written file stays behind, and the terminal gets its cursor back. */
import { constants } from 'node:os'
import { temporaryFiles } from '../../lib/base/temporary-files.js'

const SHOW_CURSOR = '\x1b[?25h'

/** Ends the process as a shell expects it: 128 + number of the signal. */
export function stopOnSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => {
      temporaryFiles.removeAll()
      if (process.stderr.isTTY) process.stderr.write(SHOW_CURSOR)
      process.exit(128 + constants.signals[signal])
    })
}
