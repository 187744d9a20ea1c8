/**
 * Credentials for OCI registries: what a 401 asks for, and tokens that are renewed before they end.
 *
 *     no credentials ── 401 Bearer ──> token server (POST, else GET) ──> token, kept per place and scope
 *                    ── 401 Basic  ──> user and password
 *
 * One token is fetched at a time per place, scope and way, however many requests want it. It knows registries and
 * token servers, not blobs: pulls and pushes use it alike.
 */
import { untilAborted } from '../base/abort.js'
import type { Clock } from '../base/clock.js'
import type { Answer, HttpRequest } from './http-exchange.js'
import { HttpFailure, shown, statusFailure } from './http-failure.js'
import { type Challenge, parseChallenges } from './registry-challenge.js'
import { parseToken, tokenRequest, type TokenMethod } from './registry-token.js'

export interface RegistryCredentials {
  /** base64 of `user:password`. */
  readonly auth: string | null
  /** A bearer token that somebody else obtained; used until it is refused. */
  readonly registryToken: string | null
}

/** How token servers are reached by the one who asks. */
export interface TokenWay {
  /** What fails on one way may work on another: failures are remembered by this name, tokens serve all ways. */
  readonly via: string
  /** Ends by itself. */
  readonly send: (request: HttpRequest, textLimit?: number) => Promise<Answer>
  /** The asker's: work that askers share only stops waiting on it. */
  readonly signal: AbortSignal
}

/** A token is renewed this long before its end, plus a random share of its life: daemons of a cluster spread. */
const RENEW_MS = 20_000
const MAX_SPREAD_MS = 300_000
const FIRST_REST_MS = 5000
const MAX_REST_MS = 600_000
/** A fresh token that was never accepted, and a refusal of the token server, are not asked for again so soon. */
const DENIED_MS = 5000
const TOKEN_TEXT = 256 << 10

interface Token {
  readonly value: string
  readonly fetchedAt: number
  readonly renewAt: number
  readonly endsAt: number
  accepted: boolean
}

interface Entry {
  challenge: Challenge | undefined
  token: Token | undefined
  readonly ways: Map<string, WayState>
  /** After a failed renewal in advance: not again before, and how long to wait after the next failure. */
  restUntil: number
  restMs: number
}

interface WayState {
  fetching: Promise<void> | undefined
  denial: { readonly until: number; readonly error: unknown } | undefined
}

export class RegistryAuth {
  readonly #clock: Clock
  readonly #random: () => number
  #credentials: RegistryCredentials
  #entries = new Map<string, Entry>()
  /** Per token server: the form of request that it understood. */
  readonly #methods = new Map<string, TokenMethod>()
  /** Tokens fetched since start. */
  fetches = 0

  constructor(clock: Clock, random: () => number, credentials: RegistryCredentials) {
    this.#clock = clock
    this.#random = random
    this.#credentials = credentials
  }

  /** Takes other credentials and forgets what the old ones brought. */
  setCredentials(credentials: RegistryCredentials): void {
    this.#credentials = credentials
    this.#entries = new Map()
  }

  /** The Authorization header for a request to `place` (an origin), when one is known to be wanted. */
  async authorization(place: string, scope: string, way: TokenWay): Promise<string | undefined> {
    const entry = this.#entry(place, scope)
    const { challenge } = entry
    if (challenge === undefined) {
      const given = this.#credentials.registryToken
      return given === null || given === '' ? undefined : `Bearer ${given}`
    }
    if (challenge.scheme === 'basic') return this.#basic()
    const now = this.#clock.now()
    if (entry.token === undefined || now >= entry.token.endsAt) {
      await untilAborted(this.#fetch(entry, challenge, scope, way), way.signal)
    } else if (
      now >= entry.token.renewAt &&
      now >= entry.restUntil &&
      stateOf(entry, way).fetching === undefined
    ) {
      // The old token serves until the new one is there.
      this.#fetch(entry, challenge, scope, way).catch(() => {
        entry.restMs = Math.min(MAX_REST_MS, entry.restMs === 0 ? FIRST_REST_MS : entry.restMs * 2)
        entry.restUntil = this.#clock.now() + entry.restMs
      })
    }
    return entry.token === undefined ? undefined : `Bearer ${entry.token.value}`
  }

  /**
   * Learns from a 401 to a request that carried `sent`. True: ask again with what `authorization` gives then.
   * False: the registry's word is final. Rejects when the token server refuses or does not answer.
   */
  async challenged(
    place: string,
    scope: string,
    wwwAuthenticate: string | string[] | undefined,
    sent: string | undefined,
    way: TokenWay,
  ): Promise<boolean> {
    const entry = this.#entry(place, scope)
    const current = entry.token === undefined ? undefined : `Bearer ${entry.token.value}`
    if (sent !== undefined && current !== undefined && sent !== current) return true
    const offered = parseChallenges(wwwAuthenticate)
    const challenge = this.#choose(offered)
    if (challenge === undefined) {
      // Some registries answer a bad token with a bare 401: without it they tell what they want.
      if (sent === undefined || offered.length > 0 || entry.challenge?.scheme === 'basic') return false
      this.#forget(entry)
      this.#dropGiven(sent)
      return true
    }
    this.#dropGiven(sent)
    entry.challenge = challenge
    if (challenge.scheme === 'basic') return sent !== this.#basic()
    if (entry.token !== undefined && sent === current) {
      const { accepted, fetchedAt } = entry.token
      if (!accepted && this.#clock.now() - fetchedAt < DENIED_MS) return false
      entry.token = undefined
    }
    await untilAborted(this.#fetch(entry, challenge, scope, way), way.signal)
    return true
  }

  /** A request with `sent` was let in. */
  accepted(sent: string | undefined): void {
    if (sent === undefined) return
    for (const { token } of this.#entries.values())
      if (token !== undefined && sent === `Bearer ${token.value}`) token.accepted = true
  }

  #entry(place: string, scope: string): Entry {
    const key = `${place} ${scope}`
    let entry = this.#entries.get(key)
    if (entry === undefined) {
      entry = { challenge: undefined, token: undefined, ways: new Map(), restUntil: 0, restMs: 0 }
      this.#entries.set(key, entry)
    }
    return entry
  }

  #forget(entry: Entry): void {
    entry.challenge = undefined
    entry.token = undefined
  }

  /** A token from the configuration that was refused is of no use any more. */
  #dropGiven(sent: string | undefined): void {
    const given = this.#credentials.registryToken
    if (given !== null && sent === `Bearer ${given}`)
      this.#credentials = { ...this.#credentials, registryToken: null }
  }

  #basic(): string | undefined {
    const { auth } = this.#credentials
    return auth === null || auth === '' ? undefined : `Basic ${auth}`
  }

  #choose(offered: readonly Challenge[]): Challenge | undefined {
    const bearer = offered.find(one => one.scheme === 'bearer' && one.params['realm'] !== undefined)
    if (bearer !== undefined) return bearer
    return this.#basic() === undefined ? undefined : offered.find(one => one.scheme === 'basic')
  }

  #fetch(entry: Entry, challenge: Challenge, scope: string, way: TokenWay): Promise<void> {
    const state = stateOf(entry, way)
    const { denial } = state
    if (denial !== undefined && this.#clock.now() < denial.until) return Promise.reject(denial.error)
    state.fetching ??= this.#ask(entry, challenge, scope, way).finally(() => {
      state.fetching = undefined
    })
    return state.fetching
  }

  async #ask(entry: Entry, challenge: Challenge, scope: string, way: TokenWay): Promise<void> {
    const askedAt = this.#clock.now()
    this.fetches++
    try {
      const { value, expiresInMs } = await this.#request(challenge, scope, way)
      const spread = this.#random() * Math.min(MAX_SPREAD_MS, expiresInMs / 10)
      const early = Math.min(expiresInMs / 2, RENEW_MS + spread)
      entry.token = {
        value,
        fetchedAt: this.#clock.now(),
        renewAt: askedAt + expiresInMs - early,
        endsAt: askedAt + expiresInMs,
        accepted: false,
      }
      stateOf(entry, way).denial = undefined
      entry.restMs = 0
    } catch (error) {
      if (error instanceof HttpFailure && !error.retry)
        stateOf(entry, way).denial = { until: this.#clock.now() + DENIED_MS, error }
      throw error
    }
  }

  async #request(
    challenge: Challenge,
    scope: string,
    way: TokenWay,
  ): Promise<{ readonly value: string; readonly expiresInMs: number }> {
    const realm = challenge.params['realm'] ?? ''
    let url: URL
    try {
      url = new URL(realm)
    } catch (cause) {
      throw new HttpFailure(
        'BACKEND_UNAUTHORIZED',
        `the registry names ${JSON.stringify(realm.slice(0, 200))} as its token server, which is not a URL`,
        { cause },
      )
    }
    const ask = {
      url,
      service: challenge.params['service'],
      scope: challenge.params['scope'] ?? scope,
      auth: this.#credentials.auth,
    }
    const known = this.#methods.get(url.host)
    for (const method of known === undefined ? (['POST', 'GET'] as const) : [known]) {
      const answer = await way.send(tokenRequest(method, ask), TOKEN_TEXT)
      if (answer.status === 200) {
        const token = parseToken(answer.text, shown(url))
        this.#methods.set(url.host, method)
        return token
      }
      // A server that does not know the form of a POST says so in many ways, but never by throttling or failing.
      const other = method === 'POST' && known === undefined && answer.status < 500 && answer.status !== 429
      if (known !== undefined) this.#methods.delete(url.host)
      if (!other) throw statusFailure(`token request to ${shown(url)}`, answer, this.#clock.wall())
    }
    throw new HttpFailure('BACKEND_UNAUTHORIZED', `${shown(url)} gave no token`)
  }
}

function stateOf(entry: Entry, way: TokenWay): WayState {
  let state = entry.ways.get(way.via)
  if (state === undefined) {
    state = { fetching: undefined, denial: undefined }
    entry.ways.set(way.via, state)
  }
  return state
}
