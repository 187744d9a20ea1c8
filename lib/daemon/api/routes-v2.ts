/**
 * `/api/v2`: the daemon once more, and blob cache entries (http-api.md 5). Those belong to daemons that serve the host's
 * kernel (`singleton`); one that serves virtual machines has none and takes none.
 */
import { NydusError } from '../../base/errors.js'
import { logLevelRoute } from './routes-v1.js'
import { missingQuery } from './failure.js'
import { done, route, type Route } from './route.js'

const V2 = '/api/v2'

function noEntries(): never {
  throw new NydusError(
    'DAEMON_UNSUPPORTED',
    'EOPNOTSUPP',
    'blob cache entries belong to a singleton daemon; here images are mounted by POST /api/v1/mount',
  )
}

export const routesV2: readonly Route[] = [
  route({
    method: 'GET',
    path: `${V2}/daemon`,
    summary: 'Version and state.',
    operation: 'DaemonInfo',
    handle: ({ control }) => ({ body: { ...control.info(), backend_collection: null } }),
  }),
  logLevelRoute(V2),
  route({
    method: 'GET',
    path: `${V2}/blobs`,
    summary: 'Blob cache entries of a domain: none.',
    operation: 'GetBlobObjects',
    query: { domain_id: { required: true, help: 'Domain of the entries.' } },
    handle: () => ({ body: [] }),
  }),
  route({
    method: 'PUT',
    path: `${V2}/blobs`,
    summary: 'Add a blob cache entry; not by this kind of daemon.',
    operation: 'CreateBlobObject',
    body: async () => (await import('../config/blob-entry.js')).blobEntry,
    handle: noEntries,
  }),
  route({
    method: 'DELETE',
    path: `${V2}/blobs`,
    summary:
      'Remove entries of a domain (not by this kind of daemon), or cached data of a blob from the host’s kernel.',
    operation: 'DeleteBlobObject',
    query: { domain_id: { help: 'Domain of the entries.' }, blob_id: { help: 'Only this one.' } },
    handle({ query }) {
      if (query['domain_id'] !== undefined) noEntries()
      if (query['blob_id'] === undefined) throw missingQuery('blob_id')
      return done
    },
  }),
]
