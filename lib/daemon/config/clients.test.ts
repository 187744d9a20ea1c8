/** Configurations as known clients write them: each is taken without an error and without a warning. */
import t from 'tap'
import { parseConfig } from '../config.js'

const clients: [string, object | string, object][] = [
  [
    'nydus-snapshotter, shared daemon, registry',
    {
      device: {
        id: '/17',
        backend: {
          type: 'registry',
          config: {
            readahead: false,
            host: 'registry-1.docker.io',
            repo: 'library/node',
            auth: 'dXNlcjpwYXNz',
            scheme: 'https',
            proxy: { fallback: false },
            skip_verify: false,
            timeout: 5,
            connect_timeout: 5,
            retry_limit: 4,
            blob_url_scheme: '',
            mirrors: [
              {
                host: 'http://127.0.0.1:65001',
                headers: { 'X-Dragonfly-Registry': 'https://index.docker.io' },
                ping_url: 'http://127.0.0.1:40901/server/ping',
                health_check_interval: 5,
                failure_limit: 5,
                auth_through: false,
              },
            ],
          },
        },
        cache: {
          type: 'blobcache',
          config: { work_dir: '/var/lib/containerd-nydus/cache', disable_indexed_map: false },
        },
      },
      mode: 'direct',
      digest_validate: false,
      iostats_files: false,
      enable_xattr: true,
      access_pattern: true,
      latest_read_files: true,
      batch_size: 0,
      fs_prefetch: {
        enable: true,
        prefetch_all: true,
        threads_count: 8,
        merging_size: 1048576,
        bandwidth_rate: 0,
      },
    },
    {
      id: '/17',
      backend: {
        type: 'registry',
        registry: { host: 'registry-1.docker.io', auth: 'dXNlcjpwYXNz', retry_limit: 4 },
      },
      cache: { type: 'blobcache', prefetch: { enable: true, threads: 8, prefetch_all: true } },
      rafs: { enable_xattr: true, access_pattern: true, latest_read_files: true },
    },
  ],
  [
    'nydus-snapshotter, localfs',
    {
      device: {
        id: '',
        backend: { type: 'localfs', config: { dir: '/var/lib/nydus/blobs', readahead: false } },
        cache: { type: 'blobcache', config: { work_dir: '/var/lib/nydus/cache' } },
      },
      mode: 'direct',
      digest_validate: false,
      iostats_files: true,
      enable_xattr: true,
      fs_prefetch: { enable: true, threads_count: 10, merging_size: 131072, bandwidth_rate: 1048576 },
    },
    {
      backend: { localfs: { dir: '/var/lib/nydus/blobs' } },
      rafs: { prefetch: { bandwidth_limit: 1048576 } },
    },
  ],
  [
    'Kata Containers, a rafs mount',
    '{"device":{"backend":{"type":"registry","config":{"host":"ghcr.io","repo":"dragonflyoss/image-service/alpine","scheme":"https","skip_verify":false,"auth":null,"registry_token":null,"blob_url_scheme":"","proxy":{"url":"","fallback":false}}},"cache":{"type":"blobcache","config":{"work_dir":"/run/cache"}}},"mode":"direct","digest_validate":false,"iostats_files":false,"enable_xattr":true,"fs_prefetch":{"enable":true,"threads_count":4,"merging_size":131072}}',
    {
      backend: { registry: { auth: null, registry_token: null } },
      cache: { filecache: { work_dir: '/run/cache' } },
    },
  ],
  [
    'nydusify check',
    {
      device: {
        backend: { type: 'localfs', config: { dir: '/tmp/nydusify/blobs' } },
        cache: { type: 'blobcache', config: { work_dir: '/tmp/nydusify/cache' } },
        external_backend: { config_path: '' },
      },
      mode: 'direct',
      digest_validate: false,
      iostats_files: false,
      fs_prefetch: { enable: true, threads_count: 10, merging_size: 131072, bandwidth_rate: 0 },
    },
    { cache: { prefetch: { threads: 10, batch_size: 131072 } } },
  ],
  [
    'the README of 2020, OSS',
    `{
      "device": {
        "backend": {
          "type": "oss",
          "config": {
            "endpoint": "region.aliyuncs.com", "scheme": "https", "bucket_name": "blobs",
            "access_key_id": "id", "access_key_secret": "secret", "object_prefix": "nydus/",
            "timeout": 5, "connect_timeout": 5, "retry_limit": 5,
            "proxy": "http://p2p-proxy:65001", "proxy_fallback": true, "proxy_ping_url": "http://p2p-proxy:40901/server/ping", "proxy_check_interval": 5
          }
        },
        "cache": { "type": "blobcache", "config": { "work_dir": "/cache" } }
      },
      "mode": "direct", "digest_validate": false, "iostats_files": true,
      "fs_prefetch": {
        "enable": true,
        "threads_count": 10,
        "merging_size": 131072 // 128KB
      }
    }`,
    {
      backend: {
        oss: { proxy: { url: 'http://p2p-proxy:65001', check_interval: 5 }, object_prefix: 'nydus/' },
      },
    },
  ],
  [
    'the code of 2020: nested proxy, cache {}, cached mode',
    {
      device: {
        backend: {
          type: 'registry',
          config: {
            scheme: 'http',
            host: 'localhost:5000',
            repo: 'x',
            force_upload: false,
            proxy: { url: '', ping_url: '', fallback: true, check_interval: 5 },
          },
        },
        cache: {},
      },
      mode: 'cached',
      validation_only: false,
    },
    { backend: { registry: { scheme: 'http' } }, cache: { type: '' }, rafs: { mode: 'cached' } },
  ],
  [
    'the configuration that today’s daemon shows',
    '{"version":2,"id":"","backend":{"type":"localfs","localdisk":null,"localfs":{"blob_file":"","dir":"/b","alt_dirs":[]},"oss":null,"s3":null,"registry":null,"http-proxy":null},"external_backends":[],"cache":{"type":"blobcache","compressed":false,"validate":false,"prefetch":{"enable":false,"threads":8,"batch_size":1048576,"bandwidth_limit":0,"prefetch_all":false,"stream_prefetch":false},"filecache":{"work_dir":"/c","disable_indexed_map":false,"enable_encryption":false,"enable_convergent_encryption":false,"encryption_key":""},"fscache":null},"rafs":{"mode":"direct","batch_size":1048576,"validate":false,"enable_xattr":true,"iostats_files":false,"access_pattern":false,"latest_read_files":false,"prefetch":{"enable":false,"threads":8,"batch_size":1048576,"bandwidth_limit":0,"prefetch_all":false,"stream_prefetch":false}},"overlay":null}',
    { cache: { filecache: { work_dir: '/c' } }, rafs: { enable_xattr: true } },
  ],
  [
    'v2 TOML with a Dragonfly proxy',
    `version = 2
[backend]
type = "registry"
[backend.registry]
host = "docker.io"
repo = "library/redis"
scheme = "https"
[backend.registry.proxy]
url = "http://127.0.0.1:4001"
ping_url = "http://127.0.0.1:4003/healthy"
fallback = true
check_interval = 5
use_http = false
dragonfly_scheduler_endpoint = "http://scheduler:8002"
[cache]
type = "filecache"
[cache.prefetch]
enable = true
[cache.filecache]
work_dir = "/var/cache"
[rafs]
mode = "direct"
enable_xattr = true
[rafs.prefetch]
enable = true
threads = 10
prefetch_all = false
[overlay]
upper_dir = "/upper"
work_dir = "/work"`,
    {
      backend: {
        registry: {
          proxy: { url: 'http://127.0.0.1:4001', dragonfly_scheduler_endpoint: 'http://scheduler:8002' },
        },
      },
      cache: { prefetch: { enable: true, threads: 8 } },
      overlay: { upper_dir: '/upper', work_dir: '/work' },
    },
  ],
]

for (const [name, text, expected] of clients)
  t.test(name, async t => {
    const { config, warnings } = await parseConfig(typeof text === 'string' ? text : JSON.stringify(text))
    t.strictSame(warnings, [])
    t.match(config, expected)
  })
