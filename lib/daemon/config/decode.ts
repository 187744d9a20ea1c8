/** Decodes a value by a strict zod declaration: unknown keys are set aside and named, all else must be right. */
import type { z } from 'zod'
import { issueText, pathText } from './issues.js'

/**
 * Keys that configurations of earlier releases carry and that mean nothing here: they are skipped in silence.
 * By the name of the key alone: none of them means something else elsewhere.
 */
const LEGACY_KEYS: ReadonlySet<string> = new Set([
  'validation_only',
  'warmup',
  'id_mapping',
  'external_backend',
  'readahead',
  'readahead_sec',
  'force_upload',
  'scan',
  'mirrors_config',
  'disable_passthrough',
  'retry_interval',
])

/** The same by full path, where the name alone is used elsewhere. */
const LEGACY_PATHS: ReadonlySet<string> = new Set([
  'id',
  'batch_size',
  'device.backend.config.proxy.timeout',
  'device.backend.config.proxy.auth_through',
  'device.cache.prefetch',
])

export interface Decoded<T> {
  readonly value: T
  /** Paths of keys that nothing knows. */
  readonly unknownKeys: readonly string[]
}

/** `problems` lists every mistake, each as `path: what is wrong`. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError'
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems.join('; '))
    this.problems = problems
  }
}

type Table = Record<PropertyKey, unknown>

function tableAt(root: unknown, path: readonly PropertyKey[]): Table {
  let value = root
  for (const key of path) value = (value as Table)[key]
  return value as Table
}

/** Throws DecodeError. `input` is not changed. */
export function decode<T>(schema: z.ZodType<T>, input: unknown): Decoded<T> {
  const rest = structuredClone(input)
  const unknownKeys: string[] = []
  for (;;) {
    const result = schema.safeParse(rest)
    if (result.success) return { value: result.data, unknownKeys }
    const unrecognized = result.error.issues.filter(issue => issue.code === 'unrecognized_keys')
    if (unrecognized.length === 0)
      throw new DecodeError(result.error.issues.map(issue => issueText(issue, rest)))
    for (const { path, keys } of unrecognized)
      for (const key of keys) {
        delete tableAt(rest, path)[key]
        const full = pathText([...path, key])
        if (!LEGACY_KEYS.has(key) && !LEGACY_PATHS.has(full)) unknownKeys.push(full)
      }
  }
}
