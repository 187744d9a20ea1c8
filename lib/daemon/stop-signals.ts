/** Signals that end the daemon, and those that must not. */

const ENDING = ['SIGTERM', 'SIGINT'] as const

export interface Stopping {
  /** Why. */
  readonly stopped: Promise<string>
  readonly stop: (why: string) => void
  /** Signals have their usual effect again. */
  readonly forget: () => void
}

/**
 * `stopped` resolves when a signal asks for the end, or `stop` is called. From then on a second signal ends
 * the process at once.
 */
export function untilStopped(): Stopping {
  let stop: (why: string) => void = () => {}
  const stopped = new Promise<string>(resolve => (stop = resolve))
  const onSignal = (signal: NodeJS.Signals): void => {
    for (const name of ENDING) {
      process.off(name, onSignal)
      process.once(name, onAgain)
    }
    stop(signal)
  }
  const onAgain = (): void => process.exit(0)
  // The terminal that it was started from goes; the virtual machines that it serves stay.
  const ignore = (): void => {}
  for (const name of ENDING) process.on(name, onSignal)
  process.on('SIGHUP', ignore)
  return {
    stopped,
    stop,
    forget() {
      for (const name of ENDING) process.off(name, onSignal).off(name, onAgain)
      process.off('SIGHUP', ignore)
    },
  }
}
