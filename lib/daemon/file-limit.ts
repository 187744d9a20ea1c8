/** The limit of open files: every blob and cache file of every mount is open. */
import { readFileSync } from 'node:fs'
import type { Native } from '../native.js'

/** Left to the rest of the system, as the reference does. */
const RESERVED = 16_384

function systemMaximum(): number {
  try {
    const max = Number(readFileSync('/proc/sys/fs/file-max', 'utf8').trim())
    return Number.isFinite(max) ? max : Infinity
  } catch {
    return Infinity
  }
}

/**
 * Raises the limit towards `wanted` (0: leave it alone); a limit that is higher already stays. Returns what is to
 * be warned of: a daemon with a low limit serves few images well, so it is no reason not to start.
 */
export function raiseFileLimit(
  native: Pick<Native, 'getFileLimit' | 'setFileLimit'>,
  wanted: number,
  fileMax = systemMaximum(),
): string | undefined {
  if (wanted === 0) return undefined
  const [soft] = native.getFileLimit()
  const goal = Math.min(wanted, fileMax - RESERVED)
  if (goal < RESERVED)
    return `the system allows ${fileMax} open files in all (fs.file-max): the limit stays at ${soft}`
  if (soft >= goal) return undefined
  const reached = native.setFileLimit(goal)
  if (reached >= goal) return undefined
  return `at most ${reached} open files are allowed, ${goal} were wanted; start with a higher hard limit (ulimit -Hn, LimitNOFILE) to serve many images`
}
