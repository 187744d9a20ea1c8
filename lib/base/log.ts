/**
 * What the layers know of logging: pino's shape, nothing of pino. Fields first, then a constant message.
 */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

function nothing(): void {}

/** For callers (and tests) that have no logger. */
export const silentLog: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing }
