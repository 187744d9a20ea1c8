/**
 * Which build this is. The commit must be the same text in `--version` and in the API: the snapshotter compares
 * the two at its start and upgrades every daemon that differs (nydusd.md 6.3).
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { programFolder } from '../base/program-files.js'

export interface BuildInfo {
  /** As in package.json. */
  readonly version: string
  /** 40 hex digits, or `unknown` when built outside a git repository. */
  readonly commit: string
  /** ISO 8601, UTC. */
  readonly time: string
  readonly profile: 'release' | 'source'
}

function readField(path: string, field: string): string | undefined {
  try {
    const value = (JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>)[field]
    return typeof value === 'string' ? value : undefined
  } catch {
    return undefined
  }
}

/** scripts/link-bins leaves dist/build-info.json; from the sources there is none. */
export function buildInfo(): BuildInfo {
  const built = join(programFolder, 'build-info.json')
  const version = readField(built, 'version')
  return {
    version: version ?? readField(join(programFolder, 'package.json'), 'version') ?? 'unknown',
    commit: readField(built, 'commit') ?? 'unknown',
    time: readField(built, 'time') ?? 'unknown',
    profile: version === undefined ? 'source' : 'release',
  }
}

/** What runs the program; it stands where clients expect the version of a Rust compiler. */
export function runtime(): string {
  return `node ${process.version}`
}

/** `--version`: clients look for `Version:` and `Git Commit:` at the start of a line. */
export function versionText(info: BuildInfo): string {
  const lines = [
    ['Version:', `v${info.version}`],
    ['Git Commit:', info.commit],
    ['Build Time:', info.time],
    ['Profile:', info.profile],
    ['Rustc:', runtime()],
  ] as const
  return lines.map(([name, value]) => `${name} \t${value}\n`).join('')
}
