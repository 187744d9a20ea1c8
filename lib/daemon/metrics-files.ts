/** What was noted of single files, in the shapes of http-api.md 4: `metrics/files`, `metrics/pattern`. */
import { METRIC } from '../fuse/abi.js'
import { fileReports, takeLatestRead, type FileReport, type FileTable } from '../fuse/file-records.js'
import type { RafsImage } from '../rafs/image.js'
import { Stretch } from './stretch.js'

/** Counters by inode number (decimal). */
export function filesJson(table: FileTable): Record<string, object> {
  const out: Record<string, object> = {}
  for (const { ino, hits, errors, bytesRead, readSizes } of fileReports(table).values())
    out[ino] = {
      total_fops: hits.reduce((sum, count) => sum + count, 0),
      data_read: bytesRead,
      block_count_read: readSizes,
      fop_hits: hits,
      fop_errors: errors,
    }
  return out
}

/** Runs `[first, last]` and single ones `[ino]` of files read since the last call. */
export function latestJson(table: FileTable): number[][] {
  const runs: number[][] = []
  for (const ino of takeLatestRead(table)) {
    const run = runs.at(-1)
    if (run?.at(-1) === ino - 1) run[1] = ino
    else runs.push([ino])
  }
  return runs
}

/** Files that were read, the first read first. */
function inOrder(table: FileTable): FileReport[] {
  return [...fileReports(table).values()]
    .filter(({ firstRead }) => firstRead > 0)
    .sort((a, b) => a.firstRead - b.firstRead)
}

function patternEntry({ ino, hits, firstRead }: FileReport): object {
  const secs = Math.floor(firstRead / 1000)
  return {
    ino,
    nr_read: hits[METRIC.READ] ?? 0,
    first_access_time_secs: secs,
    first_access_time_nanos: Math.floor((firstRead - secs * 1000) * 1e6),
  }
}

export function patternJson(table: FileTable): object[] {
  return inOrder(table).map(patternEntry)
}

/**
 * As `patternJson`, with `path`: one name of each file. The whole image is looked through for them.
 */
export async function patternWithPaths(table: FileTable, image: RafsImage): Promise<object[]> {
  const reports = inOrder(table)
  const paths = new Map(reports.map(({ ino }): [number, string | undefined] => [ino, undefined]))
  let missing = paths.size
  const stretch = new Stretch()
  for (const { ino, path } of missing > 0 ? image.walk() : []) {
    if (paths.has(ino) && paths.get(ino) === undefined) {
      paths.set(ino, path.toString())
      if (--missing === 0) break
    }
    if (stretch.over) await stretch.rest()
  }
  return reports.flatMap(report => {
    const path = paths.get(report.ino)
    return path === undefined ? [] : [{ ...patternEntry(report), path }]
  })
}
