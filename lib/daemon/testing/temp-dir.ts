import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A folder with a path short enough for sockets (tap's own are not); gone when the test ends. */
export function tempDir(t: { teardown(end: () => void): void }): string {
  const dir = mkdtempSync(join(tmpdir(), 'nydusd-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}
