/**
 * The daemon's logger: pino, JSON lines, or colours on a terminal.
 *
 * Message constant, variables as fields. Nothing at `info` per request. Field names that carry credentials are
 * redacted wherever they stand up to three levels deep; configurations are logged through `redacted` only.
 */
import { pino } from 'pino'
import type { DestinationStream, Logger } from 'pino'
import type { ErrorEvents } from './error-events.js'
import { LogFile } from './log-file.js'
import { SECRET_KEYS } from './secret-keys.js'
import type { DaemonOptions } from './options.js'

type LogOptions = Pick<DaemonOptions, 'logLevel' | 'logFile' | 'logRotationMb'>

export interface DaemonLog {
  readonly log: Logger
  /** Writes out what is buffered; for the end of the process. */
  readonly flush: () => void
}

/** Lines wait in memory while the reader of stderr is slow; above this they are dropped. */
const MAX_BUFFERED = 4 << 20

const ERROR = 50

async function destination(options: LogOptions): Promise<{ stream: DestinationStream; flush: () => void }> {
  if (options.logFile !== undefined) {
    const file = new LogFile(options.logFile, options.logRotationMb * 1_000_000)
    return { stream: file, flush: () => {} }
  }
  if (process.stderr.isTTY) {
    const { default: pretty } = await import('pino-pretty')
    return { stream: pretty({ destination: 2, sync: true, ignore: 'pid,hostname' }), flush: () => {} }
  }
  const stream = pino.destination({ dest: 2, sync: false, maxLength: MAX_BUFFERED })
  return { stream, flush: () => stream.flushSync() }
}

const SECRET_PATHS = [...SECRET_KEYS].flatMap(key => [key, `*.${key}`, `*.*.${key}`])

/** Errors go to `events` as well. Throws NydusError START_LOG_FILE. */
export async function openLog(options: LogOptions, events: ErrorEvents): Promise<DaemonLog> {
  const { stream, flush } = await destination(options)
  const log = pino(
    {
      level: options.logLevel,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      redact: { paths: SECRET_PATHS, censor: '(secret)' },
      hooks: {
        logMethod(args, method, level) {
          if (level >= ERROR) events.add(sentence(args))
          method.apply(this, args)
        },
      },
    },
    stream,
  )
  return { log, flush }
}

/** An error's line for the events: its message, and the reason that stands in the fields. */
function sentence(args: readonly unknown[]): string {
  const message = args.find(argument => typeof argument === 'string') ?? ''
  const fields: unknown = args.find(argument => typeof argument === 'object' && argument !== null)
  const error = (fields as { error?: unknown } | undefined)?.error
  return typeof error === 'string' ? `${message}: ${error}` : message
}
