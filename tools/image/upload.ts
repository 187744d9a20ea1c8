/** `create --backend-type`: brings the new blob to where daemons will read it from (nydus-image.md 4). */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { copyFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { BackendConfig } from '../../lib/backend/backend.js'
import { explain, NydusError } from '../../lib/base/errors.js'
import { temporaryFiles } from '../../lib/base/temporary-files.js'
import type { Io } from '../program.js'
import { typedConfig, type BackendValues } from './backend-option.js'

/** Uploads the file at `path` as the blob `id`; says `sent` of every piece that is on its way, in bytes. */
export type Upload = (id: string, path: string, sent: (bytes: number) => void) => Promise<void>

export const UPLOAD_TYPES = ['oss', 's3', 'registry', 'localfs'] as const

export function uploadFailed(id: string, where: string, error: unknown): NydusError {
  return new NydusError(
    'BUILD_UPLOAD',
    'EIO',
    `blob ${id} could not be uploaded to ${where}: ${explain(error)}`,
    { cause: error },
  )
}

/** Throws CLI_USAGE, CONFIG_*, BACKEND_* for settings that cannot work. */
export async function openUpload(type: string, values: BackendValues, io: Io): Promise<Upload> {
  const config = await typedConfig(type, values, io)
  switch (config.type) {
    case 'localfs':
      return toFolder(config)
    case 'oss':
      return (await import('./upload-oss.js')).toOss(config.oss)
    case 's3':
      return (await import('./upload-s3.js')).toS3(config.s3)
    case 'registry':
      return (await import('./upload-registry.js')).toRegistry(config.registry)
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
      throw uploadFailed(id, target, error)
    } finally {
      temporaryFiles.forget(temporary)
    }
  }
}

/** sha256 of a file, hex. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece as Buffer)
  return hash.digest('hex')
}
