/** Where the project's files are, whether a test runs from the sources or a program from dist/. */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

function find(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : find(dirname(folder))
}

/** The folder of package.json. */
export const projectRoot = find(dirname(fileURLToPath(import.meta.url)))
