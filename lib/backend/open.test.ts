import { createRequire } from 'node:module'
import { join } from 'node:path'
import t from 'tap'
import type { BackendConfig } from './backend.js'
import { openBackend } from './open.js'
import { context, httpDefaults, registryDefaults } from './testing/fixtures.js'

const { cache } = createRequire(import.meta.url)
const loaded = (name: string) => Object.keys(cache).some(path => path.includes(`/node_modules/${name}/`))

const bucket = {
  ...httpDefaults,
  scheme: 'https',
  endpoint: 'oss-cn-hangzhou.aliyuncs.com',
  bucket_name: 'images',
  object_prefix: '',
  access_key_id: 'id',
  access_key_secret: 'secret',
}

t.test('a daemon that reads local files loads no HTTP client', async t => {
  const dir = t.testdir({ blob: 'content' })
  const local = await openBackend({ type: 'localfs', localfs: { blob_file: '', dir, alt_dirs: [] } }, context)
  t.equal(await local.open('blob').size(), 7)
  await local.close()
  const disk = await openBackend(
    { type: 'localdisk', localdisk: { device_path: join(dir, 'blob'), disable_gpt: true } },
    context,
  )
  t.equal(await disk.open('blob').size(), 7)
  await disk.close()
  for (const name of ['undici', 'ali-oss', 'aws4']) t.notOk(loaded(name), name)
})

t.test('every type opens without asking anybody, and closes', async t => {
  const configs: BackendConfig[] = [
    { type: 'registry', registry: { ...registryDefaults, host: 'registry.invalid' } },
    { type: 'http-proxy', 'http-proxy': { ...httpDefaults, addr: 'http://proxy.invalid', path: '' } },
    { type: 's3', s3: { ...bucket, region: 'eu-1' } },
    { type: 'oss', oss: bucket },
  ]
  for (const config of configs) {
    const backend = await openBackend(config, context)
    t.equal(backend.type, config.type)
    backend.open('ab'.repeat(32))
    backend.reconfigure({ registry_auth: 'eDp5', unknown: 'x' })
    t.equal(backend.counters?.['requests'], 0)
    await backend.close()
  }
  t.ok(loaded('undici'))
})
