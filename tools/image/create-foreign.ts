/** `create` of images that hold no data of their own but refer to a file as it is (nydus-image.md 2.1). */
import { NydusError } from '../../lib/base/errors.js'
import type { Created, CreateOptions, CreateProgress } from '../../lib/build/create.js'

export const FOREIGN_TYPES = [
  'targz-ref',
  'estargz-ref',
  'estargztoc-ref',
  'stargz_index',
  'tar-tarfs',
] as const
export type ForeignType = (typeof FOREIGN_TYPES)[number]

export function isForeign(type: string): type is ForeignType {
  return FOREIGN_TYPES.some(known => known === type)
}

/** What of the command line such a build looks at. */
export interface ForeignOptions extends Pick<
  CreateOptions,
  | 'source'
  | 'version'
  | 'chunkSize'
  | 'toc'
  | 'inlineMeta'
  | 'prefetchPaths'
  | 'blob'
  | 'bootstrap'
  | 'parent'
  | 'chunkDict'
  | 'whiteoutSpec'
> {
  readonly blobId: string | undefined
  /** Bytes of the layer that a table of contents belongs to. */
  readonly blobDataSize: number | undefined
  /** Options that were given and have no meaning for what is refered to, by name. */
  readonly refused: readonly string[]
}

/** Tables of contents are made with chunks of 4 MiB. */
export function defaultChunkSize(type: string): number {
  return type === 'estargztoc-ref' || type === 'stargz_index' ? 0x40_0000 : 0x10_0000
}

/** Compressor of the image's data, for reports. */
export function foreignCompressor(type: ForeignType): 'gzip' | 'none' {
  return type === 'tar-tarfs' ? 'none' : 'gzip'
}

function usage(text: string): NydusError {
  return new NydusError('CLI_USAGE', 'EINVAL', text)
}

export async function createForeign(
  type: ForeignType,
  options: ForeignOptions,
  progress: CreateProgress,
): Promise<Created> {
  if (options.version !== 6) throw usage(`--type ${type} needs --fs-version 6`)
  for (const option of options.refused)
    throw usage(`conversion type \`${type}\` conflicts with \`${option}\``)
  if (type === 'tar-tarfs') {
    if (options.bootstrap === undefined)
      throw usage(`conversion type \`${type}\` conflicts with \`--blob-inline-meta\``)
    const { createTarfs } = await import('../../lib/build/create-tarfs.js')
    return await createTarfs({ ...options, bootstrap: options.bootstrap }, progress)
  }
  if (type === 'targz-ref' || type === 'estargz-ref') {
    if (options.blobId !== undefined) throw usage(`conversion type \`${type}\` conflicts with \`--blob-id\``)
    const { createReference } = await import('../../lib/build/create-ref.js')
    return await createReference({ ...options, estargz: type === 'estargz-ref' }, progress)
  }
  const { blobId, blobDataSize } = options
  if (blobId === undefined || !/^[0-9a-f]{64}$/.test(blobId))
    throw usage(`--type ${type} needs --blob-id: the sha256 of the layer, 64 hex digits`)
  if (blobDataSize === undefined) throw usage(`--type ${type} needs --blob-data-size: the bytes of the layer`)
  const { createFromToc } = await import('../../lib/build/create-toc.js')
  return await createFromToc({ ...options, blobId, blobDataSize }, progress)
}
