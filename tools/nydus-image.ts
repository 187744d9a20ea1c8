/** nydus-image: builds RAFS images and looks into them. The command line's end of it; each command loads what it needs. */
import { Command, CommanderError } from 'commander'
import { NydusError } from '../lib/base/errors.js'
import { createCommand } from './image/create.js'
import { checkCommand } from './image/check.js'
import { mergeCommand } from './image/merge.js'
import { unpackCommand } from './image/unpack.js'
import { exportCommand } from './image/export.js'
import { statCommand } from './image/stat.js'
import { inspectCommand } from './image/inspect.js'
import { compactCommand } from './image/compact.js'
import { optimizeCommand } from './image/optimize.js'
import { chunkdictCommand } from './image/chunkdict.js'
import { failureText } from './image/failure.js'
import { addLogOptions, loggedIo, logError } from './image/log-options.js'
import { stopOnSignals } from './image/stop.js'
import { runProgram, type Io, type Main } from './program.js'

const ABOUT = `Builds RAFS container images from folders, tar archives and OCI layers, merges layers, checks and unpacks images.

Exit status: 0 done, 1 failed (the reason is the last line on stderr), 2 wrong command line.`

/** Layers of different versions are a mistake of the command line, too (nydus-image.md 1). */
const USAGE: readonly string[] = ['CLI_USAGE', 'BUILD_INCONSISTENT']

export const main: Main = async (argv, io) => {
  let said: Io
  try {
    said = loggedIo(argv, io)
  } catch (error) {
    io.stderr.write(`Error: ${failureText(error)}\n`)
    return 1
  }
  const program = new Command('nydus-image')
  program
    .description(ABOUT)
    .option('-V, --version', 'print version information')
    .configureOutput({
      writeOut: text => void io.stdout.write(text),
      writeErr: text => void io.stderr.write(text),
    })
    .exitOverride()
  for (const add of [
    createCommand,
    mergeCommand,
    checkCommand,
    unpackCommand,
    exportCommand,
    statCommand,
    inspectCommand,
    compactCommand,
    optimizeCommand,
    chunkdictCommand,
  ])
    add(program, said)
  for (const command of [program, ...program.commands]) addLogOptions(command)
  if (argv.includes('--version') || argv.includes('-V')) {
    const { buildInfo, versionText } = await import('../lib/daemon/version.js')
    io.stdout.write(versionText(buildInfo()))
    return 0
  }
  if (argv.length === 0) {
    io.stdout.write(`${program.createHelp().commandUsage(program)}\n`)
    return 0
  }
  if (io.stdout === process.stdout) stopOnSignals()
  try {
    await program.parseAsync(argv, { from: 'user' })
    return 0
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    const text = `Error: ${failureText(error)}\n`
    io.stderr.write(text)
    logError(argv, text)
    return error instanceof NydusError && USAGE.includes(error.code) ? 2 : 1
  }
}

runProgram(import.meta.url, main)
