/**
 * FUSE requests that a guest's kernel sends for what containers do, counted in the guest, so that it is the same count
 * for every server: a probe on the kernel's own trace point, and a histogram by opcode. Requests for the root itself
 * (node 1) are kept apart, since another image may be mounted there at any time.
 *
 *     one guest ── a device for each server ── mount, first run, second run, unmount
 *
 * FORGETs are not counted: they are no requests (nobody waits for an answer), and the trace point does not see them.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { OPCODES } from '../../lib/fuse/abi.js'
import type { Guest } from '../../vm-tests/guest/guest.js'
import { bootGuest } from '../../vm-tests/vm.js'
import { debianTree, rafsImage } from './rootfs.js'
import { Server, SERVERS } from './servers.js'

export interface RequestsOptions {
  /** Folder of a root file system with python3 and gcc; made by debootstrap when empty. */
  readonly tree: string
  /** RAFS version of the image. */
  readonly fsVersion: number
  /** Only workloads whose name contains this. */
  readonly only: string
  /** Only the server with exactly this name. */
  readonly server: string
  /** Options of mount(8). */
  readonly mount: string
  /** More arguments for our nydusd. */
  readonly serverArguments: readonly string[]
}

export type Counts = Readonly<Record<string, number>>

export interface RequestsSample {
  readonly workload: string
  readonly server: string
  readonly run: 1 | 2
  /** By operation, for the root and for what lies below it. */
  readonly root: Counts
  readonly below: Counts
}

const PACKAGES = 'python3,gcc'
const PROBE = 'nydus/request'
const TRACING = '/sys/kernel/tracing'
/** Needs the compiler and the assembler, but no headers of a C library. */
const SOURCE = '#include <stddef.h>\\nsize_t answer(size_t x) { return 6 * x; }\\n'
/** A memory that keeps all pages of a workload, so that a second run asks for none again. */
const MEMORY_MIB = 2048
const RUN_MS = 600_000

/** What is run below the image's root, and what its output has to contain. */
const WORKLOADS = [
  { name: 'ls -lR', command: 'ls -lR / >/tmp/list; tail -n 1 /tmp/list | wc -l', shows: '1' },
  { name: 'python start', command: `python3 -c 'print(6*7)'`, shows: '42' },
  {
    name: 'compile',
    command: `printf '${SOURCE}' >/tmp/a.c && gcc -O1 -c -o /tmp/a.o /tmp/a.c && nm /tmp/a.o`,
    shows: 'T answer',
  },
] as const

const NAMES = new Map(OPCODES.map(({ code, name }) => [code, name]))

/** `root` and `below` counted from now on. */
async function startCounting(guest: Guest): Promise<void> {
  const trigger = `${TRACING}/events/${PROBE}/trigger`
  const words = ['nodeid == 1', 'nodeid != 1'].map(filter => `hist:keys=opcode if ${filter}`)
  const lines = words.flatMap(word => [
    `echo '!${word}' >>${trigger} 2>/dev/null`,
    `echo '${word}' >>${trigger}`,
  ])
  await guest.sh(lines.join('\n'))
}

/** What was counted since startCounting. */
async function counted(guest: Guest): Promise<Pick<RequestsSample, 'root' | 'below'>> {
  const counts = { root: {} as Record<string, number>, below: {} as Record<string, number> }
  let into: Record<string, number> | undefined
  for (const line of (await guest.sh(`cat ${TRACING}/events/${PROBE}/hist`)).split('\n')) {
    const filter = /^# trigger info: .* if nodeid ([!=])= 1/.exec(line)
    if (filter !== null) into = filter[1] === '=' ? counts.root : counts.below
    const entry = /^\{ opcode:\s*(\d+) \} hitcount:\s*(\d+)/.exec(line)
    if (entry === null || into === undefined) continue
    into[NAMES.get(Number(entry[1])) ?? `operation ${entry[1]}`] = Number(entry[2])
  }
  return counts
}

/** Runs `command` in the image, however long it takes; its output. */
async function run(guest: Guest, command: string): Promise<string> {
  const script = `cd /; ${command}`
  await guest.sh(
    `rm -f /run/ended; { chroot /mnt /bin/sh -c "$(cat <<'EOF'\n${script}\nEOF\n)" >/run/output 2>&1; echo $? >/run/code; mv /run/code /run/ended; } >/dev/null 2>&1 &`,
  )
  const deadline = Date.now() + RUN_MS
  for (;;) {
    const { code, output } = await guest.trySh('cat /run/ended')
    if (code === 0) {
      const printed = await guest.sh('cat /run/output')
      if (output.trim() === '0') return printed
      throw new Error(`in the guest: ${command}: exit code ${output.trim()}: ${printed}`)
    }
    if (Date.now() > deadline) throw new Error(`in the guest: ${command}: no end after ${RUN_MS / 1000} s`)
    await sleep(100)
  }
}

export async function runRequests(
  cache: string,
  options: RequestsOptions,
  say: (line: string) => void,
): Promise<readonly RequestsSample[]> {
  const tree = options.tree === '' ? join(cache, 'tree') : options.tree
  mkdirSync(cache, { recursive: true })
  say('the root file system and its image')
  debianTree(tree, PACKAGES)
  const image = rafsImage(cache, tree, ['--fs-version', String(options.fsVersion)])
  const folder = mkdtempSync(join(tmpdir(), 'nydus-requests-'))
  const servers: Server[] = []
  const samples: RequestsSample[] = []
  let guest: Guest | undefined
  try {
    for (const kind of SERVERS)
      if (kind.missing === undefined && (options.server === '' || options.server === kind.name))
        servers.push(
          await Server.start(
            kind,
            { ...image, folder: tree },
            folder,
            kind.name === 'nydus-ts' ? options.serverArguments : [],
          ),
        )
    say('the guest boots')
    const fs = servers.map(({ kind, socket }) => ({ socket, tag: kind.name }))
    guest = await bootGuest({ fs, memoryMiB: MEMORY_MIB })
    await guest.sh(`mount -t tracefs tracefs ${TRACING}
      echo 't:${PROBE} fuse_request_send opcode=req->in.h.opcode nodeid=req->in.h.nodeid' >>${TRACING}/dynamic_events`)
    for (const { name, command, shows } of WORKLOADS.filter(({ name }) => name.includes(options.only)))
      for (const { kind } of servers) {
        await guest.sh(`mount -t virtiofs -o ${options.mount} ${kind.name} /mnt`)
        await guest.sh('mount -t tmpfs tmpfs /mnt/tmp && mount --bind /dev /mnt/dev')
        for (const round of [1, 2] as const) {
          say(`${name}, run ${round}, ${kind.name}`)
          await startCounting(guest)
          const output = await run(guest, command)
          samples.push({ workload: name, server: kind.name, run: round, ...(await counted(guest)) })
          if (!output.includes(shows)) throw new Error(`${kind.name}: ${command} printed ${output}`)
        }
        await guest.sh('umount /mnt/dev && umount /mnt/tmp && umount /mnt')
      }
  } finally {
    await guest?.machine.kill()
    for (const server of servers) await server.stop()
    rmSync(folder, { recursive: true, force: true })
  }
  return samples
}

const total = (counts: Counts): number => Object.values(counts).reduce((sum, count) => sum + count, 0)
const all = (sample: RequestsSample): number => total(sample.root) + total(sample.below)

export function requestsTable(samples: readonly RequestsSample[]): string {
  const servers = [...new Set(samples.map(sample => sample.server))]
  const lines: string[] = []
  for (const workload of new Set(samples.map(sample => sample.workload)))
    for (const run of [1, 2] as const) {
      const own = servers.map(server =>
        samples.find(s => s.workload === workload && s.run === run && s.server === server),
      )
      const row = (name: string, count: (sample: RequestsSample) => number): string =>
        `  ${name.padEnd(22)}` +
        own.map(sample => String(sample === undefined ? '-' : count(sample)).padStart(11)).join('')
      lines.push(
        `${workload}, ${run === 1 ? 'first' : 'second'} run`.padEnd(24) +
          servers.map(server => server.padStart(11)).join(''),
      )
      const names = new Set(own.flatMap(s => Object.keys({ ...s?.root, ...s?.below })))
      for (const name of [...names].sort())
        lines.push(row(name, ({ root, below }) => (root[name] ?? 0) + (below[name] ?? 0)))
      lines.push(
        row('all', all),
        row('of these for the root', ({ root }) => total(root)),
      )
      lines.push(
        ...judged(
          own.filter(sample => sample !== undefined),
          run,
        ),
      )
    }
  return lines.join('\n')
}

/** What is wanted of ours: the lowest count, and in a second run nothing below the root. */
function judged(row: readonly RequestsSample[], run: 1 | 2): string[] {
  const ours = row.find(({ server }) => server === 'nydus-ts')
  if (ours === undefined) return []
  const theirs = row.filter(sample => sample !== ours).map(all)
  const verdict = (reached: boolean): string => (reached ? 'reached' : 'MISSED')
  return [
    ...(theirs.length > 0 ? [`  ours the lowest: ${verdict(all(ours) <= Math.min(...theirs))}`] : []),
    ...(run === 2 ? [`  nothing below the root: ${verdict(total(ours.below) === 0)}`] : []),
  ]
}
