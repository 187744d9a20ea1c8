/** Uploads blobs to S3 or anything that speaks it, where `openS3` looks for them. */
import { createHash } from 'node:crypto'
import aws4 from 'aws4'
import type { S3Options } from '../../lib/backend/backend.js'
import { objectKey } from '../../lib/backend/object-key.js'
import { uploadAgent } from './upload-agent.js'
import { toStore } from './upload-parts.js'
import type { Upload } from './upload.js'

/** Throws BACKEND_CA_INVALID. */
export function toS3(options: S3Options): Upload {
  const { region, access_key_id: accessKeyId, access_key_secret: secretAccessKey } = options
  const given = options.endpoint === '' ? `s3.${region}.amazonaws.com` : options.endpoint
  const base = new URL(
    /^https?:\/\//.test(given) ? given : `${options.scheme === 'http' ? 'http' : 'https'}://${given}`,
  )
  const folder = `${base.pathname.replace(/\/+$/, '')}/${options.bucket_name}/`
  const url = (id: string): URL => new URL(folder + objectKey(options.object_prefix + id), base.origin)
  return toStore({
    where: `s3 bucket ${options.bucket_name} at ${base.host}`,
    agent: uploadAgent(options),
    url,
    sign(method, id, query, body) {
      const search = new URLSearchParams(query).toString()
      const { headers = {} } = aws4.sign(
        {
          ...{ service: 's3', region, method, host: base.host },
          path: url(id).pathname + (search === '' ? '' : `?${search}`),
          headers: { 'x-amz-content-sha256': createHash('sha256').update(body).digest('hex') },
        },
        { accessKeyId, secretAccessKey },
      )
      // aws4 sets Host and Content-Length as well, which are undici's.
      const signed = Object.entries(headers).filter(([name]) => /^(authorization|x-amz-.*)$/i.test(name))
      return Object.fromEntries(signed.map(([name, value]) => [name.toLowerCase(), String(value)]))
    },
  })
}
