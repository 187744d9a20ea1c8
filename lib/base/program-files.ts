/**
 * Where a running program finds its own files. It runs in one of three shapes: as sources (unit tests), compiled file by
 * file (`dist/lib`), or bundled (`dist/run`, see scripts/bundle.mjs), where all modules share the URL of their loader,
 * `dist/run/NAME.cjs`.
 */
import { basename, dirname, extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const file = fileURLToPath(import.meta.url)
const bundled = extname(file) === '.cjs'

/** The folder that holds `lib/` or `run/`: the project's for sources, `dist` for what was built. */
export const programFolder = join(dirname(file), bundled ? '..' : '../..')

/** Modules that are the start of a Worker, by their path in lib/. */
export type WorkerModule = 'fuse/lane-worker' | 'image/export-worker'

/** What to start a Worker with. */
export function workerEntry(module: WorkerModule): URL {
  return new URL(bundled ? `./${basename(module)}.cjs` : `../${module}${extname(file)}`, import.meta.url)
}
