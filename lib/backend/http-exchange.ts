import type { Dispatcher } from 'undici'
import type { Clock } from '../base/clock.js'
import { type Headers, HttpFailure, shown, transportFailure } from './http-failure.js'
import type { RangeTarget } from './http-range.js'

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  /** The body's first bytes, unless they went into the range. */
  readonly text: string
}

export interface ExchangeOptions {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Milliseconds from the request to the last byte; 0: only silence is limited. */
  readonly timeoutMs: number
  /** Takes the body of a 200 or 206. */
  readonly target?: RangeTarget
  /** Bytes of body kept as text; 4096 unless told. */
  readonly textLimit?: number
  /** Called when the head is there and the body is not. */
  readonly onHead?: (status: number) => void
}

/** Silence that ends an exchange without a timeout: "0 = none" must not mean a guest that hangs forever. */
export const SILENCE_MS = 300_000

/** Bytes of an unwanted body that are read so that the connection can be used again; beyond, it is cut. */
const DRAINED = 64 << 10

const ENOUGH = new Error('enough')

/**
 * One request and its answer over one dispatcher: no retries, no redirects. Rejects with HttpFailure; after it
 * has settled, nothing is written into the target.
 */
export function exchange(
  dispatcher: Dispatcher,
  request: HttpRequest,
  options: ExchangeOptions,
): Promise<Answer> {
  const what = `${request.method} ${shown(request.url)}`
  const { clock, signal, timeoutMs, target, textLimit = 4096 } = options
  return new Promise((resolve, reject) => {
    let controller: Dispatcher.DispatchController | undefined
    let settled = false
    let head: { status: number; headers: Headers } | undefined
    let wanted = false
    let drained = 0
    const kept: Uint8Array[] = []

    const settle = (end: () => void, cut?: Error) => {
      if (settled) return
      settled = true
      cancelTimer?.()
      signal.removeEventListener('abort', onAbort)
      end()
      if (cut !== undefined) controller?.abort(cut)
    }
    const succeed = (cut?: Error) => {
      const { status, headers } = head ?? { status: 0, headers: {} }
      settle(
        () => resolve({ status, headers, text: Buffer.concat(kept).toString('utf8', 0, textLimit) }),
        cut,
      )
    }
    const fail = (error: unknown) => {
      // What breaks behind the last wanted byte is nobody's loss.
      if (wanted && target?.done === true) return succeed(ENOUGH)
      const failure = transportFailure(what, error)
      settle(() => reject(failure), failure)
    }
    const finish = (cut?: Error) => {
      try {
        if (wanted) target?.end()
      } catch (error) {
        return fail(error)
      }
      succeed(cut)
    }
    const onAbort = () => fail(signal.reason)
    const cancelTimer =
      timeoutMs > 0
        ? clock.after(timeoutMs, () =>
            fail(new HttpFailure('BACKEND_TIMEOUT', `${what}: not finished within ${timeoutMs} ms`)),
          )
        : undefined
    if (signal.aborted) return onAbort()
    signal.addEventListener('abort', onAbort, { once: true })

    const silence = timeoutMs > 0 ? 0 : SILENCE_MS
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart(started) {
        controller = started
        if (settled) started.abort(ENOUGH)
      },
      onResponseStart(_, status, headers) {
        if (settled || status < 200) return
        head = { status, headers }
        wanted = target !== undefined && (status === 200 || status === 206)
        try {
          if (wanted) target?.begin(status, headers)
          options.onHead?.(status)
        } catch (error) {
          fail(error)
        }
      },
      onResponseData(_, chunk) {
        if (settled) return
        if (wanted) {
          if (target?.write(chunk) === true) finish(ENOUGH)
          return
        }
        if (drained < textLimit) kept.push(chunk)
        drained += chunk.byteLength
        if (drained > Math.max(DRAINED, textLimit)) succeed(ENOUGH)
      },
      onResponseEnd() {
        finish()
      },
      onResponseError(_, error) {
        fail(error)
      },
    }
    try {
      dispatcher.dispatch(
        {
          origin: request.url.origin,
          path: request.url.pathname + request.url.search,
          method: request.method,
          headers: { ...request.headers },
          body: request.body ?? null,
          headersTimeout: silence,
          bodyTimeout: silence,
        },
        handler,
      )
    } catch (error) {
      fail(error)
    }
  })
}
