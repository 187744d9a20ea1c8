/**
 * Token requests and answers (distribution specification, "Token Authentication" and "OAuth2 Token
 * Authentication").
 */
import type { HttpRequest } from './http-exchange.js'
import { HttpFailure } from './http-failure.js'

export type TokenMethod = 'POST' | 'GET'

/** As Nydus calls itself, so that a registry's rules and logs for it apply. */
const CLIENT_ID = 'nydus-registry-client'

/** Life of a token whose answer does not tell (nydusd.md 2.5, rule 3). */
const DEFAULT_LIFE_MS = 600_000
const MAX_LIFE_MS = 24 * 3600_000

interface TokenAsk {
  readonly url: URL
  readonly service: string | undefined
  readonly scope: string
  /** base64 of `user:password`. */
  readonly auth: string | null
}

export function tokenRequest(method: TokenMethod, ask: TokenAsk): HttpRequest {
  const { auth } = ask
  const fields = new URLSearchParams()
  if (ask.service !== undefined) fields.set('service', ask.service)
  fields.set('scope', ask.scope)
  fields.set('client_id', CLIENT_ID)
  const headers: Record<string, string> = { accept: 'application/json' }
  if (auth !== null && auth !== '') headers['authorization'] = `Basic ${auth}`
  if (method === 'GET') {
    const url = new URL(ask.url)
    for (const [name, value] of fields) url.searchParams.set(name, value)
    return { method, url, headers }
  }
  // The password goes into the body, never into a URL that proxies and servers write to their logs.
  const [user, password] = userAndPassword(auth)
  if (user !== undefined && password !== undefined) {
    fields.set('grant_type', 'password')
    fields.set('username', user)
    fields.set('password', password)
  }
  headers['content-type'] = 'application/x-www-form-urlencoded'
  return { method, url: ask.url, headers, body: fields.toString() }
}

function userAndPassword(auth: string | null): [user?: string, password?: string] {
  if (auth === null || auth === '') return []
  const text = Buffer.from(auth, 'base64').toString()
  const colon = text.indexOf(':')
  return colon < 0 ? [] : [text.slice(0, colon), text.slice(colon + 1)]
}

export function parseToken(
  text: string,
  from: string,
): { readonly value: string; readonly expiresInMs: number } {
  const bad = (why: string) =>
    new HttpFailure('BACKEND_UNAUTHORIZED', `the token server ${from} answered 200, but ${why}`)
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw bad('not with JSON')
  }
  if (typeof json !== 'object' || json === null) throw bad('not with a JSON object')
  const fields = new Map<string, unknown>(Object.entries(json))
  const value = fields.get('token') ?? fields.get('access_token')
  // The token becomes a header: nothing but the characters that a bearer token may have (RFC 6750 §2.1), roughly.
  if (typeof value !== 'string' || !/^[\x21-\x7e]+$/.test(value)) throw bad('without a token')
  const seconds = fields.get('expires_in')
  const life = typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : DEFAULT_LIFE_MS
  return { value, expiresInMs: Math.min(life, MAX_LIFE_MS) }
}
