/** Request bodies: bounded, complete, JSON, of the declared shape. */
import type { IncomingMessage } from 'node:http'
import type { z } from 'zod'
import { ApiFailure, badBody, badRequest } from './failure.js'

/** A mount command with a large prefetch list has megabytes; nothing has more. */
export const MAX_BODY_BYTES = 16 << 20

function tooBig(): ApiFailure {
  return new ApiFailure(
    413,
    `Request payload is larger than the limit of ${MAX_BODY_BYTES} allowed by server.`,
  )
}

/** The whole body, whether its length was announced or it came in chunks. */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY_BYTES) throw tooBig()
  const parts: Buffer[] = []
  let length = 0
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length
    if (length > MAX_BODY_BYTES) throw tooBig()
    parts.push(part)
  }
  return Buffer.concat(parts)
}

/** The place behind the last character: where a missing field is reported. */
function endOf(text: string): [line: number, column: number] {
  const lines = text.split('\n')
  return [lines.length, lines.at(-1)?.length ?? 0]
}

/** Parses and checks. Unknown keys are ignored. Throws ApiFailure. */
export async function decodeBody<T>(schema: z.ZodType<T>, body: Buffer): Promise<T> {
  if (body.length === 0) throw badRequest('this request needs a body')
  const { parseJson, JsonError } = await import('../config/json.js')
  const { issueText } = await import('../config/issues.js')
  const text = body.toString('utf8')
  let input: unknown
  try {
    input = parseJson(text)
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    throw badBody(error.message.replace(/ at line \d+ column \d+$/, ''), error.line, error.column)
  }
  const result = schema.safeParse(input)
  if (result.success) return result.data
  const [line, column] = endOf(text)
  const missing = result.error.issues.find(issue => issue.path.length === 1 && !has(input, issue.path[0]))
  if (missing) throw badBody(`missing field \`${String(missing.path[0])}\``, line, column)
  throw badBody(result.error.issues.map(issue => issueText(issue, input)).join('; '), line, column)
}

function has(value: unknown, key: PropertyKey | undefined): boolean {
  return typeof value === 'object' && value !== null && key !== undefined && Object.hasOwn(value, key)
}
