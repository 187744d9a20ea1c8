import t from 'tap'
import { parseCommandLine } from './command-line.js'

/** Splits at blanks; `''` stands for an empty argument. */
const words = (line: string) =>
  line
    .split(' ')
    .filter(word => word !== '')
    .map(word => (word === "''" ? '' : word))

const defaults = {
  mode: 'virtiofs',
  upgrade: false,
  writable: false,
  logLevel: 'info',
  failoverPolicy: 'resend',
  logRotationMb: 0,
  rlimitNofile: 1_000_000,
  fuseThreads: 4,
  virtualMountpoint: '/',
  pollUs: 50,
  requestQueues: 8,
  lanes: 1,
  prefetchFiles: [],
}

t.test('command lines of both epochs', async t => {
  const rows: [string, object][] = [
    // 2020
    ['--config c.json --bootstrap b --sock s', { config: 'c.json', bootstrap: 'b', sock: 's' }],
    [
      '--config c --bootstrap b --sock s --apisock a --log-level warn --thread-num 1 --rlimit-nofile 0',
      {
        config: 'c',
        bootstrap: 'b',
        sock: 's',
        apisock: 'a',
        logLevel: 'warn',
        fuseThreads: 1,
        rlimitNofile: 0,
      },
    ],
    ['--config c --mountpoint /m --apisock a', { mode: 'fuse', config: 'c', mountpoint: '/m', apisock: 'a' }],
    [
      '--config c --bootstrap b --sock s --prefetch-files /a /b/c /d',
      { config: 'c', bootstrap: 'b', sock: 's', prefetchFiles: ['/a', '/b/c', '/d'] },
    ],
    [
      '--prefetch-files /a /b --sock s --bootstrap b --config c',
      { config: 'c', bootstrap: 'b', sock: 's', prefetchFiles: ['/a', '/b'] },
    ],
    ['--shared-dir /d --sock s', { sharedDir: '/d', sock: 's' }],
    // Kata Containers, older and today
    ['--log-level info --apisock a --sock s', { apisock: 'a', sock: 's' }],
    [
      'virtiofs --log-level debug --apisock a --sock s --hybrid-mode',
      { apisock: 'a', sock: 's', logLevel: 'debug' },
    ],
    // nydus-snapshotter
    [
      'fuse --upgrade --thread-num 10 --id i --mountpoint /m --apisock a --log-level info --log-rotation-size 100 --supervisor v --failover-policy resend',
      {
        mode: 'fuse',
        upgrade: true,
        fuseThreads: 10,
        id: 'i',
        mountpoint: '/m',
        apisock: 'a',
        logRotationMb: 100,
        supervisor: 'v',
      },
    ],
    [
      'fuse --mountpoint /m --config c --bootstrap b --backend-source http://x --prefetch-files /list --log-file /l/d --failover-policy flush',
      {
        mode: 'fuse',
        mountpoint: '/m',
        config: 'c',
        bootstrap: 'b',
        prefetchFiles: ['/list'],
        logFile: '/l/d.log',
        failoverPolicy: 'flush',
      },
    ],
    ['singleton --fscache /f --fscache-threads 4 --apisock a', { mode: 'singleton', apisock: 'a' }],
    // nydusify, the smoke suite
    [
      '--config f --mountpoint m --bootstrap b --apisock a --log-level warn',
      { mode: 'fuse', config: 'f', mountpoint: 'm', bootstrap: 'b', apisock: 'a', logLevel: 'warn' },
    ],
    [
      '--mountpoint m --apisock a --log-level error --thread-num 10 --dedup-db d --writable',
      { mode: 'fuse', mountpoint: 'm', apisock: 'a', logLevel: 'error', fuseThreads: 10, writable: true },
    ],
    // Global options on either side of the mode, short names, `=`
    ['--apisock a -l trace virtiofs --sock s', { apisock: 'a', logLevel: 'trace', sock: 's' }],
    [
      '-A a virtiofs -C c -B b --sock=s -m /x',
      { apisock: 'a', config: 'c', bootstrap: 'b', sock: 's', virtualMountpoint: '/x' },
    ],
    [
      '--id virtiofs --supervisor v fuse -M m',
      { mode: 'fuse', id: 'virtiofs', supervisor: 'v', mountpoint: 'm' },
    ],
    [
      '--prefetch-files /a virtiofs --sock s -B b -C c',
      { prefetchFiles: ['/a'], sock: 's', bootstrap: 'b', config: 'c' },
    ],
    ['--sock s --bootstrap b -D /blobs', { sock: 's', bootstrap: 'b', localfsDir: '/blobs' }],
    ['--sock s --fuse-threads 1024', { sock: 's', fuseThreads: 1024 }],
    // Ours
    [
      '--sock s --poll-us 0 --request-queues 64 --lanes 2',
      { sock: 's', pollUs: 0, requestQueues: 64, lanes: 2 },
    ],
    ['--sock s --log-file x.txt', { sock: 's', logFile: 'x.txt' }],
  ]
  for (const [line, options] of rows)
    t.strictSame(parseCommandLine(words(line)), { kind: 'run', options: { ...defaults, ...options } }, line)
})

t.test('wrong command lines are usage errors', async t => {
  const rows: [string, RegExp][] = [
    ['', /^error: nothing to do/],
    ['--apisock a', /^error: nowhere to serve: give --sock .* or --mountpoint/],
    ['--config c --bootstrap b', /^error: nowhere to serve/],
    ['--sock s --mountpoint m', /--sock and --mountpoint exclude each other/],
    ['virtiofs', /virtiofs needs --sock/],
    ['fuse --apisock a', /fuse needs --mountpoint/],
    ['virtiofs --mountpoint m --sock s', /--mountpoint cannot be used with virtiofs/],
    ['fuse --mountpoint m --sock s', /--sock cannot be used with fuse/],
    ['singleton --bootstrap b', /--bootstrap cannot be used with singleton/],
    ['virtiofs --sock s --writable', /--writable cannot be used with virtiofs/],
    ['fuse --mountpoint m --poll-us 5', /--poll-us cannot be used with fuse/],
    ['nbd', /'nbd' is not a mode; expected virtiofs, fuse, singleton/],
    ['virtiofs fuse --sock s', /too many arguments/],
    ['--sock s --sock-path x', /unknown option '--sock-path'/],
    ['--soc s', /unknown option '--soc'\n\(Did you mean --sock\?\)/],
    ['--sock', /option '--sock <path>' argument missing/],
    ['--sock --apisock a', /'--sock <path>' argument '--apisock' is invalid.*value is missing/],
    ["--sock ''", /'--sock <path>' argument '' is invalid. It is empty/],
    ['--sock s --log-level loud', /'loud' is invalid.*trace, debug, info, warn, error/],
    ['--sock s --log-level INFO', /'INFO' is invalid/],
    ['--sock s --thread-num 0', /whole number from 1 to 1024/],
    ['--sock s --thread-num 1025', /whole number from 1 to 1024/],
    ['--sock s --thread-num four', /whole number from 1 to 1024/],
    ['--sock s --lanes 65', /whole number from 1 to 64/],
    ['--sock s --request-queues 0', /whole number from 1 to 64/],
    ['--sock s --poll-us -1', /--poll-us/],
    ['--sock s --poll-us 1e3', /whole number from 0 to 10000/],
    ['--sock s --failover-policy later', /none, resend, flush/],
    ['--sock s --bootstrap b --shared-dir d', /--bootstrap and --shared-dir exclude each other/],
    ['--sock s --config c --localfs-dir d', /--config and --localfs-dir exclude each other/],
    ['--sock s --id i', /--id and --supervisor go together/],
    ['--sock s --supervisor v', /--id and --supervisor go together/],
    ['--sock s --prefetch-files /a', /--prefetch-files needs --bootstrap/],
  ]
  for (const [line, message] of rows) {
    const request = parseCommandLine(words(line))
    t.match(request, { kind: 'print', exitCode: 2 }, line)
    t.match('text' in request && request.text, message, line)
    t.match('text' in request && request.text, /^error: /, line)
  }
})

t.test('numbers whose wrong spelling is a start-up failure', async t => {
  t.throws(() => parseCommandLine(words('--sock s --log-rotation-size big')), {
    code: 'START_BAD_NUMBER',
    message: '--log-rotation-size: expected a whole number, got "big"',
  })
  t.throws(() => parseCommandLine(words('--sock s --rlimit-nofile 1,000,000')), { code: 'START_BAD_NUMBER' })
})

t.test('help and version', async t => {
  for (const line of ['--help', '-h', 'help', 'virtiofs --help', 'help virtiofs', '--sock s -h']) {
    const request = parseCommandLine(words(line))
    t.match(request, { kind: 'print' }, line)
    t.match(
      request,
      { exitCode: 0, text: /^Usage: nydusd \[virtiofs\|fuse\|singleton\] \[options\]\n/ },
      line,
    )
  }
  const { text } = parseCommandLine(['--help']) as { text: string }
  for (const flag of [
    '--sock',
    '--bootstrap',
    '--config',
    '--apisock',
    '--prefetch-files',
    '--poll-us',
    '--lanes',
  ])
    t.ok(text.includes(`${flag} <`), flag)
  t.ok(
    text.split('\n').every(line => line.length <= 120),
    'fits a terminal',
  )
  for (const line of ['--version', '-V', '--sock s --version'])
    t.strictSame(parseCommandLine(words(line)), { kind: 'version' }, line)
})
