/**
 * WWW-Authenticate (RFC 9110 §11.6.1): one or more challenges, each a scheme with parameters, all separated by
 * commas that also separate the parameters.
 */
export interface Challenge {
  /** Lower case. */
  readonly scheme: string
  /** Names in lower case. */
  readonly params: Readonly<Record<string, string>>
}

/** Enough for any registry; a longer header is cut, not trusted. */
const MAX_LENGTH = 8192

const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y
const QUOTED = /"((?:[^"\\]|\\.)*)"/y
/** What may stand for a value in quotes, where servers forget them: `realm=https://host/token`. */
const BARE = /[^\s,"]+/y
const BLANK = /[\s,]*/y

export function parseChallenges(header: string | string[] | undefined): Challenge[] {
  if (header === undefined) return []
  const text = (typeof header === 'string' ? header : header.join(', ')).slice(0, MAX_LENGTH)
  const found: { scheme: string; params: Record<string, string> }[] = []
  let at = 0
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at
    const match = pattern.exec(text)
    if (match !== null) at = pattern.lastIndex
    return match
  }
  for (;;) {
    take(BLANK)
    const word = take(TOKEN)
    if (word === null) return found
    const name = word[0].toLowerCase()
    const rest = /^\s*=\s*/.exec(text.slice(at, at + 16))
    const current = found.at(-1)
    if (rest === null) found.push({ scheme: name, params: {} })
    else {
      at += rest[0].length
      const value = take(QUOTED)?.[1]?.replaceAll(/\\(.)/g, '$1') ?? take(BARE)?.[0] ?? ''
      if (current !== undefined) current.params[name] ??= value
    }
  }
}
