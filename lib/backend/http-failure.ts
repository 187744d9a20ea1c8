/**
 * What can go wrong between this process and an HTTP server, and what follows from it.
 */
import { NydusError } from '../base/errors.js'

interface Verdict {
  /** The same request may well succeed a moment later. */
  readonly retry: boolean
  /** Counts as "the backend is not there" for the circuit, and against the health of a proxy or mirror. */
  readonly down: boolean
}

const VERDICTS = {
  BACKEND_REFUSED: { retry: true, down: true },
  BACKEND_RESET: { retry: true, down: true },
  BACKEND_TIMEOUT: { retry: true, down: true },
  /** Also "no such host": a cluster's resolver says so while it restarts. */
  BACKEND_DNS: { retry: true, down: true },
  /** 5xx, 408, 425. */
  BACKEND_UNAVAILABLE: { retry: true, down: true },
  /** 429: the server is there and wants less. */
  BACKEND_THROTTLED: { retry: true, down: false },
  BACKEND_SHORT_BODY: { retry: true, down: true },
  /** Not HTTP, a range that nobody asked for, a body that contradicts its headers. */
  BACKEND_BAD_ANSWER: { retry: true, down: false },
  BACKEND_TLS: { retry: false, down: false },
  BACKEND_UNAUTHORIZED: { retry: false, down: false },
  BACKEND_DENIED: { retry: false, down: false },
  BACKEND_NOT_FOUND: { retry: false, down: false },
  /** Any other 4xx. */
  BACKEND_REJECTED: { retry: false, down: false },
  BACKEND_REDIRECT: { retry: false, down: false },
  /** The blob ends before the range does. */
  BACKEND_TOO_SHORT: { retry: false, down: false },
  BACKEND_RANGE_IGNORED: { retry: false, down: false },
  /** The circuit is open. */
  BACKEND_DOWN: { retry: false, down: false },
  /** The time that a read may take in all is used up. */
  BACKEND_DEADLINE: { retry: false, down: true },
  BACKEND_OVERLOADED: { retry: false, down: false },
  BACKEND_ABORTED: { retry: false, down: false },
  BACKEND_CLOSED: { retry: false, down: false },
} as const satisfies Record<string, Verdict>

export type FailureCode = keyof typeof VERDICTS

export class HttpFailure extends NydusError {
  declare readonly code: FailureCode
  /** Of the answer, when there was one. */
  readonly status: number | undefined
  /** Milliseconds that the server asked to be left alone. */
  readonly retryAfterMs: number | undefined

  constructor(
    code: FailureCode,
    message: string,
    options: ErrorOptions & { status?: number; retryAfterMs?: number | undefined } = {},
  ) {
    super(code, 'EIO', message, options)
    this.status = options.status
    this.retryAfterMs = options.retryAfterMs
  }

  get retry(): boolean {
    return VERDICTS[this.code].retry
  }

  get down(): boolean {
    return VERDICTS[this.code].down
  }
}

/** A URL as messages may show it: a signed query is a credential, and so is a user name with a password. */
export function shown(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`
}

/** Bytes of a refusal's body that go into the message: enough for the code of an S3, OSS or registry error. */
const QUOTED = 300

/** The failure that an unwelcome status means. `now` is the wall clock, for a Retry-After that is a date. */
export function statusFailure(
  what: string,
  answer: { readonly status: number; readonly headers: Headers; readonly text: string },
  now: number,
): HttpFailure {
  const { status } = answer
  const text = answer.text.replaceAll(/[^\x20-\x7e]+/g, ' ').trim()
  const quote = text === '' ? '' : `: ${text.slice(0, QUOTED)}`
  return new HttpFailure(
    codeOf(status),
    `${what} was answered with status ${status}${hint(status)}${quote}`,
    {
      status,
      retryAfterMs:
        status === 429 || status === 503 ? retryAfter(answer.headers['retry-after'], now) : undefined,
    },
  )
}

function codeOf(status: number): FailureCode {
  if (status === 401) return 'BACKEND_UNAUTHORIZED'
  if (status === 403) return 'BACKEND_DENIED'
  if (status === 404 || status === 410) return 'BACKEND_NOT_FOUND'
  if (status === 416) return 'BACKEND_TOO_SHORT'
  if (status === 429) return 'BACKEND_THROTTLED'
  if (status === 408 || status === 425) return 'BACKEND_UNAVAILABLE'
  if (status === 501 || status === 505) return 'BACKEND_REJECTED'
  if (status >= 500 && status < 600) return 'BACKEND_UNAVAILABLE'
  if (status >= 300 && status < 400) return 'BACKEND_REDIRECT'
  if (status >= 400 && status < 500) return 'BACKEND_REJECTED'
  return 'BACKEND_BAD_ANSWER'
}

function hint(status: number): string {
  if (status === 401) return ' (check the credentials in the backend configuration)'
  if (status === 403) return ' (the credentials do not allow it)'
  if (status === 404) return ' (no such blob there)'
  if (status === 416) return ' (the blob is shorter than the image says)'
  return ''
}

/** Header names in lower case, as undici gives them. */
export type Headers = Readonly<Record<string, string | string[] | undefined>>

/** The first value of a header. */
export function header(headers: Headers, name: string): string | undefined {
  const value = headers[name]
  return typeof value === 'string' ? value : value?.[0]
}

/** Retry-After (RFC 9110 §10.2.3) in milliseconds: seconds, or a date. */
function retryAfter(value: string | string[] | undefined, now: number): number | undefined {
  const text = typeof value === 'string' ? value.trim() : value?.[0]?.trim()
  if (text === undefined) return undefined
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000
  const date = Date.parse(text)
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}

const REFUSED = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'ENETDOWN', 'ENOENT'])
const RESET = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED', 'UND_ERR_SOCKET', 'UND_ERR_INFO'])
const TIMEOUT = new Set([
  'ETIMEDOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
])
const DNS = new Set(['ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL', 'EAI_NODATA', 'EAI_NONAME'])
/** Certificate verification results carry OpenSSL's own names, without a common prefix. */
const TLS =
  /^(ERR_TLS_|ERR_SSL_|EPROTO$|CERT_|UND_ERR_PRX_TLS$|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_|HOSTNAME_MISMATCH$|INVALID_CA$|INVALID_PURPOSE$|PATH_LENGTH_EXCEEDED$|CRL_)/

/** Turns what undici or the socket threw into a failure; `what` begins the sentence. */
export function transportFailure(what: string, error: unknown): HttpFailure {
  if (error instanceof HttpFailure) return error
  const code = errorCode(error)
  const text = error instanceof Error ? error.message : String(error)
  const because = { cause: error }
  if (REFUSED.has(code))
    return new HttpFailure('BACKEND_REFUSED', `${what}: nobody answers (${code})`, because)
  if (TLS.test(code)) {
    const cure = /^(ERR_|EPROTO)/.test(code)
      ? ''
      : '; name the CA in ca_cert_files, or set skip_verify if that is really meant'
    return new HttpFailure('BACKEND_TLS', `${what}: TLS failed: ${text}${cure}`, because)
  }
  if (DNS.has(code))
    return new HttpFailure('BACKEND_DNS', `${what}: the host name does not resolve (${code})`, because)
  if (TIMEOUT.has(code))
    return new HttpFailure('BACKEND_TIMEOUT', `${what}: no answer in time (${code})`, because)
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH')
    return new HttpFailure('BACKEND_SHORT_BODY', `${what}: the body ended early`, because)
  if (RESET.has(code))
    return new HttpFailure('BACKEND_RESET', `${what}: the connection broke (${text})`, because)
  const tunnel = /Proxy response \((\d+)\)/.exec(text)
  if (tunnel !== null || text.includes('Proxy Authentication Required'))
    return new HttpFailure('BACKEND_UNAVAILABLE', `${what}: the proxy refused: ${text}`, {
      ...because,
      status: Number(tunnel?.[1] ?? 407),
    })
  return new HttpFailure('BACKEND_BAD_ANSWER', `${what}: ${text}`, because)
}

function errorCode(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return errorCode(error.errors[0])
  if (typeof error !== 'object' || error === null) return ''
  if ('code' in error && typeof error.code === 'string') return error.code
  return 'cause' in error ? errorCode(error.cause) : ''
}
