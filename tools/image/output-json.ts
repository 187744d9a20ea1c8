/** `--output-json`: the result in the shape that nydusify and test suites read (nydus-image.md 1). */
import { buildInfo } from '../../lib/daemon/version.js'

export interface Result {
  readonly bootstrap: string
  readonly blobs: readonly string[]
  readonly externalBlobs?: readonly string[]
  /** Seconds by step. */
  readonly times: Readonly<Record<string, number>>
  readonly events: Readonly<Record<string, number | string>>
  readonly version: string
  readonly compressor: string
}

export function outputJson(result: Result): string {
  const { version, commit } = buildInfo()
  const json = {
    version: `v${version}-${commit}`,
    bootstrap: result.bootstrap,
    blobs: result.blobs,
    external_bootstrap: '',
    external_blobs: result.externalBlobs ?? [],
    trace: { consumed_time: result.times, registered_events: result.events },
    fs_version: result.version,
    compressor: result.compressor,
  }
  return `${JSON.stringify(json, null, 2)}\n`
}
