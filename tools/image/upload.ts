/** `create --backend-type`: brings the new blob to where daemons will read it from (nydus-image.md 4). */
import { copyFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { BackendConfig } from '../../lib/backend/backend.js'
import { explain, NydusError } from '../../lib/base/errors.js'
import { temporaryFiles } from '../../lib/base/temporary-files.js'
import { typedConfig, type BackendValues } from './backend-option.js'

/** Uploads the file at `path` as the blob `id`. */
export type Upload = (id: string, path: string) => Promise<void>

function failed(id: string, where: string, error: unknown): NydusError {
  return new NydusError(
    'BUILD_UPLOAD',
    'EIO',
    `blob ${id} could not be uploaded to ${where}: ${explain(error)}`,
    {
      cause: error,
    },
  )
}

/** Throws CLI_USAGE, CONFIG_* for settings that cannot work. */
export async function openUpload(type: string, values: BackendValues): Promise<Upload> {
  const config = await typedConfig(type, values)
  switch (config.type) {
    case 'localfs':
      return toFolder(config)
    case 'oss':
      return toOss(config)
    case 'registry': {
      const { toRegistry } = await import('./upload-registry.js')
      return toRegistry(config.registry)
    }
    default:
      throw new NydusError(
        'CLI_USAGE',
        'EINVAL',
        `blobs cannot be uploaded to a backend of type ${config.type}`,
      )
  }
}

function toFolder({ localfs }: Extract<BackendConfig, { type: 'localfs' }>): Upload {
  return async (id, path) => {
    const target = localfs.blob_file === '' ? join(localfs.dir, id) : localfs.blob_file
    const temporary = `${target}.${process.pid}.tmp`
    temporaryFiles.note(temporary)
    try {
      await copyFile(path, temporary)
      await rename(temporary, target)
    } catch (error) {
      await rm(temporary, { force: true })
      throw failed(id, target, error)
    } finally {
      temporaryFiles.forget(temporary)
    }
  }
}

async function toOss({ oss }: Extract<BackendConfig, { type: 'oss' }>): Promise<Upload> {
  const { default: Oss } = await import('ali-oss')
  const secure = oss.scheme !== 'http'
  const client = new Oss({
    endpoint: `${secure ? 'https' : 'http'}://${oss.endpoint.replace(/^https?:\/\//, '')}`,
    bucket: oss.bucket_name,
    accessKeyId: oss.access_key_id,
    accessKeySecret: oss.access_key_secret,
    secure,
  })
  return async (id, path) => {
    try {
      // In parts, so that one broken connection costs one part.
      await client.multipartUpload(`${oss.object_prefix}${id}`, path, {})
    } catch (error) {
      throw failed(id, `oss bucket ${oss.bucket_name} at ${oss.endpoint}`, error)
    }
  }
}
