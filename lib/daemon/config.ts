/**
 * Configuration: a text in, one validated and frozen `NydusConfig` out.
 *
 *     v1 JSON ─┐
 *     v2 JSON ─┼─ parse ─ decode (zod) ─ NydusConfig (v2 shape)
 *     v2 TOML ─┘
 *
 * One loader for the command line, the mount body and everything else that takes a configuration. Every mistake
 * is reported at once with its key's path, the value and what would be right; keys that nothing knows are named in
 * one warning. Messages never hold a secret.
 */
import { readFile, stat } from 'node:fs/promises'
import type { ZodType } from 'zod'
import { NydusError } from '../base/errors.js'
import type { BlobEntry } from './config/blob-entry.js'
import { DecodeError, decode, type Decoded } from './config/decode.js'
import { JsonError, parseJson } from './config/json.js'
import { configV1 } from './config/schema-v1.js'
import { configV2 } from './config/schema-v2.js'
import type { NydusConfig } from './config/types.js'
import { withoutEffect } from './config/without-effect.js'
import { reason } from './reason.js'

export type { NydusConfig } from './config/types.js'

/** The reference refuses larger files too; a configuration has a few hundred bytes. */
export const MAX_CONFIG_BYTES = 1 << 20

export interface ParseOptions {
  /** What the text is, for messages: `configuration /etc/nydusd.json`. */
  readonly where?: string
  /** IMAGE_PULL_AUTH: replaces `auth` of a registry backend. */
  readonly imagePullAuth?: string
}

export interface ParsedConfig {
  readonly config: NydusConfig
  /** Sentences for the log. */
  readonly warnings: readonly string[]
}

function invalid(where: string, problem: string, cause?: unknown): NydusError {
  return new NydusError('CONFIG_INVALID', 'EINVAL', `${where} ${problem}`, { cause })
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function json(text: string, where: string): unknown {
  try {
    return parseJson(text)
  } catch (error) {
    if (error instanceof JsonError) throw invalid(where, `is not JSON: ${error.message}`)
    throw error
  }
}

function decoded<T>(schema: ZodType<T>, input: unknown, where: string): Decoded<T> {
  try {
    return decode(schema, input)
  } catch (error) {
    if (error instanceof DecodeError) throw invalid(where, `is wrong: ${error.message}`)
    throw error
  }
}

async function parseText(text: string, where: string): Promise<{ input: unknown; toml: boolean }> {
  const start = text.replace(/^(?:\s|\uFEFF|\/\/[^\n]*|\/\*[^]*?\*\/)*/, '')
  if (start === '') throw invalid(where, 'is empty')
  if (start.startsWith('{')) return { input: json(text, where), toml: false }
  const toml = await import('smol-toml')
  try {
    return { input: toml.parse(text.replace(/^\uFEFF/, ''), { integersAsBigInt: 'asNeeded' }), toml: true }
  } catch (error) {
    // Its message goes on to quote the lines around the error, which may hold a secret.
    if (error instanceof toml.TomlError)
      throw invalid(where, `is neither JSON nor TOML: line ${error.line} column ${error.column} is not TOML`)
    throw error
  }
}

function freeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  for (const inner of Object.values(value)) freeze(inner)
  return Object.freeze(value)
}

/** Throws NydusError CONFIG_INVALID. */
export async function parseConfig(text: string, options: ParseOptions = {}): Promise<ParsedConfig> {
  const where = options.where ?? 'the configuration'
  if (Buffer.byteLength(text) > MAX_CONFIG_BYTES)
    throw invalid(where, `has more than ${MAX_CONFIG_BYTES} bytes; a configuration must be smaller`)
  const { input, toml } = await parseText(text, where)
  if (!isTable(input)) throw invalid(where, 'is not a table of keys')
  const isV2 = toml || 'version' in input || !('device' in input)
  if (isV2 && !('version' in input) && !('backend' in input))
    throw invalid(where, 'is of neither form: v1 has a key `device`, v2 has `version = 2` and `backend`')
  const { value, unknownKeys } = decoded<NydusConfig>(isV2 ? configV2 : configV1, input, where)
  const warnings = withoutEffect(where, unknownKeys, {
    [`${isV2 ? '' : 'device.'}external_backends`]: value.external_backends,
  })
  return { config: freeze(withPullAuth(value, options.imagePullAuth)), warnings }
}

function withPullAuth(config: NydusConfig, auth: string | undefined): NydusConfig {
  const { backend } = config
  if (auth === undefined || auth === '' || backend.type !== 'registry') return config
  return { ...config, backend: { ...backend, registry: { ...backend.registry, auth } } }
}

async function readText(path: string, where: string): Promise<string> {
  try {
    const info = await stat(path)
    if (info.isDirectory()) throw new Error('it is a folder')
    if (info.size > MAX_CONFIG_BYTES)
      throw new Error(`it has ${info.size} bytes, more than the ${MAX_CONFIG_BYTES} allowed`)
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new NydusError('CONFIG_UNREADABLE', 'EINVAL', `${where} cannot be read: ${reason(error)}`)
  }
}

/** Reads and parses a configuration file. Throws NydusError CONFIG_UNREADABLE or CONFIG_INVALID. */
export async function loadConfig(path: string, options: ParseOptions = {}): Promise<ParsedConfig> {
  const where = `configuration ${path}`
  return parseConfig(await readText(path, where), { where, ...options })
}

/** The same for a file that holds a blob cache entry, which is JSON. */
export async function loadBlobEntry(
  path: string,
): Promise<{ readonly entry: BlobEntry; readonly warnings: readonly string[] }> {
  const { blobEntry } = await import('./config/blob-entry.js')
  const where = `blob cache entry ${path}`
  const input = json(await readText(path, where), where)
  const { value: entry, unknownKeys } = decoded(blobEntry, input, where)
  const { external_backends } = entry.config
  return { entry, warnings: withoutEffect(where, unknownKeys, { external_backends }) }
}
