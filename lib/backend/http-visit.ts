/**
 * One try to get at a blob over one route: credentials, redirects by hand, the remembered place.
 *
 *     route.begin(url) ── 401 ──> credentials, again ── 307 ──> blob store (without them) ── 206 ──> range
 */
import type { Clock } from '../base/clock.js'
import type { BlobPlace } from './blob-place.js'
import { type Answer, exchange, type HttpRequest } from './http-exchange.js'
import { header, HttpFailure, shown, statusFailure, transportFailure } from './http-failure.js'
import type { RangeTarget } from './http-range.js'
import type { Route } from './route.js'

/** How credentials are obtained for one route. */
export interface Way {
  /** Where requests of this route begin: tokens belong to it. */
  readonly begin: URL
  /** Where the origin would be asked: the only one whose challenge counts unless `ownAuth`. */
  readonly origin: URL
  readonly ownAuth: boolean
  /** The reader's: work that readers share only stops waiting on it. */
  readonly signal: AbortSignal
  /** Names what `send` goes over. */
  readonly via: string
  /** Asks for credentials: over the proxy on its route, straight on all others. Ends by the timeout alone. */
  readonly send: (request: HttpRequest, textLimit?: number) => Promise<Answer>
}

/** What knows the objects of one kind of store: their URLs and what authorises a request for them. */
export interface ObjectSource {
  url(blobId: string): URL
  /** Headers that authorise `request`, which goes to the place where its route begins. */
  sign?(request: HttpRequest, way: Way): Promise<Readonly<Record<string, string>>>
  /** `answer` (400, 401 or 403) came to `request`; true when a request signed anew may fare better. */
  refused?(request: HttpRequest, answer: Answer, way: Way): Promise<boolean>
  /** `request` was let in. */
  accepted?(request: HttpRequest): void
  /** Corrects the target of a redirect. */
  redirected?(url: URL): URL
  /** `url` of the origin failed before any answer: another URL to try at once. */
  instead?(url: URL, failure: HttpFailure): URL | undefined
  /** `url` of the origin was answered. */
  answered?(url: URL, status: number): void
}

export interface Errand {
  readonly method: 'GET' | 'HEAD'
  readonly blobId: string
  readonly target?: RangeTarget
  /** Absent for HEAD: stores sign URLs for one method. */
  readonly place?: BlobPlace
  readonly headers: Readonly<Record<string, string>>
  readonly signal: AbortSignal
}

export interface VisitContext {
  readonly source: ObjectSource
  readonly clock: Clock
  readonly timeoutMs: number
  /** Called for every request that is sent, those for credentials included. */
  readonly onRequest: () => void
}

const REDIRECTS = new Set([301, 302, 303, 307, 308])
/** 400: a store that does not know the form of a signature. */
const REFUSALS = new Set([400, 401, 403])
const MAX_HOPS = 5
/** One with what is remembered, one without it to learn the challenge, one with the answer to it. */
const MAX_ASKED = 3

/** Never sent to a host that a redirect leads to; the user may have put them into NYDUS_HEADER_*. */
const PRIVATE = new Set(['authorization', 'cookie', 'proxy-authorization'])

/** Rejects with HttpFailure for everything but a 200 or 206. */
export async function visit(context: VisitContext, route: Route, errand: Errand): Promise<Answer> {
  const { place, signal } = errand
  if (place === undefined) return walk(context, route, errand, undefined, () => {})
  for (let again = true; ; again = false) {
    const at = await place.find(signal)
    try {
      return await walk(context, route, errand, at.place ?? undefined, at.settle)
    } catch (error) {
      if (at.place instanceof URL && !signal.aborted) place.forget(at.place)
      const stale = error instanceof HttpFailure && error.status !== undefined && error.status < 500
      if (!(again && at.place instanceof URL && stale)) throw error
    } finally {
      at.settle(undefined)
    }
  }
}

/** From the beginning of the route, or from a remembered place, through redirects to an answer. */
async function walk(
  context: VisitContext,
  route: Route,
  errand: Errand,
  from: URL | undefined,
  found: (place: URL | null) => void,
): Promise<Answer> {
  const { source } = context
  let begin = route.begin(source.url(errand.blobId))
  let url = from ?? begin
  for (let hop = 0; hop <= MAX_HOPS; hop++) {
    const home = url.origin === begin.origin
    const onHead = (status: number) => {
      if (status === 200 || status === 206) found(url === begin ? null : url)
    }
    let answer: Answer
    try {
      answer = await ask(context, route, errand, url, home, onHead)
    } catch (error) {
      const failure = transportFailure(shown(url), error)
      const other = route.kind === 'origin' && url === begin ? source.instead?.(url, failure) : undefined
      if (other === undefined) throw failure
      url = begin = other
      continue
    }
    if (answer.status === 200 || answer.status === 206) return answer
    if (!REDIRECTS.has(answer.status))
      throw statusFailure(`${errand.method} ${shown(url)} over ${route.name}`, answer, context.clock.wall())
    url = follow(source, url, answer)
  }
  throw new HttpFailure('BACKEND_REDIRECT', `${shown(begin)}: more than ${MAX_HOPS} redirects`)
}

function follow(source: ObjectSource, url: URL, answer: Answer): URL {
  const location = header(answer.headers, 'location')
  const bad = (why: string) =>
    new HttpFailure('BACKEND_REDIRECT', `${shown(url)}: status ${answer.status} ${why}`, {
      status: answer.status,
    })
  if (location === undefined) throw bad('without a location')
  let target: URL
  try {
    target = new URL(location, url)
  } catch {
    throw bad('with a location that is not a URL')
  }
  if (target.protocol !== 'http:' && target.protocol !== 'https:') throw bad(`to ${target.protocol}`)
  return source.redirected?.(target) ?? target
}

/** One place of the way, as often as it takes to get the credentials right. `home`: they belong there. */
async function ask(
  context: VisitContext,
  route: Route,
  errand: Errand,
  url: URL,
  home: boolean,
  onHead: (status: number) => void,
): Promise<Answer> {
  const { source, clock, timeoutMs } = context
  const { method, target, signal } = errand
  const wire = route.wire(url)
  const way = wayOf(context, route, errand)
  for (let asked = 1; ; asked++) {
    const headers: Record<string, string> = {}
    for (const [name, value] of Object.entries(errand.headers))
      if (home || !PRIVATE.has(name)) headers[name] = value
    if (home || route.kind === 'proxy') Object.assign(headers, route.headers)
    if (target !== undefined) headers['range'] = target.range
    let request: HttpRequest = { method, url: wire, headers }
    if (home && source.sign !== undefined)
      request = { ...request, headers: { ...headers, ...(await source.sign({ ...request, url }, way)) } }
    context.onRequest()
    const answer = await exchange(route.dispatcher(wire), request, {
      clock,
      signal,
      timeoutMs,
      onHead,
      ...(target !== undefined && { target }),
    })
    if (home && route.kind === 'origin') source.answered?.(url, answer.status)
    if (!home) return answer
    if (answer.status < 400 || answer.status === 404) source.accepted?.(request)
    if (!REFUSALS.has(answer.status)) return answer
    if (asked === MAX_ASKED || (await source.refused?.(request, answer, way)) !== true) return answer
  }
}

const NEVER = new AbortController().signal

function wayOf(context: VisitContext, route: Route, errand: Errand): Way {
  const { clock, timeoutMs, source } = context
  const origin = source.url(errand.blobId)
  return {
    begin: route.begin(origin),
    origin,
    ownAuth: route.ownAuth,
    signal: errand.signal,
    via: route.kind === 'proxy' ? route.name : 'direct',
    send: (request, textLimit) => {
      context.onRequest()
      return exchange(route.plain(request.url), request, {
        clock,
        signal: NEVER,
        timeoutMs,
        ...(textLimit !== undefined && { textLimit }),
      })
    },
  }
}
