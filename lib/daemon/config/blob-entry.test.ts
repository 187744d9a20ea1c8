import t from 'tap'
import { blobEntry } from './blob-entry.js'
import { decode } from './decode.js'

const legacy = () => ({
  type: 'bootstrap',
  id: 'b1',
  domain_id: 'd1',
  config: {
    id: 'f1',
    backend_type: 'localfs',
    backend_config: { dir: '/blobs' },
    cache_type: 'fscache',
    cache_config: { work_dir: '/cache' },
    prefetch_config: { enable: true, threads_count: 4, merging_size: 4096, bandwidth_rate: 0 },
    metadata_path: '/boot',
  },
})
const current = () => ({
  type: 'datablob',
  id: 'b2',
  config_v2: {
    version: 2,
    id: 'f2',
    backend: { type: 'localfs', localfs: { dir: '/blobs' } },
    cache: { type: 'filecache', filecache: { work_dir: '/cache' } },
  },
})

t.test('both spellings', async t => {
  t.match(decode(blobEntry, legacy()).value, {
    type: 'bootstrap',
    id: 'b1',
    domainId: 'd1',
    config: {
      id: 'f1',
      backend: { type: 'localfs', localfs: { dir: '/blobs' } },
      cache: { type: 'fscache', fscache: { work_dir: '/cache' }, prefetch: { enable: true, threads: 4 } },
      metadata_path: '/boot',
    },
  })
  t.match(decode(blobEntry, current()).value, {
    domainId: '',
    config: { cache: { filecache: { work_dir: '/cache' } }, metadata_path: null },
  })
  const both = { ...legacy(), config_v2: current().config_v2 }
  t.match(decode(blobEntry, both).value, { config: { id: 'f2' } }, 'config_v2 wins')
})

t.test('mistakes are named by the keys that were written', async t => {
  const config = (over: object) => ({ ...legacy(), config: { ...legacy().config, ...over } })
  const rows: [object, RegExp][] = [
    [{ type: 'x', id: 'a' }, /type: expected "bootstrap" or "datablob", got "x"/],
    [{ type: 'datablob' }, /id: missing/],
    [{ type: 'datablob', id: 'a' }, /neither `config` nor `config_v2`/],
    [config({ backend_type: 'ceph' }), /config\.backend_type: expected "localfs".*got "ceph"/],
    [config({ backend_config: {} }), /config\.backend_config: has neither `dir`/],
    [config({ backend_type: 'registry' }), /config\.backend_config\.host: missing/],
    [config({ cache_type: 'dummycache' }), /config\.cache_type: expected "blobcache"/],
    [config({ cache_config: undefined }), /config\.cache_config: missing/],
    [config({ cache_config: { work_dir: 5 } }), /config\.cache_config\.work_dir: expected a text, got 5/],
    [config({ prefetch_config: { enable: true } }), /prefetch_config\.threads_count: missing/],
    [{ ...current(), config_v2: { version: 1 } }, /config_v2\.version: expected 2, got 1/],
  ]
  for (const [input, right] of rows)
    t.throws(() => decode(blobEntry, input), { message: right }, right.source)
})
