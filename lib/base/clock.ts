/**
 * Time as the layers see it, so that tests decide when it passes.
 *
 * Durations are milliseconds. `now` only ever grows and its zero means nothing; `wall` is the date.
 */

/** Undoes a timer that has not fired; harmless afterwards. */
export type Cancel = () => void

export interface Clock {
  now(): number
  /** Milliseconds since 1970, for signatures and HTTP dates. */
  wall(): number
  /** Calls `fire` once after `ms`. Keeps the process alive: somebody waits for it. */
  after(ms: number, fire: () => void): Cancel
  /** As `after`, for upkeep nobody waits for: does not keep the process alive. */
  background(ms: number, fire: () => void): Cancel
  /** Resolves after `ms`; rejects with the signal's reason when that aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** `clock.sleep` on top of `clock.after`. */
function sleepOn(after: Clock['after'], ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(signal.reason as Error)
    const onAbort = () => {
      cancel()
      reject(signal?.reason as Error)
    }
    const cancel = after(ms, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

function after(ms: number, fire: () => void): Cancel {
  const timer = setTimeout(fire, ms)
  return () => clearTimeout(timer)
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after,
  background(ms, fire) {
    const timer = setTimeout(fire, ms)
    timer.unref()
    return () => clearTimeout(timer)
  },
  sleep: (ms, signal) => sleepOn(after, ms, signal),
}
