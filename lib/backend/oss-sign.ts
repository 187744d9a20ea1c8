/**
 * Signatures of Alibaba Cloud OSS in the Authorization header, by ali-oss. In the header and not in the URL, so
 * that URLs stay the same from request to request and a P2P proxy recognises the object.
 */
import OSS from 'ali-oss'
import { NydusError } from '../base/errors.js'

export type SignatureVersion = 'v1' | 'v4'

/** Headers that authorise `method` on `bucket`/`key` at `date`; `query` has what the URL has, '' for no value. */
export type OssSigner = (
  version: SignatureVersion,
  method: string,
  bucket: string,
  key: string,
  date: Date,
  query?: Readonly<Record<string, string>>,
) => Record<string, string>

/** The part of ali-oss's client that signs; its typings leave it out. */
interface SigningClient {
  authorization(
    method: string,
    resource: string,
    subresources: Readonly<Record<string, string>>,
    headers: Readonly<Record<string, string>>,
  ): string
  authorizationV4(
    method: string,
    request: {
      readonly headers: Readonly<Record<string, string>>
      readonly queries: Readonly<Record<string, string | null>>
    },
    bucket: string,
    key: string,
  ): string
}

function canSign(client: object): client is SigningClient {
  return (
    'authorization' in client &&
    typeof client.authorization === 'function' &&
    'authorizationV4' in client &&
    typeof client.authorizationV4 === 'function'
  )
}

export function makeOssSigner(account: {
  readonly id: string
  readonly secret: string
  /** Without it there is no version 4. */
  readonly region: string | undefined
}): OssSigner {
  const client: object = new OSS({
    accessKeyId: account.id,
    accessKeySecret: account.secret,
    ...(account.region !== undefined && { region: account.region }),
  })
  if (!canSign(client))
    throw new NydusError(
      'BACKEND_OSS_LIBRARY',
      'ENOSYS',
      'the installed ali-oss cannot sign headers; install the version that package-lock.json names',
    )
  return (version, method, bucket, key, date, query = {}) => {
    if (version === 'v1') {
      // buildCanonicalString of ali-oss wants the content type to be there, even when it is none.
      const headers = { 'x-oss-date': date.toUTCString() }
      const authorization = client.authorization(method, `/${bucket}/${key}`, query, {
        ...headers,
        'content-type': '',
      })
      return { ...headers, authorization }
    }
    const headers = {
      'x-oss-date': date.toISOString().replaceAll(/[-:]|\.\d+/g, ''),
      'x-oss-content-sha256': 'UNSIGNED-PAYLOAD',
    }
    // null is a parameter without a value.
    const queries = Object.fromEntries(
      Object.entries(query).map(([name, value]) => [name, value === '' ? null : value]),
    )
    return { ...headers, authorization: client.authorizationV4(method, { headers, queries }, bucket, key) }
  }
}

/** `cn-hangzhou` of `oss-cn-hangzhou-internal.aliyuncs.com`; undefined when the endpoint names no region. */
export function regionOf(endpoint: string): string | undefined {
  return /^oss-(?!accelerate)([a-z0-9-]+?)(-internal)?\.[^/]+$/.exec(endpoint)?.[1]
}
