/** Progress of long work: a line on a terminal, nothing in a pipe. */
import { Presets, SingleBar } from 'cli-progress'
import type { CreateProgress } from '../../lib/build/create.js'
import type { Io } from '../program.js'

export interface ShownProgress extends CreateProgress {
  stop(): void
}

export function startProgress(io: Io, what: string): ShownProgress {
  if (io.stderr !== process.stderr || !process.stderr.isTTY)
    return { found: () => undefined, stored: () => undefined, stop: () => undefined }
  const bar = new SingleBar(
    {
      format: `${what} [{bar}] {value}/{total} entries  {mib} MiB  {rate} MiB/s`,
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
  bar.start(0, 0, { mib: 0, rate: 0 })
  const show = (): void => {
    const mib = bytes / 2 ** 20
    bar.update(done, { mib: mib.toFixed(0), rate: ((mib / (performance.now() - started)) * 1000).toFixed(0) })
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
