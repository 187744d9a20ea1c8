/** Counters as the API shows them (http-api.md 4): collected when someone asks, never before. */
import { backendMetricsJson } from '../backend/metrics.js'
import { NydusError } from '../base/errors.js'
import { METRIC, METRIC_COUNT, OP } from '../fuse/abi.js'
import { totalsOf } from '../fuse/counters.js'
import type { ColdReads } from '../vfs/cold-reads.js'
import type { Metrics } from './control.js'
import type { Images } from './images.js'
import type { Instances, Mounted } from './instances.js'
import { filesJson, latestJson, patternJson, patternWithPaths } from './metrics-files.js'

function noCounter(id: string | undefined): NydusError {
  const what = id === undefined ? 'there is not exactly one; name it by ?id=' : `there is none for id ${id}`
  return new NydusError('METRICS_NO_COUNTER', 'ENOENT', `counters: ${what}`)
}

/** Reads that lanes answered without waiting. */
function warmReads({ mount }: Mounted): number {
  const { hits, deferred } = totalsOf(mount.counters)
  return (hits[METRIC.READ] ?? 0) - deferred
}

export class DaemonMetrics implements Metrics {
  readonly #instances: Instances
  readonly #images: Images

  readonly #coldReads: ColdReads

  constructor(instances: Instances, images: Images, coldReads: ColdReads) {
    this.#instances = instances
    this.#images = images
    this.#coldReads = coldReads
  }

  #find(id: string | undefined): Mounted {
    const all = this.#instances.list()
    const found = id === undefined ? all : all.filter(({ mount }) => mount.path === id)
    const [only] = found
    if (found.length !== 1 || only === undefined) throw noCounter(id)
    return only
  }

  global(id?: string): object {
    const mounted = this.#find(id)
    const { mount, instance } = mounted
    const { rafs } = instance.config
    const totals = totalsOf(mount.counters)
    const { buckets, totalMs } = instance.latency
    const [atOnce = 0, ...later] = buckets
    const latency = new Array<number>(METRIC_COUNT).fill(0)
    latency[METRIC.READ] = Math.round(totalMs * 1000)
    return {
      files_account_enabled: rafs.iostats_files,
      measure_latency: true,
      id: mount.path,
      // Opens are not asked for (FUSE no_open): nobody knows how many files are open.
      nr_opens: 0,
      data_read: totals.bytesRead,
      block_count_read: totals.readSizes,
      fop_hits: totals.hits,
      fop_errors: totals.errors,
      fop_cumulative_latency_total: latency,
      read_latency_dist: [atOnce + warmReads(mounted), ...later],
      access_pattern_enabled: rafs.access_pattern,
      record_latest_read_files_enabled: rafs.latest_read_files,
    }
  }

  files(id: string | undefined, latest: boolean): object {
    const { files, config } = this.#find(id).instance
    const { iostats_files, latest_read_files } = config.rafs
    if (latest) return files !== undefined && latest_read_files ? latestJson(files) : []
    return files !== undefined && iostats_files ? filesJson(files) : {}
  }

  pattern(id: string | undefined, paths: boolean): object | Promise<object> {
    const { files, config, image } = this.#find(id).instance
    if (files === undefined || !config.rafs.access_pattern) throw noCounter(id)
    return paths ? patternWithPaths(files, image) : patternJson(files)
  }

  backend(id?: string): object {
    return backendMetricsJson(this.#find(id).instance.backend)
  }

  blobcache(id?: string): object {
    const metrics = this.#images.cacheMetrics(id)
    if (metrics === undefined) throw noCounter(id)
    const mounts = this.#instances
      .list()
      .filter(({ instance }) => id === undefined || instance.config.id === id)
    return metrics.json(mounts.reduce((sum, mounted) => sum + warmReads(mounted), 0))
  }

  /** Reads that wait for the backend: nothing else takes longer than asking for it. */
  inflight(): readonly object[] {
    return this.#coldReads.pending().map(({ ino, ticket, since }) => ({
      inode: ino,
      opcode: OP.READ,
      unique: ticket,
      timestamp_secs: Math.floor((performance.timeOrigin + since) / 1000),
    }))
  }
}
