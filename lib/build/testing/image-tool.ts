/** nydus-image as its users run it: the built program, in this process (fast) or in one of its own (signals, stdin). */
import { spawn } from 'node:child_process'
import { realpathSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { projectRoot } from '../../../vm-tests/project.js'

/** The program under test: ours, or the one that NYDUS_IMAGE names. */
export const imageTool = process.env['NYDUS_IMAGE'] ?? join(projectRoot, 'dist/bin/nydus-image')

export interface Ran {
  /** Exit status as a shell gives it: 128 + its number when a signal ended it. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

interface Program {
  main(
    argv: readonly string[],
    io: {
      stdout: { write(text: string): unknown }
      stderr: { write(text: string): unknown }
      env: Record<string, string>
    },
  ): Promise<number>
}

let program: Program | undefined

/** Runs a command in this process; for everything that needs neither stdin nor signals. */
export async function runTool(...argv: readonly string[]): Promise<Ran> {
  program ??= (await import(
    pathToFileURL(join(dirname(realpathSync(imageTool)), '../tools/nydus-image.js')).href
  )) as Program
  const out: string[] = []
  const err: string[] = []
  const code = await program.main(argv, {
    stdout: { write: text => out.push(text) },
    stderr: { write: text => err.push(text) },
    env: {},
  })
  return { code, stdout: out.join(''), stderr: err.join('') }
}

export interface Running {
  kill(signal: NodeJS.Signals): void
  readonly ended: Promise<Ran>
}

/** Starts it in a process of its own; stdin holds `input`. */
export function startTool(
  argv: readonly string[],
  options: { readonly input?: string; readonly cwd?: string; readonly wrapper?: readonly string[] } = {},
): Running {
  const [command = imageTool, ...args] = [...(options.wrapper ?? []), imageTool, ...argv]
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  // A program that ends without reading its input is no failure of the test.
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.input ?? '')
  return {
    kill: signal => void child.kill(signal),
    ended: new Promise((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (code, signal) =>
        resolve({ code: code ?? 128 + constants.signals[signal ?? 'SIGKILL'], stdout, stderr }),
      )
    }),
  }
}

export async function runToolWith(input: string, ...argv: readonly string[]): Promise<Ran> {
  return startTool(argv, { input }).ended
}
