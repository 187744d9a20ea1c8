/** Uploads blobs to Alibaba Cloud OSS, where `openOss` looks for them. */
import type { OssOptions } from '../../lib/backend/backend.js'
import { objectKey } from '../../lib/backend/object-key.js'
import { makeOssSigner, regionOf } from '../../lib/backend/oss-sign.js'
import { uploadAgent } from './upload-agent.js'
import { toStore } from './upload-parts.js'
import type { Upload } from './upload.js'

/** Throws BACKEND_*. */
export function toOss(options: OssOptions): Upload {
  const { bucket_name: bucket, object_prefix: prefix } = options
  const host = options.endpoint.replace(/^https?:\/\//, '').replace(/\/+$/, '')
  const origin = `${options.scheme === 'http' ? 'http' : 'https'}://${bucket}.${host}`
  const region = regionOf(host)
  const signer = makeOssSigner({ id: options.access_key_id, secret: options.access_key_secret, region })
  return toStore({
    where: `oss bucket ${bucket} at ${host}`,
    agent: uploadAgent(options),
    url: id => new URL(`/${objectKey(prefix + id)}`, origin),
    sign: (method, id, query) =>
      signer(region === undefined ? 'v1' : 'v4', method, bucket, prefix + id, new Date(), query),
  })
}
