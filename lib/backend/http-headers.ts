import type { Log } from '../base/log.js'

/** What the servers' logs and rules know a Nydus daemon by. */
const USER_AGENT = 'nydusd/1.0.0'

const PREFIX = 'NYDUS_HEADER_'

/**
 * Headers of every request: NYDUS_HEADER_<Name>=<value> of the environment over our own. Ranges are counted in
 * plain bytes, so a server must not compress.
 */
export function commonHeaders(env: NodeJS.ProcessEnv, log: Log): Record<string, string> {
  const headers: Record<string, string> = {
    'user-agent': USER_AGENT,
    accept: '*/*',
    'accept-encoding': 'identity',
  }
  for (const [key, value] of Object.entries(env)) {
    if (!key.startsWith(PREFIX) || value === undefined) continue
    const name = key.slice(PREFIX.length)
    if (/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) && /^[\t\x20-\x7e\x80-\xff]*$/.test(value))
      headers[name.toLowerCase()] = value
    else log.warn({ variable: key }, 'environment variable is no HTTP header and is ignored')
  }
  return headers
}
