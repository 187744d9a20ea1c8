/**
 * Files under temporary names that must not survive the process: whoever writes one notes it here and forgets it
 * once it has its final name; a program that is told to stop removes what is noted.
 */
import { rmSync } from 'node:fs'

const noted = new Set<string>()

export const temporaryFiles = {
  note(path: string): void {
    noted.add(path)
  },
  forget(path: string): void {
    noted.delete(path)
  },
  /** Synchronous: for the last moments of a process. */
  removeAll(): void {
    for (const path of noted) rmSync(path, { force: true })
    noted.clear()
  },
}
