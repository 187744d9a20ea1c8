import type { Clock } from '../base/clock.js'
import { HttpFailure } from './http-failure.js'

/**
 * The life of one read: it ends when the caller aborts, the backend closes, or its time is up; then `signal`
 * aborts with the HttpFailure that the caller gets.
 */
export class Scope {
  readonly #controller = new AbortController()
  readonly #clock: Clock
  readonly #endsAt: number
  readonly #undo: (() => void)[] = []

  /** `budgetMs` 0: no limit. */
  constructor(clock: Clock, budgetMs: number, caller: AbortSignal | undefined, backend: AbortSignal) {
    this.#clock = clock
    this.#endsAt = budgetMs === 0 ? Infinity : clock.now() + budgetMs
    const follow = (signal: AbortSignal, end: () => HttpFailure) => {
      const onAbort = () => this.#controller.abort(end())
      if (signal.aborted) return onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
      this.#undo.push(() => signal.removeEventListener('abort', onAbort))
    }
    if (caller !== undefined)
      follow(
        caller,
        () => new HttpFailure('BACKEND_ABORTED', 'given up by the caller', { cause: caller.reason }),
      )
    follow(backend, () => new HttpFailure('BACKEND_CLOSED', 'the backend was closed'))
    if (budgetMs > 0)
      this.#undo.push(
        clock.after(budgetMs, () =>
          this.#controller.abort(
            new HttpFailure('BACKEND_DEADLINE', `not done within ${budgetMs} ms, all attempts included`),
          ),
        ),
      )
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Milliseconds that are left. */
  get remaining(): number {
    return this.#endsAt - this.#clock.now()
  }

  end(): void {
    for (const undo of this.#undo) undo()
  }
}
