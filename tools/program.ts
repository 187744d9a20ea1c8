/** What the command-line programs have in common: a `main` that tests can call, and the process around it. */
import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { explain } from '../lib/base/errors.js'

/** Where a program's words go, and the environment that it sees. */
export interface Io {
  readonly stdout: { write(text: string): unknown }
  readonly stderr: { write(text: string): unknown }
  readonly env: Readonly<Record<string, string | undefined>>
}

/** 0 ok, 1 failed, 2 wrong command line. */
export type Main = (argv: readonly string[], io: Io) => Promise<number>

/** Runs `main` when its module is what node was started with; does nothing when it was imported. */
export function runProgram(moduleUrl: string, main: Main): void {
  const script = process.argv[1]
  if (script === undefined || realpathSync(script) !== fileURLToPath(moduleUrl)) return
  // Whoever reads our output may have gone: `nydusd --help | head -1`.
  process.stdout.on('error', () => {})
  process.stderr.on('error', () => {})
  // Unless it says otherwise: a program that waits for something that never comes has failed.
  process.exitCode = 1
  void main(process.argv.slice(2), process)
    .catch((error: unknown) => {
      process.stderr.write(`Error: ${explain(error)}\n`)
      return 1
    })
    .then(code => {
      process.exitCode = code
    })
}
