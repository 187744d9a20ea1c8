/**
 * Building images: our nydus-image and the peer's from the same folder, in turns (A B, A B, …), so that a machine that
 * is slow for a while is slow for both. Times are wall time with the source in the page cache; peak memory is what the
 * kernel counted (wait4).
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { median } from './report.js'

export interface BuildOptions {
  /** The tree to build from; undefined: one of `files` small files is made. */
  readonly source: string | undefined
  readonly files: number
  readonly rounds: number
  /** Combinations as `version/compressor/digester`. */
  readonly kinds: readonly string[]
  /** More arguments for both programs. */
  readonly args: readonly string[]
  readonly peer: string
}

export interface BuildSample {
  readonly program: string
  readonly kind: string
  readonly round: number
  readonly seconds: number
  /** CPU seconds, user and system. */
  readonly cpu: number
  /** Bytes of resident memory at its peak. */
  readonly peak: number
  /** Bytes of bootstrap and blob. */
  readonly size: number
}

export interface BuildReport {
  readonly source: string
  readonly files: number
  /** Bytes of all files, those with several names counted once. */
  readonly bytes: number
  readonly samples: readonly BuildSample[]
  readonly missing: readonly string[]
}

const OURS = fileURLToPath(new URL('../../bin/nydus-image', import.meta.url))
/** Figures that `time` prints behind the program's own words. */
const TIME_FORMAT = 'bench: %e %U %S %M'

function run(program: string, argv: readonly string[]): Pick<BuildSample, 'seconds' | 'cpu' | 'peak'> {
  const started = process.hrtime.bigint()
  const { status, stderr } = spawnSync('time', ['-f', TIME_FORMAT, program, ...argv], { maxBuffer: 1 << 28 })
  const seconds = Number(process.hrtime.bigint() - started) / 1e9
  const text = (stderr as Buffer | null)?.toString() ?? ''
  const figures = /bench: \S+ (\S+) (\S+) (\d+)/.exec(text)
  if (status !== 0 || figures === null)
    throw new Error(
      `${program} ${argv.join(' ')}: status ${status}: ${text.trim().split('\n').slice(-3).join(' | ')}`,
    )
  return { seconds, cpu: Number(figures[1]) + Number(figures[2]), peak: Number(figures[3]) * 1024 }
}

function build(
  program: string,
  name: string,
  kind: string,
  round: number,
  source: string,
  args: readonly string[],
): BuildSample {
  const [version = '6', compressor = 'zstd', digester = 'blake3'] = kind.split('/')
  const out = mkdtempSync(join(tmpdir(), 'nydus-bench-'))
  try {
    const figures = run(program, [
      ...['create', '--log-level', 'warn', '-t', 'dir-rafs', '--fs-version', version],
      ...['--compressor', compressor, '--digester', digester, ...args],
      ...['--bootstrap', join(out, 'bootstrap'), '--blob-dir', out, source],
    ])
    const size = readdirSync(out).reduce((sum, file) => sum + statSync(join(out, file)).size, 0)
    return { program: name, kind, round, ...figures, size }
  } finally {
    rmSync(out, { recursive: true, force: true })
  }
}

/** Counts what is below `folder`; brings its inodes into the kernel's cache on the way. */
function measure(folder: string): { files: number; bytes: number } {
  const seen = new Set<number>()
  let files = 0
  let bytes = 0
  const folders = [Buffer.from(folder)]
  for (let at = folders.pop(); at !== undefined; at = folders.pop())
    for (const entry of readdirSync(at, { withFileTypes: true, encoding: 'buffer' })) {
      files++
      const path = Buffer.concat([at, Buffer.from('/'), entry.name])
      if (entry.isDirectory()) folders.push(path)
      if (!entry.isFile()) continue
      const { ino, size } = statSync(path)
      if (!seen.has(ino)) bytes += size
      seen.add(ino)
    }
  return { files, bytes }
}

/** A tree of many small files, 1000 a folder; the same bytes every time. Kept in .cache/bench. */
function smallFiles(count: number): string {
  const folder = join('.cache/bench', `small-${count}`)
  if (existsSync(`${folder}.done`)) return folder
  rmSync(folder, { recursive: true, force: true })
  for (let i = 0; i < count; i++) {
    const parent = join(folder, `d${Math.floor(i / 1000)}`)
    if (i % 1000 === 0) mkdirSync(parent, { recursive: true })
    writeFileSync(join(parent, `file-${i}`), `the content of file ${i}\n`.repeat(1 + (i % 7)))
  }
  writeFileSync(`${folder}.done`, '')
  return folder
}

export function runBuild(options: BuildOptions, say: (line: string) => void): BuildReport {
  const source = options.source ?? smallFiles(options.files)
  const { files, bytes } = measure(source)
  const missing: string[] = []
  const programs: [name: string, path: string][] = [['nydus-ts', OURS]]
  if (existsSync(options.peer)) programs.push(['peer', options.peer])
  else missing.push(`${options.peer} is not installed (scripts/bench/install-peers)`)
  const samples: BuildSample[] = []
  for (let round = 0; round < options.rounds; round++)
    for (const kind of options.kinds)
      for (const [name, path] of programs) {
        say(`round ${round + 1}/${options.rounds}: ${kind} by ${name}`)
        samples.push(build(path, name, kind, round, source, options.args))
      }
  return { source, files, bytes, samples, missing }
}

const MIB = 2 ** 20

export function buildTable(report: BuildReport): string {
  const lines = [`${report.source}: ${report.files} entries, ${(report.bytes / MIB).toFixed(0)} MiB`]
  for (const kind of new Set(report.samples.map(sample => sample.kind))) {
    lines.push(`v${kind}`)
    const of = (program: string, figure: 'seconds' | 'cpu' | 'peak' | 'size'): number =>
      median(report.samples.filter(s => s.kind === kind && s.program === program).map(s => s[figure]))
    const programs = [...new Set(report.samples.map(sample => sample.program))]
    for (const program of programs) {
      const seconds = of(program, 'seconds')
      const against = (figure: 'seconds' | 'peak' | 'size'): string =>
        program === 'peer' || !programs.includes('peer')
          ? ''
          : ` (${(figure === 'seconds' ? of('peer', figure) / of(program, figure) : of(program, figure) / of('peer', figure)).toFixed(figure === 'size' ? 4 : 2)}x)`
      lines.push(
        `  ${program.padEnd(9)} ${seconds.toFixed(2).padStart(7)} s${against('seconds')}  ${(report.bytes / MIB / seconds).toFixed(0).padStart(5)} MiB/s  ` +
          `${(report.files / seconds / 1000).toFixed(1)} k entries/s  cpu ${of(program, 'cpu').toFixed(2)} s  ` +
          `peak ${(of(program, 'peak') / MIB).toFixed(0)} MiB${against('peak')}  image ${(of(program, 'size') / MIB).toFixed(2)} MiB${against('size')}`,
      )
    }
  }
  for (const reason of report.missing) lines.push(`left out: ${reason}`)
  return lines.join('\n')
}
