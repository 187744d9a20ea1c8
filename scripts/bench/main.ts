/** `npm run bench [-- hot | latency | build | cold | requests] [options]`: benchmarks against the installed peers, in one run. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { dirname } from 'node:path'
import { Command } from 'commander'
import { buildTable, runBuild } from './build.js'
import { coldTable, runCold } from './cold.js'
import { runHot } from './hot.js'
import { latencyTable, runLatency } from './latency.js'
import { hotTable } from './report.js'
import { requestsTable, runRequests } from './requests.js'

const numbers = (list: string): number[] => list.split(',').map(Number)

const program = new Command('npm run bench --')
program.description(
  'Measures this program beside nydusd and virtiofsd (crates, built by scripts/bench/install-peers).',
)
program
  .command('hot', { isDefault: true })
  .description('requests over the test front-end: reads, metadata, directories')
  .option('--rounds <n>', 'rounds, of which medians are taken', Number, 3)
  .option('--seconds <s>', 'length of one measurement', Number, 1)
  .option('--queues <list>', 'numbers of request queues, in turns (the peers have one)', numbers, [1])
  .option('--only <text>', 'loads whose name contains this', '')
  .option('--args <words>', "more arguments for our nydusd, for instance '--poll-us 0'", '')
  .option('--json <file>', 'samples as JSON', '.cache/bench/hot.json')
  .action(
    async (options: {
      rounds: number
      seconds: number
      queues: number[]
      only: string
      args: string
      json: string
    }) => {
      const tty = process.stderr.isTTY
      const report = await runHot(
        '.cache/bench/hot',
        { ...options, serverArguments: options.args.split(' ').filter(word => word !== '') },
        line => void (tty && process.stderr.write(`\r${line.padEnd(78)}`)),
      )
      if (tty) process.stderr.write(`\r${' '.repeat(78)}\r`)
      const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD']).toString().trim()
      const machine = `${cpus()[0]?.model.trim() ?? 'unknown'}, ${cpus().length} CPUs, node ${process.version}`
      writeFileSync(
        options.json,
        `${JSON.stringify({ machine, commit, command: process.argv.slice(2), ...report }, null, 1)}\n`,
      )
      process.stdout.write(`${machine}, commit ${commit}\n${hotTable(report)}\n`)
    },
  )
program
  .command('latency')
  .description('from start to first read; warm reads while cold ones wait for a slow backend')
  .option('--rounds <n>', 'rounds, of which medians are taken', Number, 5)
  .option('--start-only', 'without the warm reads, whose rounds take 10 s each', false)
  .option('--json <file>', 'figures as JSON', '.cache/bench/latency.json')
  .action(async (options: { rounds: number; startOnly: boolean; json: string }) => {
    const report = await runLatency(options.rounds, options.startOnly, '.cache/bench/hot')
    writeFileSync(options.json, `${JSON.stringify(report, null, 1)}\n`)
    process.stdout.write(`${latencyTable(report)}\n`)
  })
program
  .command('build')
  .description('building images: time, memory and size beside the reference nydus-image')
  .option('--source <folder>', 'tree to build from, for instance a root file system by debootstrap')
  .option('--files <n>', 'without --source: a tree of so many small files is made', Number, 1_000_000)
  .option('--rounds <n>', 'rounds, of which medians are taken', Number, 3)
  .option(
    '--kinds <list>',
    'version/compressor/digester, separated by commas',
    '6/zstd/blake3,5/lz4_block/sha256',
  )
  .option('--args <words>', 'more arguments for both programs', '')
  .option('--peer <file>', 'the reference program', '/opt/peers/bin/nydus-image')
  .option('--json <file>', 'samples as JSON', '.cache/bench/build.json')
  .action(
    (options: {
      source?: string
      files: number
      rounds: number
      kinds: string
      args: string
      peer: string
      json: string
    }) => {
      const report = runBuild(
        {
          ...options,
          source: options.source,
          kinds: options.kinds.split(','),
          args: options.args.split(' ').filter(word => word !== ''),
        },
        line => void (process.stderr.isTTY && process.stderr.write(`\r${line.padEnd(78)}`)),
      )
      if (process.stderr.isTTY) process.stderr.write(`\r${' '.repeat(78)}\r`)
      mkdirSync(dirname(options.json), { recursive: true })
      writeFileSync(options.json, `${JSON.stringify(report, null, 1)}\n`)
      process.stdout.write(`${buildTable(report)}\n`)
    },
  )
program
  .command('cold')
  .description('the start of a container from a registry 20 ms away, with an empty cache')
  .option('--rounds <n>', 'rounds, of which medians are taken', Number, 3)
  .option('--latency <ms>', 'in front of every answer of the registry', Number, 20)
  .option('--tree <folder>', 'a Debian root file system; without it debootstrap makes one', '')
  .option('--image-args <words>', 'more arguments for nydus-image create', '')
  .option('--settings <json>', 'more keys of the configuration, for both servers', '{}')
  .option('--only <text>', 'the server whose name contains this', '')
  .option('--json <file>', 'samples as JSON', '.cache/bench/cold.json')
  .action(
    async (options: {
      rounds: number
      latency: number
      tree: string
      imageArgs: string
      settings: string
      only: string
      json: string
    }) => {
      const tty = process.stderr.isTTY
      const report = await runCold(
        '.cache/bench/cold',
        {
          ...options,
          imageArguments: options.imageArgs.split(' ').filter(word => word !== ''),
          settings: JSON.parse(options.settings) as Record<string, unknown>,
        },
        line => void (tty && process.stderr.write(`\r${line.padEnd(78)}`)),
      )
      if (tty) process.stderr.write(`\r${' '.repeat(78)}\r`)
      writeFileSync(options.json, `${JSON.stringify(report, null, 1)}\n`)
      process.stdout.write(`${coldTable(report)}\n`)
    },
  )
program
  .command('requests')
  .description(
    "FUSE requests of a guest's kernel for ls -lR, a start of Python, a compile: first and second run",
  )
  .option('--tree <folder>', 'a Debian with python3 and gcc; without it debootstrap makes one', '')
  .option('--fs-version <n>', 'RAFS version of the image', Number, 6)
  .option('--only <text>', 'workloads whose name contains this', '')
  .option('--server <name>', 'only nydus-ts, nydusd or virtiofsd', '')
  .option(
    '--mount <options>',
    'of mount(8) in the guest; with rw a kernel asks for access times after each read of a folder',
    'ro',
  )
  .option('--args <words>', 'more arguments for our nydusd', '')
  .option('--json <file>', 'counts as JSON', '.cache/bench/requests.json')
  .action(
    async (options: {
      tree: string
      fsVersion: number
      only: string
      server: string
      mount: string
      args: string
      json: string
    }) => {
      const tty = process.stderr.isTTY
      const samples = await runRequests(
        '.cache/bench/requests',
        { ...options, serverArguments: options.args.split(' ').filter(word => word !== '') },
        line => void (tty && process.stderr.write(`\r${line.padEnd(78)}`)),
      )
      if (tty) process.stderr.write(`\r${' '.repeat(78)}\r`)
      mkdirSync(dirname(options.json), { recursive: true })
      writeFileSync(options.json, `${JSON.stringify(samples, null, 1)}\n`)
      process.stdout.write(`${requestsTable(samples)}\n`)
    },
  )
await program.parseAsync()
