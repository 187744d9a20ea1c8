/** nydusd: serves container images to virtual machines (and to the host's kernel). The command line's end of it. */
import { explain, NydusError } from '../lib/base/errors.js'
import { parseCommandLine } from '../lib/daemon/command-line.js'
import { runProgram, type Main } from './program.js'

/** Modules with more behind them are loaded when they are needed: `--help` and `--version` need no addon. */
export const main: Main = async (argv, io) => {
  try {
    const request = parseCommandLine(argv)
    if (request.kind === 'print') {
      const stream = request.exitCode === 0 ? io.stdout : io.stderr
      stream.write(request.text)
      return request.exitCode
    }
    if (request.kind === 'version') {
      const { buildInfo, versionText } = await import('../lib/daemon/version.js')
      io.stdout.write(versionText(buildInfo()))
      return 0
    }
    const { runDaemon } = await import('../lib/daemon/daemon.js')
    await runDaemon(request.options, io.env)
    return 0
  } catch (error) {
    // What a user can do something about is a sentence; a mistake in the program shows where it is.
    const known = error instanceof NydusError
    const text = known
      ? explain(error)
      : error instanceof Error
        ? (error.stack ?? error.message)
        : String(error)
    io.stderr.write(`Error: ${text}\n`)
    return 1
  }
}

runProgram(import.meta.url, main)
