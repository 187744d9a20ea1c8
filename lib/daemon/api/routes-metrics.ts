/** `/api/v1/metrics`: counters as JSON, in the shapes of http-api.md 4. */
import { route, type Route } from './route.js'

const METRICS = '/api/v1/metrics'
const byMount = { id: { help: 'Mountpoint; may be left out when there is only one.' } }

export const routesMetrics: readonly Route[] = [
  route({
    method: 'GET',
    path: METRICS,
    summary: 'File system counters of a mount.',
    operation: 'GlobalMetrics',
    query: byMount,
    handle: ({ control, query }) => ({ body: control.metrics.global(query['id']) }),
  }),
  route({
    method: 'GET',
    path: `${METRICS}/files`,
    summary: 'Counters per file, or the files read since the last query.',
    operation: 'FsFilesMetrics',
    query: { ...byMount, latest: { help: '`true`: what was read since the last query.' } },
    handle: ({ control, query }) => ({
      body: control.metrics.files(query['id'], query['latest'] === 'true'),
    }),
  }),
  route({
    method: 'GET',
    path: `${METRICS}/pattern`,
    summary: 'First access to each file.',
    operation: 'Pattern',
    query: {
      ...byMount,
      paths: { help: '`true`: with a `path` of each file, the first read first, as `optimize` takes it.' },
    },
    handle: async ({ control, query }) => ({
      body: await control.metrics.pattern(query['id'], query['paths'] === 'true'),
    }),
  }),
  route({
    method: 'GET',
    path: `${METRICS}/backend`,
    summary: 'Requests to the storage backend of a mount.',
    operation: 'BackendMetrics',
    query: byMount,
    handle: ({ control, query }) => ({ body: control.metrics.backend(query['id']) }),
  }),
  route({
    method: 'GET',
    path: `${METRICS}/blobcache`,
    summary: 'The cache of one configuration id.',
    operation: 'BlobcacheMetrics',
    query: { id: { help: '`id` of the configuration; may be left out when there is only one.' } },
    handle: ({ control, query }) => ({ body: control.metrics.blobcache(query['id']) }),
  }),
  route({
    method: 'GET',
    path: `${METRICS}/inflight`,
    summary: 'Requests that are being processed; 204 when there are none.',
    operation: 'InflightMetrics',
    handle({ control }) {
      const requests = control.metrics.inflight()
      return requests.length === 0 ? {} : { body: requests }
    },
  }),
]
