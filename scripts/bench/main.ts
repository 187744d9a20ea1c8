/** `npm run bench [-- hot] [options]`: benchmarks against the peers that are installed, in one run. */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { Command } from 'commander'
import { runHot } from './hot.js'
import { hotTable } from './report.js'

const program = new Command('npm run bench --')
program.description(
  'Measures this program beside nydusd and virtiofsd (crates, built by scripts/bench/install-peers).',
)
program
  .command('hot', { isDefault: true })
  .description('requests over the test front-end: reads, metadata, directories')
  .option('--rounds <n>', 'rounds, of which medians are taken', Number, 3)
  .option('--seconds <s>', 'length of one measurement', Number, 1)
  .option('--queues <n>', 'request queues (the peers have one)', Number, 1)
  .option('--only <text>', 'loads whose name contains this', '')
  .option('--args <words>', "more arguments for our nydusd, for instance '--poll-us 0'", '')
  .option('--json <file>', 'samples as JSON', '.cache/bench/hot.json')
  .action(
    async (options: {
      rounds: number
      seconds: number
      queues: number
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
await program.parseAsync()
