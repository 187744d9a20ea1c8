/** What in a configuration has no effect is told, as the daemon tells it, and stands in nobody's way. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { runTool } from '../../lib/build/testing/image-tool.js'
import { tempDir } from '../../lib/daemon/testing/temp-dir.js'
import { fixtureNamed } from '../../vm-tests/fixtures.js'

const { bootstrap, blobs } = fixtureNamed('v6-zstd-blake3')

const storage = {
  version: 2,
  backend: { type: 'localfs', localfs: { dir: blobs } },
  cache: { type: 'filecache', filecache: { work_dir: '/none' } },
  external_backends: [{ patch: { root: '/models' }, type: 'local', config: { auth: 'c2VjcmV0' } }],
}
const cache = { cache_type: 'filecache', cache_config: { work_dir: '/none' } }
const { external_backends } = storage
const legacy = { backend_type: 'localfs', backend_config: { dir: blobs }, external_backends, ...cache }
const entry = { type: 'bootstrap', id: 'x', nonsense: 1 }

const FORMS: readonly [string, 'export' | 'unpack', object][] = [
  ['export, a blob cache entry', 'export', { ...entry, config_v2: storage }],
  ['export, an entry in its older spelling', 'export', { ...entry, config: legacy }],
  ["unpack, nydusd's configuration", 'unpack', { ...storage, nonsense: 1 }],
]

for (const [about, command, config] of FORMS)
  t.test(about, async t => {
    const dir = tempDir(t)
    const [file, plain, out] = [join(dir, 'config.json'), join(dir, 'plain'), join(dir, 'out')]
    writeFileSync(file, JSON.stringify(config))
    const argv = [command, bootstrap, ...(command === 'export' ? ['--block'] : [])]
    t.match(await runTool(...argv, '-D', blobs, '--output', plain), { code: 0 })
    const { code, stderr } = await runTool(...argv, '-C', file, '--output', out)
    t.equal(code, 0, stderr)
    t.match(
      stderr,
      /^warning: .*config\.json has external_backends, which have no effect: .* put those blobs there$/m,
    )
    t.match(stderr, /^warning: .*config\.json has keys that are not known and have no effect: nonsense$/m)
    t.notMatch(stderr, /c2VjcmV0/)
    t.ok(readFileSync(out).equals(readFileSync(plain)), 'the same is made as without them')
  })

t.test('--log-level warn keeps warnings, error does not; a log file has them as what they are', async t => {
  const dir = tempDir(t)
  const [file, log] = [join(dir, 'config.json'), join(dir, 'log')]
  writeFileSync(file, JSON.stringify(storage))
  const argv = ['unpack', bootstrap, '-C', file, '-o', join(dir, 'x.tar')]
  t.match(
    (await runTool(...argv, '-l', 'warn')).stderr,
    /^warning: [^\n]* has external_backends[^\n]*\n(warning: .*\n)*$/,
  )
  t.equal((await runTool(...argv, '-l', 'error')).stderr, '')
  t.equal((await runTool(...argv, '-l', 'warn', '-L', log)).stderr, '')
  t.match(
    readFileSync(log, 'utf8'),
    /^\[\S+Z\] WARN configuration [^\n]* has external_backends[^\n]*\n(\[\S+Z\] WARN .*\n)*$/,
  )
})
