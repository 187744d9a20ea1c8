import aws4 from 'aws4'
import { NydusError } from '../base/errors.js'
import type { BackendConfig, S3Options } from './backend.js'
import type { Answer, HttpRequest } from './http-exchange.js'
import type { ObjectSource } from './http-visit.js'
import { HttpBackend, type Seams, systemSeams } from './http.js'
import { objectKey } from './object-key.js'
import type { BackendContext } from './open.js'
import { parse } from './route.js'
import { ServerClock } from './server-clock.js'

/** Blobs as objects of S3 or anything that speaks it: path-style URLs, Signature Version 4. */
export function openS3(
  config: Extract<BackendConfig, { type: 's3' }>,
  context: BackendContext,
  seams: Seams = systemSeams,
): HttpBackend {
  const options = config.s3
  return new HttpBackend({
    type: 's3',
    source: new S3Source(options, seams),
    http: options,
    log: context.log,
    seams,
  })
}

class S3Source implements ObjectSource {
  readonly #options: S3Options
  readonly #base: URL
  readonly #clock: ServerClock

  /** Throws BACKEND_CONFIG. */
  constructor(options: S3Options, seams: Seams) {
    const { scheme, endpoint, region, access_key_id: id, access_key_secret: secret } = options
    const host = endpoint === '' ? `s3.${region}.amazonaws.com` : endpoint.replace(/\/+$/, '')
    this.#options = options
    this.#clock = new ServerClock(seams.clock)
    this.#base = parse(
      /^https?:\/\//.test(host) ? host : `${scheme === 'http' ? 'http' : 'https'}://${host}`,
      's3.endpoint',
    )
    if ((id === '') !== (secret === ''))
      throw new NydusError(
        'BACKEND_CONFIG',
        'EINVAL',
        's3: only one of access_key_id and access_key_secret is set; set both, or none for a public bucket',
      )
  }

  url(blobId: string): URL {
    const { bucket_name: bucket, object_prefix: prefix } = this.#options
    const path = this.#base.pathname.replace(/\/+$/, '')
    return new URL(`${this.#base.origin}${path}/${bucket}/${objectKey(prefix + blobId)}`)
  }

  async sign(request: HttpRequest): Promise<Readonly<Record<string, string>>> {
    const { region, access_key_id: accessKeyId, access_key_secret: secretAccessKey } = this.#options
    if (accessKeyId === '') return {}
    const signed = aws4.sign(
      {
        service: 's3',
        region,
        method: request.method,
        host: request.url.host,
        path: request.url.pathname + request.url.search,
        headers: { 'x-amz-date': amzDate(this.#clock.now()) },
      },
      { accessKeyId, secretAccessKey },
    )
    const headers: Record<string, string> = {}
    for (const [name, value] of Object.entries(signed.headers ?? {}))
      // aws4 sets Host and Content-Length as well, which are undici's.
      if (/^(authorization|x-amz-.*)$/i.test(name)) headers[name.toLowerCase()] = String(value)
    return headers
  }

  async refused(_: HttpRequest, answer: Answer): Promise<boolean> {
    return this.#clock.corrected(answer)
  }
}

/** 20260101T000000Z */
function amzDate(date: Date): string {
  return date.toISOString().replaceAll(/[-:]|\.\d+/g, '')
}
