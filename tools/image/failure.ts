/** What people see of an error: a sentence for what they can do something about, a stack for a mistake in the program. */
import { explain, NydusError } from '../../lib/base/errors.js'

export function failureText(error: unknown): string {
  if (error instanceof NydusError) return explain(error)
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
