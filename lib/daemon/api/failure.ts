/**
 * From an error to a status and the text that clients of Nydus grep for (http-api.md 2 and 3), followed by a
 * sentence for people where the text leaves room for one.
 */
import { explain, NydusError, type Code } from '../../base/errors.js'

/** An answer other than success. */
export class ApiFailure extends Error {
  override readonly name = 'ApiFailure'
  readonly status: number

  constructor(status: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.status = status
  }
}

export const NO_ROUTE = new ApiFailure(404, 'NoRoute')

export function badRequest(detail: string): ApiFailure {
  return new ApiFailure(400, `BadRequest: ${detail}`)
}

export function missingQuery(name: string): ApiFailure {
  return new ApiFailure(400, `QueryString("'${name}' should be specified in query string")`)
}

/** `line` and `column` start at 1. */
export function badBody(problem: string, line: number, column: number): ApiFailure {
  return new ApiFailure(400, `ParseBody(Error("${problem}", line: ${line}, column: ${column}))`)
}

interface Form {
  readonly status: number
  /** The cause as the reference words it. */
  readonly text: (error: NydusError) => string
}

const fixed = (status: number, text: string): Form => ({ status, text: () => text })
const worded = (status: number, text: string): Form => ({
  status,
  text: error => `${text}: ${explain(error)}`,
})

const FORMS: { readonly [C in Code]?: Form } = {
  VFS_MOUNTED: fixed(500, 'MountFilesystem(Other("object or filesystem already exists"))'),
  VFS_NOT_MOUNTED: fixed(500, `Metrics(Daemon(Other("object or filesystem doesn't exist")))`),
  MOUNT_BAD_TYPE: { status: 500, text: error => error.message },
  VFS_PATH_INVALID: worded(500, 'VFS failed, PathWalk'),
  MOUNT_TYPE_MISMATCH: worded(500, 'filesystem type mismatch, expect RAFS'),
  START_PREFETCH_FILES: worded(500, 'invalid prefetch file list'),
  CONFIG_INVALID: worded(500, 'Failed to load config: failed to parse configuration information'),
  RAFS_NOT_FOUND: worded(
    500,
    'RAFS failed to handle request, Failed to fill superBlock: No such file or directory (os error 2)',
  ),
  STATE_UNEXPECTED: { status: 400, text: error => `UnexpectedEvent("${error.message.split(' ')[0] ?? ''}")` },
  METRICS_UNSUPPORTED: fixed(500, 'Metrics(Daemon(Unsupported))'),
  METRICS_NO_COUNTER: fixed(404, 'Metrics(Stats(NoCounter))'),
  DAEMON_UNSUPPORTED: worded(501, 'DaemonAbnormal(Unsupported)'),
  DAEMON_NOT_READY: fixed(503, 'DaemonAbnormal(NotReady)'),
  SETTINGS_UNKNOWN: fixed(500, 'ResponsePayloadType'),
}

/** `operation` is the name that wraps the cause: `Mount(…)`. */
export function failureOf(error: unknown, operation: string): ApiFailure {
  if (error instanceof ApiFailure) return error
  const form = error instanceof NydusError ? FORMS[error.code] : undefined
  let text = explain(error)
  if (error instanceof NydusError) {
    if (form) text = form.text(error)
    else if (error.code.startsWith('RAFS_'))
      text = `RAFS failed to handle request, Failed to fill superBlock: ${text}`
  }
  return new ApiFailure(form?.status ?? 500, `${operation}(${text})`, { cause: error })
}
