/** What the kernel holds for a process. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

export interface Resources {
  readonly descriptors: number
  readonly sockets: number
  readonly threads: number
}

export function resourcesOf(pid: number): Resources {
  let descriptors = 0
  let sockets = 0
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    let target: string
    try {
      target = readlinkSync(`/proc/${pid}/fd/${fd}`)
    } catch {
      // Closed meanwhile.
      continue
    }
    descriptors++
    if (target.startsWith('socket:')) sockets++
  }
  return { descriptors, sockets, threads: readdirSync(`/proc/${pid}/task`).length }
}

function statusKiB(pid: number, field: string): number {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))
  if (line?.[1] === undefined) throw new RangeError(`/proc/${pid}/status has no ${field}`)
  return Number(line[1])
}

export function residentKiB(pid: number): number {
  return statusKiB(pid, 'VmRSS')
}

/** Memory of the process's own; pages of files that it has mapped come and go with what is read. */
export function anonymousKiB(pid: number): number {
  return statusKiB(pid, 'RssAnon')
}
