/** Archives as GNU tar unpacks them. */
import { execFileSync } from 'node:child_process'

/** Unpacks into a folder that is there. As root: owners, devices and trusted xattrs come out as well. */
export function extract(archive: string, into: string): void {
  const whole = ['--xattrs', '--xattrs-include=*', '--numeric-owner', '--warning=no-timestamp']
  execFileSync('tar', [...whole, '-xpf', archive, '-C', into])
}
