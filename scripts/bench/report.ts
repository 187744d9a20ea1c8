/** Tables and ratios out of samples. */
import { LOADS } from './loads.js'
import type { HotReport, Sample } from './hot.js'

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? NaN)
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2
}

/** Median over the rounds of one figure against the same figure of `other` in the same round. */
function ratio(
  samples: readonly Sample[],
  load: string,
  server: string,
  other: string,
  figure: 'rate' | 'p50',
): number {
  const of = (name: string): Map<number, number> =>
    new Map(samples.filter(s => s.load === load && s.server === name).map(s => [s.round, s[figure]]))
  const theirs = of(other)
  return median(
    [...of(server)].flatMap(([round, value]) => {
      const reference = theirs.get(round)
      return reference === undefined ? [] : [value / reference]
    }),
  )
}

const si = (n: number): string => (n >= 1e6 ? `${(n / 1e6).toFixed(2)} M/s` : `${(n / 1e3).toFixed(1)} k/s`)

export function hotTable(report: HotReport): string {
  const { samples } = report
  const servers = [...new Set(samples.map(s => s.server))]
  const width = Math.max(...servers.map(name => name.length))
  const lines: string[] = []
  for (const load of LOADS) {
    if (!samples.some(s => s.load === load.name)) continue
    lines.push(load.name)
    for (const server of servers) {
      const own = samples.filter(s => s.load === load.name && s.server === server)
      if (own.length === 0) continue
      const m = (field: 'rate' | 'p50' | 'p99' | 'p999' | 'cpu' | 'kicks' | 'interrupts'): number =>
        median(own.map(s => s[field]))
      const against = (other: string): string =>
        server === other || !servers.includes(other)
          ? ''
          : ` ${ratio(samples, load.name, server, other, load.figure).toFixed(2)}x`
      const queues = server.startsWith('nydus-ts ') ? against('nydus-ts') : ''
      lines.push(
        `  ${server.padEnd(width)} ${si(m('rate')).padStart(10)}  p50 ${(m('p50') / 1000).toFixed(1).padStart(7)} µs  p99 ${(m('p99') / 1000).toFixed(0).padStart(6)} µs  ` +
          `cpu ${m('cpu').toFixed(2).padStart(6)} µs  kicks ${m('kicks').toFixed(3)}  irqs ${m('interrupts').toFixed(3)}  ${load.figure}${against('nydusd')}${queues && `, of one queue${queues}`}`,
      )
    }
    if (load.wanted !== undefined && servers.includes('nydusd')) {
      const reached = ratio(samples, load.name, 'nydus-ts', 'nydusd', load.figure)
      const ok = load.figure === 'rate' ? reached >= load.wanted : reached <= load.wanted
      lines.push(
        `  wanted ${load.figure === 'rate' ? 'at least' : 'at most'} ${load.wanted}x of nydusd: ${reached.toFixed(2)}x, ${ok ? 'reached' : 'MISSED'}`,
      )
    }
  }
  for (const [server, bytes] of Object.entries(report.resident))
    lines.push(
      `resident ${server}: ${(bytes.all / 2 ** 20).toFixed(0)} MiB, of these ${(bytes.anonymous / 2 ** 20).toFixed(0)} MiB anonymous`,
    )
  for (const reason of report.missing) lines.push(`left out: ${reason}`)
  return lines.join('\n')
}
