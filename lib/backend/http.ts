/**
 * Blobs over HTTP: what registry, oss, s3 and http-proxy have in common.
 *
 *     read ── retries, deadline ── circuit ── limiter ── routes: proxy | mirrors | origin ── visit ── exchange
 *              http-retry.ts     circuit.ts  limiter.ts     http-routes.ts, health.ts   http-visit.ts
 *
 * A store (registry.ts, oss.ts, …) is an ObjectSource: URLs and credentials. Everything here is told in blob ids
 * and byte ranges; it must not know chunks or images.
 */
import { setMaxListeners } from 'node:events'
import { checkBlobId } from '../base/blob-id.js'
import { type Clock, systemClock } from '../base/clock.js'
import type { Log } from '../base/log.js'
import type { Backend, BackendConfig, BlobReader, HttpOptions, Priority } from './backend.js'
import { Circuit, type Pass } from './circuit.js'
import { HttpBlob, type Task } from './http-blob.js'
import { type Answer, SILENCE_MS } from './http-exchange.js'
import { HttpFailure, transportFailure } from './http-failure.js'
import { commonHeaders } from './http-headers.js'
import { Pools } from './http-pools.js'
import { budget, Pacer, pauseBefore, retriesOf } from './http-retry.js'
import { Routes } from './http-routes.js'
import { Trust } from './http-trust.js'
import { type ObjectSource, visit, type VisitContext } from './http-visit.js'
import { Limiter } from './limiter.js'
import { newBackendMetrics } from './metrics.js'
import { Scope } from './scope.js'

/** What tests replace. */
export interface Seams {
  readonly clock: Clock
  /** In [0, 1). */
  readonly random: () => number
  readonly env: NodeJS.ProcessEnv
}

export const systemSeams: Seams = { clock: systemClock, random: Math.random, env: process.env }

export interface HttpBackendOptions {
  readonly type: BackendConfig['type']
  readonly source: ObjectSource
  readonly http: HttpOptions
  readonly log: Log
  readonly seams: Seams
  /** Requests to UNIX_ORIGIN go to this socket. */
  readonly socketPath?: string
  /** Health endpoint of a mirror that names none. */
  readonly mirrorPing?: string
  readonly reconfigure?: (settings: Readonly<Record<string, string>>) => void
}

/** Retry-After above this is not believed. */
const MAX_HOLD_MS = 60_000
/** A mirror that does not have a blob is not asked for it again so soon. */
const AVOID_MS = 60_000

interface Tries {
  made: number
  /** Why the last but one failed. */
  last: HttpFailure | undefined
}

export class HttpBackend implements Backend {
  readonly type: BackendConfig['type']
  readonly metrics = newBackendMetrics()
  readonly #options: HttpBackendOptions
  readonly #clock: Clock
  readonly #timeoutMs: number
  readonly #headers: Record<string, string>
  readonly #pools: Pools
  readonly #routes: Routes
  readonly #limiter = new Limiter()
  readonly #circuit: Circuit
  readonly #pacer: Pacer
  readonly #closing = new AbortController()
  readonly #visits: VisitContext
  readonly #counts = { requests: 0, retries: 0, detours: 0, given_up: 0 }

  /** Throws BACKEND_CONFIG, BACKEND_CA_INVALID. */
  constructor(options: HttpBackendOptions) {
    const { http, log, seams, socketPath, source, mirrorPing } = options
    this.type = options.type
    this.#options = options
    this.#clock = seams.clock
    this.#timeoutMs = http.timeout * 1000
    this.#headers = commonHeaders(seams.env, log)
    this.#pools = new Pools({
      trust: new Trust(http, seams.env),
      connectTimeoutMs: http.connect_timeout * 1000 || SILENCE_MS,
      ...(socketPath !== undefined && { socketPath }),
    })
    this.#routes = new Routes({
      pools: this.#pools,
      http,
      origin: source.url('0').origin,
      mirrorPing,
      log,
      clock: seams.clock,
    })
    this.#visits = {
      source,
      clock: seams.clock,
      timeoutMs: this.#timeoutMs,
      onRequest: () => void this.#counts.requests++,
    }
    // Every read in flight listens.
    setMaxListeners(0, this.#closing.signal)
    this.#circuit = new Circuit(seams.clock, seams.random)
    this.#pacer = new Pacer(seams.clock, seams.random)
  }

  open(blobId: string): BlobReader {
    return new HttpBlob(checkBlobId(blobId), this.metrics, task => this.#run(task))
  }

  get counters(): Readonly<Record<string, number>> {
    return {
      ...this.#counts,
      in_flight: this.#limiter.inFlight,
      waiting: this.#limiter.waiting,
      circuit_open: this.#circuit.isOpen ? 1 : 0,
    }
  }

  reconfigure(settings: Readonly<Record<string, string>>): void {
    const proxy = settings['proxy_url']
    if (proxy !== undefined) this.#routes.setProxy(proxy)
    this.#options.reconfigure?.(settings)
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#routes.close()
    await this.#pools.close()
  }

  /** Does `task` with all its retries; rejects with HttpFailure. */
  async #run(task: Task): Promise<Answer> {
    const priority = task.options?.priority ?? 'demand'
    const retries = retriesOf(priority, this.#options.http.retry_limit)
    const budgetMs = budget(retries, this.#routes.detours, this.#timeoutMs)
    const scope = new Scope(this.#clock, budgetMs, task.options?.signal, this.#closing.signal)
    const tries: Tries = { made: 0, last: undefined }
    let pass: Pass | undefined
    let leave: (() => void) | undefined
    try {
      pass = await this.#circuit.enter(scope.signal)
      leave = await this.#limiter.enter(priority, scope.signal)
      const answer = await this.#try(task, pass.probe ? 0 : retries, pass, scope, tries)
      pass.answered()
      this.#limiter.open()
      return answer
    } catch (error) {
      const failure = transportFailure('backend', error)
      if (pass !== undefined) this.#settle(pass, failure, priority, tries)
      throw this.#final(task, failure, tries)
    } finally {
      leave?.()
      scope.end()
    }
  }

  /** Until it works or there is no point in trying again. */
  async #try(task: Task, retries: number, pass: Pass, scope: Scope, tries: Tries): Promise<Answer> {
    for (let retry = 0; ; retry++) {
      if (!pass.probe) this.#circuit.check()
      if (this.#pacer.remaining >= scope.remaining)
        throw new HttpFailure(
          'BACKEND_THROTTLED',
          `the server wants no request for another ${Math.ceil(this.#pacer.remaining)} ms`,
        )
      await this.#pacer.pass(scope.signal)
      tries.made++
      try {
        return await this.#attempt(task, scope.signal)
      } catch (error) {
        const failure = transportFailure('backend', error)
        if (failure.retryAfterMs !== undefined) this.#pacer.hold(Math.min(failure.retryAfterMs, MAX_HOLD_MS))
        if (scope.signal.aborted || !failure.retry || retry === retries) throw failure
        if (this.#pacer.remaining >= scope.remaining) throw failure
        tries.last = failure
      }
      this.#counts.retries++
      this.#options.log.debug(
        { what: task.what, cause: tries.last.message },
        'backend request is tried again',
      )
      await this.#clock.sleep(pauseBefore(retry, this.#options.seams.random()), scope.signal)
    }
  }

  /** Over one route after the other; what the last one says counts. */
  async #attempt(task: Task, signal: AbortSignal): Promise<Answer> {
    const { blob, method, target } = task
    const routes = this.#routes.candidates(task.options?.fresh === true)
    for (const [i, route] of routes.entries()) {
      const last = i === routes.length - 1
      if (!last && blob.avoids(route, this.#clock.now())) continue
      try {
        const answer = await visit(this.#visits, route, {
          method,
          blobId: blob.blobId,
          headers: this.#headers,
          signal,
          ...(target !== undefined && { target, place: blob.place(route) }),
        })
        route.health?.succeeded()
        return answer
      } catch (error) {
        const failure = transportFailure(route.name, error)
        if (signal.aborted) throw failure
        if (failure.down || failure.code === 'BACKEND_TLS' || failure.code === 'BACKEND_BAD_ANSWER')
          route.health?.failed(failure.message)
        // A HEAD that is refused says nothing about GET: dfdaemon's rules, and so its use_http, are for GET alone.
        else if (method === 'GET') blob.avoid(route, this.#clock.now() + AVOID_MS)
        if (last) throw failure
        this.#counts.detours++
      }
    }
    throw new HttpFailure('BACKEND_BAD_ANSWER', 'no route')
  }

  /** Tells the circuit how a read ended. */
  #settle(pass: Pass, failure: HttpFailure, priority: Priority, tries: Tries): void {
    const { code } = failure
    const left = code === 'BACKEND_ABORTED' || code === 'BACKEND_CLOSED' || code === 'BACKEND_DOWN'
    if (left || tries.made === 0) return pass.dropped()
    if (!failure.down) return pass.answered()
    // Prefetch is tried too little to say that a backend is down, unless it was the probe.
    if (priority === 'prefetch' && !pass.probe) return pass.dropped()
    const wasOpen = this.#circuit.isOpen
    pass.gaveUp(failure)
    if (this.#circuit.isOpen && !wasOpen)
      this.#options.log.warn(
        { cause: failure.message },
        'backend is down: reads fail at once until it is back',
      )
  }

  /** What the caller gets: what was wanted, what came, and what came before. */
  #final(task: Task, failure: HttpFailure, tries: Tries): HttpFailure {
    const { code, status } = failure
    if (code !== 'BACKEND_ABORTED' && code !== 'BACKEND_CLOSED') this.#counts.given_up++
    const attempts = tries.made > 1 ? ` (attempt ${tries.made})` : ''
    const before =
      code === 'BACKEND_DEADLINE' && tries.last !== undefined ? `; before that: ${tries.last.message}` : ''
    return new HttpFailure(code, `${task.what}: ${failure.message}${attempts}${before}`, {
      cause: failure,
      ...(status !== undefined && { status }),
    })
  }
}
