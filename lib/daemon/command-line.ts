/**
 * nydusd's arguments, of both epochs, as `DaemonOptions`.
 *
 * One flat set of options with the mode as an optional word among them: global options may stand before or after
 * it, and without it `--sock` means virtiofs and `--mountpoint` means fuse, as in 2020.
 */
import { extname } from 'node:path'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { NydusError } from '../base/errors.js'
import { MODES, OPTIONS } from './options.js'
import type { DaemonOptions, Mode, OptionRow } from './options.js'

/** What the process was asked to do. `exitCode` and text: print and leave. */
export type Request =
  | { readonly kind: 'run'; readonly options: DaemonOptions }
  | { readonly kind: 'version' }
  | { readonly kind: 'print'; readonly exitCode: 0 | 2; readonly text: string }

type Values = Readonly<Record<string, unknown>>

/** `--poll-us` as Commander names its value: `pollUs`. */
const attribute = (row: OptionRow) => new Option(row.flags).attributeName()

function isMode(word: unknown): word is Mode {
  return MODES.some(mode => mode === word)
}

/** Commander takes whatever follows as the value; an option there means that the value was forgotten. */
function value(given: string): string {
  if (given === '') throw new InvalidArgumentError('It is empty.')
  if (/^--?[A-Za-z]/.test(given))
    throw new InvalidArgumentError('It looks like the next option: the value is missing.')
  return given
}

function whole(given: string, min: number, max: number): number {
  const number = /^\d+$/.test(given) ? Number(given) : NaN
  if (!(number >= min && number <= max))
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`)
  return number
}

function makeOption(row: OptionRow): Option {
  const option = new Option(row.flags, row.help).helpGroup(`${row.group}:`)
  const { range } = row
  if (row.default !== undefined) option.default(row.default)
  if (row.choices) option.choices(row.choices)
  else if (range) option.argParser(given => whole(given, range[0], range[1]))
  else if (option.variadic)
    option.argParser((given: string, before: string[] | undefined) => [...(before ?? []), value(given)])
  else if (option.required) option.argParser(value)
  return row.hidden ? option.hideHelp() : option
}

const ABOUT = `Serves container images (RAFS) on demand: to a virtual machine over a vhost-user-fs socket,
or to this host's kernel through FUSE. The image's content is fetched from the backend as it is read,
checked, and kept in a local cache.

Modes:
  virtiofs   serve a virtual machine; the mode when --sock is given
  fuse       serve this host's kernel; the mode when --mountpoint is given
  singleton  serve blob caches to other programs`

const EXAMPLES = `
Examples:
  nydusd --config config.json --bootstrap image.boot --sock vhost.sock
  nydusd virtiofs --sock vhost.sock --apisock api.sock
  nydusd virtiofs --sock vhost.sock --bootstrap image.boot --localfs-dir /var/lib/blobs

and in the guest, with -device vhost-user-fs-pci,chardev=…,tag=nydus on QEMU's command line and shared memory:
  mount -t virtiofs nydus /mnt

Exit status: 0 after SIGTERM, SIGINT or exit through the API, 1 when it cannot start, 2 for a wrong command line.`

function makeCommand(out: (text: string) => void): Command {
  const command = new Command('nydusd')
    .usage(`[${MODES.join('|')}] [options]`)
    .description(ABOUT)
    .argument('[mode]')
    .addHelpText('after', EXAMPLES)
    .helpOption('-h, --help', 'Show this text.')
    .option('-V, --version', 'Show version, commit and time of the build.')
    .exitOverride()
    .configureHelp({ helpWidth: 110, visibleArguments: () => [] })
    .configureOutput({ writeOut: out, writeErr: out })
  for (const row of OPTIONS) command.addOption(makeOption(row))
  return command
}

/** Reads the arguments (without node and script). Throws NydusError START_… for what the reference exits 1 on. */
export function parseCommandLine(argv: readonly string[]): Request {
  let text = ''
  const command = makeCommand(more => (text += more))
  try {
    if (argv.length === 0) command.error('error: nothing to do: give --sock or --mountpoint (see --help)')
    if (argv[0] === 'help') command.help()
    command.parse(argv, { from: 'user' })
    const values: Values = command.opts()
    const word = command.args[0]
    if (values['version'] === true) return { kind: 'version' }
    const { prefetchFiles, mode: swallowed } = splitPrefetch(values['prefetchFiles'], word)
    const mode = word ?? swallowed ?? modeOf(values, command)
    if (!isMode(mode)) return command.error(`error: '${mode}' is not a mode; expected ${MODES.join(', ')}`)
    check(mode, command)
    return { kind: 'run', options: finish(mode, values, prefetchFiles) }
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    return { kind: 'print', exitCode: error.exitCode === 0 ? 0 : 2, text }
  }
}

/** A mode word behind the paths of --prefetch-files was taken for one of them. */
function splitPrefetch(given: unknown, word: string | undefined): { prefetchFiles: string[]; mode?: Mode } {
  const prefetchFiles = Array.isArray(given) ? given.filter(entry => typeof entry === 'string') : []
  const mode = prefetchFiles.find(isMode)
  if (word !== undefined || mode === undefined) return { prefetchFiles }
  return { prefetchFiles: prefetchFiles.filter(entry => entry !== mode), mode }
}

function modeOf(values: Values, command: Command): Mode {
  const { sock, mountpoint } = values
  if (sock !== undefined && mountpoint !== undefined)
    return command.error('error: --sock and --mountpoint exclude each other: one daemon serves one of them')
  if (sock !== undefined) return 'virtiofs'
  if (mountpoint !== undefined) return 'fuse'
  return command.error(
    'error: nowhere to serve: give --sock (vhost-user socket for a virtual machine) or --mountpoint (FUSE)',
  )
}

/** What is wrong whatever the files say: usage errors. */
function check(mode: Mode, command: Command): void {
  const given = (name: string) => command.getOptionValueSource(name) === 'cli'
  for (const row of OPTIONS)
    if (row.modes && !row.modes.includes(mode) && given(attribute(row)))
      command.error(
        `error: ${row.flags.split(/[ ,]+/).find(flag => flag.startsWith('--'))} cannot be used with ${mode}`,
      )
  const need: readonly [boolean, string][] = [
    [mode !== 'virtiofs' || given('sock'), 'virtiofs needs --sock <path>, the socket to listen on'],
    [mode !== 'fuse' || given('mountpoint'), 'fuse needs --mountpoint <dir>'],
    [!(given('bootstrap') && given('sharedDir')), '--bootstrap and --shared-dir exclude each other'],
    [!(given('config') && given('localfsDir')), '--config and --localfs-dir exclude each other'],
    [given('id') === given('supervisor'), '--id and --supervisor go together: one of them is missing'],
    [!given('prefetchFiles') || given('bootstrap'), '--prefetch-files needs --bootstrap'],
  ]
  for (const [fine, problem] of need) if (!fine) command.error(`error: ${problem}`)
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

/** Numbers whose wrong spelling is a start-up failure (exit 1) in the reference. */
function startNumber(given: unknown, flag: string): number {
  const number = /^\d+$/.test(String(given)) ? Number(given) : NaN
  if (Number.isSafeInteger(number)) return number
  throw new NydusError(
    'START_BAD_NUMBER',
    'EINVAL',
    `${flag}: expected a whole number, got "${String(given)}"`,
  )
}

function finish(mode: Mode, values: Values, prefetchFiles: readonly string[]): DaemonOptions {
  const logFile = text(values['logFile'])
  const optional = {
    apisock: text(values['apisock']),
    config: text(values['config']),
    id: text(values['id']),
    supervisor: text(values['supervisor']),
    mountpoint: text(values['mountpoint']),
    sock: text(values['sock']),
    bootstrap: text(values['bootstrap']),
    localfsDir: text(values['localfsDir']),
    sharedDir: text(values['sharedDir']),
    logFile: logFile !== undefined && extname(logFile) === '' ? `${logFile}.log` : logFile,
  }
  return {
    mode,
    ...(Object.fromEntries(Object.entries(optional).filter(([, at]) => at !== undefined)) as {
      [K in keyof typeof optional]?: string
    }),
    upgrade: values['upgrade'] === true,
    writable: values['writable'] === true,
    logLevel: values['logLevel'] as DaemonOptions['logLevel'],
    failoverPolicy: values['failoverPolicy'] as DaemonOptions['failoverPolicy'],
    logRotationMb: startNumber(values['logRotationSize'], '--log-rotation-size'),
    rlimitNofile: startNumber(values['rlimitNofile'], '--rlimit-nofile'),
    fuseThreads: Number(values['fuseThreads'] ?? values['threadNum']),
    virtualMountpoint: String(values['virtualMountpoint']),
    pollUs: Number(values['pollUs']),
    requestQueues: Number(values['requestQueues']),
    lanes: Number(values['lanes']),
    prefetchFiles,
  }
}
