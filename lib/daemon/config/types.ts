/** What every form of configuration decodes to: the shape and the names of v2, complete and frozen. */
import type { BackendConfig } from '../../backend/backend.js'
import type { CacheConfig, PrefetchConfig } from '../../cache/cache.js'

export const BACKEND_TYPES = ['localfs', 'localdisk', 'oss', 's3', 'registry', 'http-proxy'] as const
export type BackendType = BackendConfig['type']

export interface PrefetchSettings extends PrefetchConfig {
  /** Whole blobs without ranges through a P2P proxy; read, echoed, without effect. */
  readonly stream_prefetch: boolean
}

export interface CacheSettings extends CacheConfig {
  readonly prefetch: PrefetchSettings
  readonly filecache?: {
    readonly work_dir: string
    readonly disable_indexed_map: boolean
    /** Bytes that the folder may take; 0 = no limit. Not known to the reference. */
    readonly size_limit: number
    readonly enable_encryption: boolean
    readonly enable_convergent_encryption: boolean
    readonly encryption_key: string
  }
  readonly fscache?: { readonly work_dir: string }
}

export interface RafsSettings {
  readonly mode: 'direct' | 'cached'
  /** Bytes that a guest's read may be grown to, in whole chunks (`amplify_io` of v1); 0 = off. */
  readonly batch_size: number
  /** `digest_validate` of v1. */
  readonly validate: boolean
  readonly enable_xattr: boolean
  readonly iostats_files: boolean
  readonly access_pattern: boolean
  readonly latest_read_files: boolean
  readonly prefetch: PrefetchSettings
}

/**
 * Settings that the reference adds (`config`, for those that `type` and `patch` choose) to backends that an image itself names for
 * its EXTERNAL blobs. No image that is served here names any: shown by the API, and told in the log as having no effect.
 */
export interface ExternalBackend {
  readonly patch: Readonly<Record<string, string>>
  readonly type: string
  readonly config: Readonly<Record<string, string>>
}

export interface NydusConfig {
  readonly version: 2
  /** `device.id` of v1: names the cache in metrics, and is the key of settings that change while running. */
  readonly id: string
  readonly backend: BackendConfig
  readonly external_backends: readonly ExternalBackend[]
  readonly cache: CacheSettings
  readonly rafs: RafsSettings
  /** Folders that make the instance writable. */
  readonly overlay?: { readonly upper_dir: string; readonly work_dir: string }
}
