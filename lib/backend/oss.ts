import { NydusError } from '../base/errors.js'
import type { BackendConfig, OssOptions } from './backend.js'
import type { Answer, HttpRequest } from './http-exchange.js'
import type { ObjectSource } from './http-visit.js'
import { HttpBackend, type Seams, systemSeams } from './http.js'
import { objectKey } from './object-key.js'
import type { BackendContext } from './open.js'
import { makeOssSigner, type OssSigner, regionOf, type SignatureVersion } from './oss-sign.js'
import { parse } from './route.js'
import { ServerClock } from './server-clock.js'

/** Blobs as objects of Alibaba Cloud OSS: `<scheme>://<bucket>.<endpoint>/<prefix><blob id>`. */
export function openOss(
  config: Extract<BackendConfig, { type: 'oss' }>,
  context: BackendContext,
  seams: Seams = systemSeams,
): HttpBackend {
  const options = config.oss
  return new HttpBackend({
    type: 'oss',
    source: new OssSource(options, seams),
    http: options,
    log: context.log,
    seams,
  })
}

/**
 * Signs with version 4 where the endpoint names its region, as Alibaba Cloud's do, and with version 1 where it does
 * not (private clouds, which know no other). Until a request has been let in, a refusal makes it try the other.
 */
class OssSource implements ObjectSource {
  readonly #options: OssOptions
  readonly #base: URL
  readonly #signer: OssSigner | undefined
  readonly #clock: ServerClock
  #version: SignatureVersion
  /** Versions that may be tried after a refusal. */
  #others: SignatureVersion[]

  /** Throws BACKEND_CONFIG. */
  constructor(options: OssOptions, seams: Seams) {
    const { scheme, endpoint, bucket_name: bucket, access_key_id: id, access_key_secret: secret } = options
    const host = endpoint.replace(/^https?:\/\//, '').replace(/\/+$/, '')
    this.#options = options
    this.#clock = new ServerClock(seams.clock)
    this.#base = parse(`${scheme === 'http' ? 'http' : 'https'}://${bucket}.${host}`, 'oss.endpoint')
    if ((id === '') !== (secret === ''))
      throw new NydusError(
        'BACKEND_CONFIG',
        'EINVAL',
        'oss: only one of access_key_id and access_key_secret is set; set both, or none for a public bucket',
      )
    const region = regionOf(host)
    this.#signer = id === '' ? undefined : makeOssSigner({ id, secret, region })
    this.#version = region === undefined ? 'v1' : 'v4'
    this.#others = region === undefined ? [] : ['v1']
  }

  url(blobId: string): URL {
    return new URL(`/${objectKey(this.#options.object_prefix + blobId)}`, this.#base)
  }

  async sign(request: HttpRequest): Promise<Readonly<Record<string, string>>> {
    if (this.#signer === undefined) return {}
    const key = decodeURIComponent(request.url.pathname.slice(1))
    return this.#signer(this.#version, request.method, this.#options.bucket_name, key, this.#clock.now())
  }

  async refused(_: HttpRequest, answer: Answer): Promise<boolean> {
    if (this.#signer === undefined) return false
    if (this.#clock.corrected(answer)) return true
    // A HEAD is refused without a body, so without a reason.
    if (
      answer.text !== '' &&
      !/<Code>(SignatureDoesNotMatch|InvalidArgument|AccessDenied)</.test(answer.text)
    )
      return false
    const other = this.#others.pop()
    if (other === undefined) return false
    this.#version = other
    return true
  }

  accepted(): void {
    this.#others = []
  }
}
