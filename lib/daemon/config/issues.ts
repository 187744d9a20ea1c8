/**
 * Problems of a configuration as sentences: the key's path, what was found, what would be right. Values of
 * secrets never appear, whole tables neither (they may hold some).
 */
import type { z } from 'zod'
import { SECRET_KEYS } from '../secret-keys.js'

const PLAIN_KEY = /^[A-Za-z0-9_-]+$/

/** `device.backend.config.mirrors[0].host` */
export function pathText(path: readonly PropertyKey[]): string {
  let out = ''
  for (const key of path) {
    if (typeof key === 'number') out += `[${key}]`
    else if (typeof key === 'string' && PLAIN_KEY.test(key)) out += out === '' ? key : `.${key}`
    else out += `[${JSON.stringify(String(key).slice(0, 60))}]`
  }
  return out
}

/** `https://user:password@host` without what is before the @. */
export function withoutUserinfo(value: string): string {
  return value.replace(/([A-Za-z][A-Za-z0-9+.-]*:\/\/)[^/?#\s]*@/g, '$1***@')
}

function at(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input
  for (const key of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined
    value = (value as Record<PropertyKey, unknown>)[key]
  }
  return value
}

function shown(value: unknown, path: readonly PropertyKey[]): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a table'
  if (path.some(key => SECRET_KEYS.has(String(key)))) return `a ${typeof value} (not shown: it is a secret)`
  if (typeof value !== 'string') return `${value as number | boolean | bigint}`
  const clean = withoutUserinfo(value)
  return JSON.stringify(clean.length > 80 ? `${clean.slice(0, 80)}…` : clean)
}

const TYPES: Record<string, string> = {
  string: 'a text',
  boolean: 'true or false',
  int: 'a whole number',
  number: 'a whole number',
  array: 'a list',
  object: 'a table of keys',
  record: 'a table of texts',
}

type Issue = z.core.$ZodIssue

function wanted(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${TYPES[issue.expected] ?? issue.expected}`
    case 'invalid_value':
      return `expected ${issue.values.map(value => JSON.stringify(value)).join(' or ')}`
    case 'invalid_union':
      if ('options' in issue && issue.options)
        return `expected ${issue.options.map(value => JSON.stringify(value)).join(', ')}`
      return issue.message
    case 'too_small':
      return issue.origin === 'string'
        ? 'expected a text that is not empty'
        : `expected ${issue.minimum} or more`
    case 'too_big':
      return `expected ${issue.maximum} or less`
    default:
      return issue.message
  }
}

/** One problem as `path: what is wrong`; `input` is what was decoded. */
export function issueText(issue: Issue, input: unknown): string {
  const value = at(input, issue.path)
  const where = issue.path.length === 0 ? '' : `${pathText(issue.path)}: `
  const phrase = wanted(issue)
  if (value === undefined) return phrase.startsWith('missing') ? where + phrase : `${where}missing, ${phrase}`
  if (issue.code === 'custom' && typeof value === 'object') return where + phrase
  return `${where}${phrase}, got ${shown(value, issue.path)}`
}
