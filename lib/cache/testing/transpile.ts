/**
 * The sources as plain JavaScript in another folder, for tests that start many processes: loading TypeScript takes
 * a second of CPU each time.
 */
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

const PROJECT = fileURLToPath(new URL('../../../', import.meta.url))

/** Writes `lib` (without tests) below `dir`, which must lie in the project (for its node_modules); returns the copy of `file`. */
export function transpileLib(dir: string, file: string): string {
  for (const name of readdirSync(join(PROJECT, 'lib'), { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.ts') || name.endsWith('.test.ts')) continue
    const { outputText } = ts.transpileModule(readFileSync(join(PROJECT, 'lib', name), 'utf8'), {
      compilerOptions: {
        module: ts.ModuleKind.ESNext,
        target: ts.ScriptTarget.ES2022,
        verbatimModuleSyntax: true,
      },
    })
    const out = join(dir, 'lib', name.replace(/\.ts$/, '.js'))
    mkdirSync(dirname(out), { recursive: true })
    writeFileSync(out, outputText)
  }
  for (const shared of ['build', 'vm-tests', 'package.json'])
    symlinkSync(join(PROJECT, shared), join(dir, shared))
  return join(dir, relative(PROJECT, file).replace(/\.ts$/, '.js'))
}
