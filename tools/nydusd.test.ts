/** nydusd's command line from outside: what it refuses and in which words, and the launcher around it. */
import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { promisify } from 'node:util'
import t from 'tap'
import { tempDir } from '../lib/daemon/testing/temp-dir.js'
import { instanceConfig } from '../vm-tests/daemon.js'
import { fixtureNamed } from '../vm-tests/fixtures.js'
import { projectRoot } from '../vm-tests/project.js'
import { main } from './nydusd.js'

const image = fixtureNamed('v6-zstd-blake3')
const launcher = `${projectRoot}/dist/bin/nydusd`

async function run(...argv: readonly string[]) {
  const out: string[] = []
  const err: string[] = []
  const code = await main(argv, {
    stdout: { write: text => out.push(text) },
    stderr: { write: text => err.push(text) },
    env: {},
  })
  return { code, stdout: out.join(''), stderr: err.join('') }
}

t.test('bad input: one clear sentence, exit 1, and nothing is left behind', async t => {
  const dir = tempDir(t)
  const at = (name: string) => `${dir}/${name}`
  writeFileSync(at('good.json'), instanceConfig({ blobs: image.blobs }))
  writeFileSync(at('broken.json'), '{"device": {"backend": c2VjcmV0}}')
  writeFileSync(
    at('wrong.json'),
    '{"device":{"backend":{"type":"localfs","config":{"dir":5}}},"mode":"quick"}',
  )
  writeFileSync(at('binary'), Buffer.from([0, 1, 2, 255]))
  writeFileSync(at('huge.json'), ' '.repeat(2 << 20))
  writeFileSync(at('file'), 'precious')
  writeFileSync(at('list'), '/usr\nbin\n')
  writeFileSync(at('short'), 'RAFS')
  writeFileSync(at('cut'), readFileSync(image.bootstrap).subarray(0, 5000))
  mkdirSync(at('folder'))
  mkdirSync(at('logs.d'))
  const live = createServer().listen(at('live.sock'))
  await once(live, 'listening')
  t.teardown(() => live.close())
  const before = readdirSync(dir).toSorted()

  const serve = ['--sock', at('v.sock')]
  const boot = [...serve, '--bootstrap', image.bootstrap]
  const config = ['--config', at('good.json')]
  const rows: [argv: string[], message: RegExp][] = [
    // Configuration
    [
      boot,
      /^Error: --bootstrap needs --config <file>, which says where the blobs are, or --localfs-dir <dir>$/,
    ],
    [
      [...boot, '--config', at('none.json')],
      /^Error: configuration .*none\.json cannot be read: no such file or folder$/,
    ],
    [[...boot, '--config', at('folder')], /folder cannot be read: it is a folder$/],
    [
      [...boot, '--config', at('huge.json')],
      /huge\.json cannot be read: it has 2097152 bytes, more than the 1048576 allowed$/,
    ],
    [
      [...boot, '--config', at('broken.json')],
      /broken\.json is not JSON: a value was expected at line 1 column 24$/,
    ],
    [[...boot, '--config', at('binary')], /binary is neither JSON nor TOML/],
    [
      [...boot, '--config', at('wrong.json')],
      /wrong\.json is wrong: device\.backend\.config\.dir: expected a text, got 5; mode: expected "direct" or "cached", got "quick"$/,
    ],
    // Bootstrap
    [[...serve, ...config, '--bootstrap', at('none')], /^Error: bootstrap .*none: No such file or directory/],
    [
      [...serve, ...config, '--bootstrap', at('folder')],
      /folder: is a folder; wanted the bootstrap file of an image$/,
    ],
    [[...serve, ...config, '--bootstrap', at('short')], /short: is not a RAFS bootstrap/],
    [[...serve, ...config, '--bootstrap', at('cut')], /^Error: .*cut: /],
    [[...serve, ...config, '--bootstrap', '/dev/null'], /is not a regular file/],
    [
      [...boot, ...config, '--virtual-mountpoint', 'relative'],
      /^Error: mountpoint 'relative': it must be an absolute path/,
    ],
    // Prefetch lists
    [
      [...boot, ...config, '--prefetch-files', at('list')],
      /list: "bin" is not a path within the image; it must start with \/$/,
    ],
    [[...boot, ...config, '--prefetch-files', '/a', 'b'], /"b" is not a path within the image/],
    [
      [...boot, ...config, '--prefetch-files', 'no-list'],
      /no-list: the list cannot be read: no such file or folder$/,
    ],
    // Sockets
    [
      ['--sock', at('file')],
      /^Error: --sock .*file: something that is not a socket is there already; remove it or choose another path$/,
    ],
    [['--sock', at('folder')], /is not a socket is there already/],
    [
      ['--sock', at('live.sock')],
      /live\.sock: another process listens there; stop it or choose another path$/,
    ],
    [['--sock', at('none/v.sock')], /the folder .*none cannot be used: no such file or folder$/],
    [['--sock', at('x'.repeat(110))], /a UNIX socket's may have 107; use a shorter one$/],
    [[...serve, '--apisock', at('file')], /^Error: --apisock .*is not a socket is there already/],
    [[...serve, '--apisock', at('live.sock')], /^Error: --apisock .*another process listens there/],
    [[...serve, '--apisock', at('v.sock')], /name the same path/],
    // Logs, limits, modes
    [[...serve, '--log-file', at('logs.d')], /^Error: log file .* cannot be opened: it is a folder$/],
    [
      [...serve, '--log-rotation-size', 'x'],
      /^Error: --log-rotation-size: expected a whole number, got "x"$/,
    ],
    [[...serve, '--rlimit-nofile', 'many'], /^Error: --rlimit-nofile: expected a whole number, got "many"$/],
    [['--mountpoint', at('folder')], /^Error: FUSE mode \(--mountpoint\) is not available in this release/],
    [['singleton'], /^Error: singleton mode is not available/],
    [[...serve, '--upgrade'], /^Error: --upgrade: a vhost-user device cannot be taken over/],
    [[...serve, '--shared-dir', at('folder')], /^Error: --shared-dir .* is not available/],
  ]
  for (const [argv, message] of rows) {
    const { code, stdout, stderr } = await run(
      ...argv,
      '--rlimit-nofile',
      '0',
      '--log-level',
      'error',
      ...rlimitOf(argv),
    )
    const label = argv.map(word => word.replace(`${dir}/`, '')).join(' ')
    t.equal(code, 1, label)
    t.equal(stdout, '')
    t.match(stderr.trimEnd(), message, label)
    t.equal(stderr.split('\n').length, 2, 'one line')
    t.notMatch(stderr, /c2Vj| at .*\.[jt]s/, 'no secret, no stack')
    t.strictSame(readdirSync(dir).toSorted(), before, `nothing left behind: ${label}`)
  }
  t.equal(readFileSync(at('file'), 'utf8'), 'precious')
})

/** The option of the row itself, not the one that spares each run the raising of limits. */
function rlimitOf(argv: readonly string[]): readonly string[] {
  const index = argv.indexOf('--rlimit-nofile')
  return index < 0 ? [] : argv.slice(index, index + 2)
}

t.test('usage errors: exit 2; help and version: exit 0', async t => {
  t.match(await run(), { code: 2, stdout: '', stderr: /^error: nothing to do/ })
  t.match(await run('--nonsense'), { code: 2, stderr: /^error: unknown option '--nonsense'/ })
  t.match(await run('--help'), { code: 0, stdout: /^Usage: nydusd/, stderr: '' })
  t.match(await run('--version'), { code: 0, stdout: /^Version: \tv\d[^]*\nGit Commit: \t/, stderr: '' })
})

const exec = promisify(execFile)

t.test('the launcher works by path, by link, from any folder, and spares the start the CA file', async t => {
  const dir = tempDir(t)
  symlinkSync(launcher, `${dir}/absolute`)
  mkdirSync(`${dir}/sub`)
  symlinkSync('../absolute', `${dir}/sub/relative`)
  const ways: [command: string, cwd: string][] = [
    [launcher, '/'],
    ['dist/bin/nydusd', projectRoot],
    ['./nydusd', `${projectRoot}/dist/bin`],
    [`${dir}/absolute`, dir],
    ['sub/relative', dir],
    ['nydusd', dir],
  ]
  const env = { ...process.env, PATH: `${projectRoot}/dist/bin:${process.env['PATH']}` }
  for (const [command, cwd] of ways)
    t.match(
      await exec(command, ['--version'], { cwd, env }),
      { stdout: /^Version: / },
      `${command} in ${cwd}`,
    )
  const { stdout } = await exec(launcher, ['--version'], { env: { PATH: '/nonexistent' } })
  t.match(stdout, /^Version: /, 'a PATH without node: the one that it was built with')
  t.match(stdout, /Git Commit: \t[0-9a-f]{40}\n/)
  // node says so when the file of NODE_EXTRA_CA_CERTS cannot be read.
  const extra = await exec(launcher, ['--version'], { env: { ...env, NODE_EXTRA_CA_CERTS: '/no/such.pem' } })
  t.equal(extra.stderr, '')
})

t.test('--help and --version need no addon; what does says that it is missing', async t => {
  const dir = tempDir(t)
  for (const part of ['bin', 'run', 'build-info.json'])
    cpSync(`${projectRoot}/dist/${part}`, `${dir}/dist/${part}`, { recursive: true })
  cpSync(`${projectRoot}/package.json`, `${dir}/package.json`)
  symlinkSync(`${projectRoot}/node_modules`, `${dir}/node_modules`)
  const program = `${dir}/dist/bin/nydusd`
  t.match(await exec(program, ['--help']), { stdout: /^Usage: nydusd/ })
  t.match(await exec(program, ['--version']), { stdout: /^Version: / })
  await t.rejects(exec(program, ['--sock', `${dir}/v.sock`]), {
    code: 1,
    stderr: /^Error: the addon is not built: .* does not exist; run `npm run build`\n$/,
  })
  t.notOk(existsSync(`${dir}/v.sock`))
})
