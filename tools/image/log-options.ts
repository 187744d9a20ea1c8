/**
 * `--log-level` and `--log-file`, which every command takes in front of its name and behind it. Commands say what they
 * did on `io.stderr`: that is news of level info, but for what `warn` says. Errors are always shown on stderr; a log
 * file has all of it.
 */
import { appendFileSync } from 'node:fs'
import { Option, type Command } from 'commander'
import { explain, NydusError } from '../../lib/base/errors.js'
import type { Io } from '../program.js'

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const
/** From here on news is left out. */
const QUIET = ['warn', 'error']
/** Starts every warning, and nothing else that is said. */
const WARNING = 'warning: '

export function warn(io: Io, sentence: string): void {
  io.stderr.write(`${WARNING}${sentence}\n`)
}

export function addLogOptions(command: Command): void {
  command
    .addOption(new Option('-l, --log-level <level>', 'how much is said').choices(LEVELS))
    .option('-L, --log-file <file>', 'what is said goes to the end of this file instead of stderr')
}

/** The last value of an option on a command line, in any of its forms; commander reports what is wrong with it. */
function lastValue(argv: readonly string[], short: string, long: string): string | undefined {
  let value: string | undefined
  for (const [i, word] of argv.entries()) {
    if (word === '--') break
    if (word === short || word === long) value = argv[i + 1]
    else if (word.startsWith(`${long}=`)) value = word.slice(long.length + 1)
    else if (word.startsWith(short) && !word.startsWith('--') && word.length > short.length)
      value = word.slice(short.length)
  }
  return value
}

/** `io` as the commands see it under these options. Throws NydusError CLI_LOG_FILE. */
export function loggedIo(argv: readonly string[], io: Io): Io {
  const level = lastValue(argv, '-l', '--log-level') ?? 'info'
  const file = lastValue(argv, '-L', '--log-file')
  const said = (text: string): boolean =>
    !QUIET.includes(level) || (level === 'warn' && text.startsWith(WARNING))
  if (file === undefined) {
    if (!QUIET.includes(level)) return io
    return { ...pick(io), stderr: { write: text => said(text) && io.stderr.write(text) } }
  }
  appendToLog(file, '')
  return {
    ...pick(io),
    stderr: { write: text => said(text) && appendToLog(file, stamped(text)) },
  }
}

function stamped(text: string): string {
  const [level, sentence] = text.startsWith(WARNING) ? ['WARN', text.slice(WARNING.length)] : ['INFO', text]
  return `[${new Date().toISOString()}] ${level} ${sentence}`
}

/** Writes an error into the log file, too, when there is one. */
export function logError(argv: readonly string[], text: string): void {
  const file = lastValue(argv, '-L', '--log-file')
  if (file === undefined) return
  try {
    appendToLog(file, `[${new Date().toISOString()}] ERROR ${text}`)
  } catch {
    // It was said on stderr.
  }
}

/** A process has more than these, and only getters. */
function pick(io: Io): Io {
  return { stdout: io.stdout, stderr: io.stderr, env: io.env }
}

function appendToLog(file: string, text: string): true {
  try {
    appendFileSync(file, text)
    return true
  } catch (error) {
    throw new NydusError('CLI_LOG_FILE', 'EIO', `--log-file ${file} cannot be written: ${explain(error)}`, {
      cause: error,
    })
  }
}
