/** Connections of an upload: TLS as the backend that will read the blob has it. */
import { Agent } from 'undici'
import { Trust, type TrustOptions } from '../../lib/backend/http-trust.js'

/** Throws BACKEND_CA_INVALID. */
export function uploadAgent(options: TrustOptions): Agent {
  const trust = new Trust(options, process.env)
  // A server that says nothing is given up after undici's default of five minutes; an upload itself may take hours.
  return new Agent({
    connect: { rejectUnauthorized: !trust.skipVerify, secureContext: trust.context },
  })
}
