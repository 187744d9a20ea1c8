/** Progress of long work: a line on a terminal, nothing in a pipe. */
import { Presets, SingleBar } from 'cli-progress'
import type { CreateProgress } from '../../lib/build/create.js'
import type { Io } from '../program.js'

export interface ShownProgress extends CreateProgress {
  stop(): void
}

/** A source that is more entries than this ahead of what was stored has been walked already. */
const AHEAD = 1000

/** `59s`, `12m05s`, `3h02m`. */
export function timeText(seconds: number): string {
  const whole = Math.round(seconds)
  const two = (n: number): string => String(n).padStart(2, '0')
  if (whole < 60) return `${whole}s`
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`
  return `${Math.floor(whole / 3600)}h${two(Math.floor(whole / 60) % 60)}m`
}

export function startProgress(io: Io, what: string): ShownProgress {
  if (io.stderr !== process.stderr || !process.stderr.isTTY)
    return { found: () => undefined, stored: () => undefined, stop: () => undefined }
  const bar = new SingleBar(
    {
      format: `${what} [{bar}] {value}/{total} entries  {mib} MiB  {rate} MiB/s{left}`,
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
    },
    Presets.shades_classic,
  )
  const started = performance.now()
  let total = 0
  let done = 0
  let bytes = 0
  bar.start(0, 0, { mib: 0, rate: 0, left: '' })
  const show = (): void => {
    const mib = bytes / 2 ** 20
    const seconds = (performance.now() - started) / 1000
    // An archive is read as it comes: what has been found of it says nothing of what is left.
    const left =
      total > done + AHEAD && done > 0 ? `  ${timeText((seconds / done) * (total - done))} left` : ''
    bar.update(done, { mib: mib.toFixed(0), rate: (mib / seconds).toFixed(0), left })
  }
  return {
    found(entries) {
      total += entries
      bar.setTotal(total)
    },
    stored(files, more) {
      done += files
      bytes += more
      show()
    },
    stop() {
      bar.stop()
    },
  }
}
