/**
 * The options of nydusd as a table: names, values, defaults and help come from here, for both epochs at once (the
 * flat form of 2020 and today's modes, design: nydusd.md 1).
 */

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export const MODES = ['virtiofs', 'fuse', 'singleton'] as const
export type Mode = (typeof MODES)[number]

/** A command line, checked as far as that can be done without looking at any file. */
export interface DaemonOptions {
  readonly mode: Mode
  readonly apisock?: string
  readonly config?: string
  readonly id?: string
  readonly supervisor?: string
  readonly upgrade: boolean
  readonly logLevel: LogLevel
  readonly logFile?: string
  /** Megabytes at which the log file is rotated; 0 = never. */
  readonly logRotationMb: number
  /** 0 leaves the limit of open files alone. */
  readonly rlimitNofile: number
  readonly mountpoint?: string
  readonly failoverPolicy: 'none' | 'resend' | 'flush'
  readonly fuseThreads: number
  readonly writable: boolean
  readonly sock?: string
  readonly bootstrap?: string
  readonly localfsDir?: string
  readonly sharedDir?: string
  /** Paths within the image (2020), or one file that lists them (today): see prefetch-files.ts. */
  readonly prefetchFiles: readonly string[]
  readonly virtualMountpoint: string
  readonly pollUs: number
  readonly requestQueues: number
  readonly lanes: number
}

export interface OptionRow {
  /** As Commander wants it: `-A, --apisock <path>`. */
  readonly flags: string
  /** Modes it belongs to; absent: all. */
  readonly modes?: readonly Mode[]
  readonly help: string
  readonly group: 'Options for all modes' | 'Where to serve' | 'What to serve at the start' | 'Tuning'
  readonly default?: string | number
  readonly choices?: readonly string[]
  /** Whole number within these bounds; anything else is a usage error. */
  readonly range?: readonly [min: number, max: number]
  /** Accepted, because clients pass it; not shown. */
  readonly hidden?: boolean
}

const SERVING = ['virtiofs', 'fuse'] as const

export const OPTIONS: readonly OptionRow[] = [
  {
    flags: '--sock <path>',
    modes: ['virtiofs'],
    group: 'Where to serve',
    help: 'UNIX socket to listen on for the vhost-user front-end of a virtual machine (QEMU, Cloud Hypervisor). At most 107 bytes long. The file appears as soon as a front-end can connect, with mode 0600.',
  },
  {
    flags: '-M, --mountpoint <dir>',
    modes: ['fuse'],
    group: 'Where to serve',
    help: "Folder to mount on in this host's own kernel, through FUSE.",
  },
  {
    flags: '-B, --bootstrap <file>',
    modes: SERVING,
    group: 'What to serve at the start',
    help: 'Metadata file of a RAFS image (v5 or v6). Without it the daemon starts with an empty root and waits for mounts through its API. Needs --config or --localfs-dir.',
  },
  {
    flags: '-D, --localfs-dir <dir>',
    modes: SERVING,
    group: 'What to serve at the start',
    help: 'Instead of --config: blobs are files in this folder, and it is the cache as well.',
  },
  {
    flags: '-s, --shared-dir <dir>',
    modes: SERVING,
    group: 'What to serve at the start',
    help: 'Show a folder of this host instead of an image.',
  },
  {
    flags: '-m, --virtual-mountpoint <path>',
    modes: SERVING,
    group: 'What to serve at the start',
    default: '/',
    help: 'Where the image appears within the file system that is served.',
  },
  {
    flags: '--prefetch-files <path...>',
    modes: SERVING,
    group: 'What to serve at the start',
    help: 'Files and folders of the image to fetch ahead: either a file on this host that lists absolute paths, one a line, or the absolute paths themselves.',
  },
  {
    flags: '-C, --config <file>',
    group: 'Options for all modes',
    help: 'Configuration, v1 (JSON) or v2 (TOML or JSON): storage backend, cache, prefetch. IMAGE_PULL_AUTH in the environment replaces the credentials of its registry.',
  },
  {
    flags: '-A, --apisock <path>',
    group: 'Options for all modes',
    help: 'UNIX socket of the HTTP API. The file appears when the daemon serves. No API without it.',
  },
  {
    flags: '--id <name>',
    group: 'Options for all modes',
    help: 'Name of this daemon, as the API tells it. Goes with --supervisor.',
  },
  {
    flags: '--supervisor <path>',
    group: 'Options for all modes',
    help: 'UNIX socket of the process that keeps the state of this daemon for its successor. Goes with --id.',
  },
  {
    flags: '--upgrade',
    group: 'Options for all modes',
    help: 'Start as the successor of a running daemon: wait until told through the API to take over.',
  },
  {
    flags: '-l, --log-level <level>',
    group: 'Options for all modes',
    default: 'info',
    choices: LOG_LEVELS,
    help: 'How much to log. The API can change it later.',
  },
  {
    flags: '-L, --log-file <file>',
    group: 'Options for all modes',
    help: 'Append the log to this file instead of stderr; `.log` is added to a name without an extension.',
  },
  {
    flags: '--log-rotation-size <MB>',
    group: 'Options for all modes',
    default: 0,
    help: 'Start a fresh log file when it has this size; the last 10 are kept, compressed. 0: never.',
  },
  {
    flags: '--rlimit-nofile <n>',
    group: 'Options for all modes',
    default: 1_000_000,
    help: 'Open files to allow. Where the system does not let the limit be raised that far, the highest possible is used. 0: leave the limit alone.',
  },
  {
    flags: '--request-queues <n>',
    modes: ['virtiofs'],
    group: 'Tuning',
    default: 8,
    range: [1, 64],
    help: 'Request queues to offer; the front-end takes as many as it wants (num-request-queues in QEMU).',
  },
  {
    flags: '--lanes <n>',
    modes: SERVING,
    group: 'Tuning',
    default: 1,
    range: [1, 64],
    help: 'Threads that answer requests. More than one helps only where processors are idle.',
  },
  {
    flags: '--poll-us <µs>',
    modes: ['virtiofs'],
    group: 'Tuning',
    default: 50,
    range: [0, 10_000],
    help: 'Upper bound of busy waiting for the next request, in microseconds, before a lane sleeps. It adapts itself to the load; an idle daemon takes no processor time. 0: never wait busily.',
  },
  {
    flags: '--fuse-threads, --thread-num <n>',
    modes: SERVING,
    group: 'Tuning',
    default: 4,
    range: [1, 1024],
    help: 'Accepted for command lines written for other releases; --lanes is what counts.',
  },
  {
    flags: '--failover-policy <policy>',
    modes: SERVING,
    group: 'Tuning',
    default: 'resend',
    choices: ['none', 'resend', 'flush'],
    help: 'FUSE mode: what happens to requests that a crashed predecessor had read but not answered.',
  },
  {
    flags: '--writable',
    modes: ['fuse'],
    group: 'Tuning',
    help: 'Mount read-write, for configurations with an overlay.',
  },
  { flags: '--hybrid-mode', modes: SERVING, group: 'Tuning', hidden: true, help: '' },
  { flags: '--backend-source <url>', group: 'Tuning', hidden: true, help: '' },
  { flags: '--dedup-db <file>', modes: SERVING, group: 'Tuning', hidden: true, help: '' },
  { flags: '-F, --fscache <dir>', modes: ['singleton'], group: 'Tuning', hidden: true, help: '' },
  { flags: '--fscache-tag <name>', modes: ['singleton'], group: 'Tuning', hidden: true, help: '' },
  { flags: '--fscache-threads <n>', modes: ['singleton'], group: 'Tuning', hidden: true, help: '' },
]
