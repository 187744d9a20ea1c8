/**
 * A stand-in for Alibaba Cloud's OSS that verifies signatures as published ("Signature version 1" and "Include a V4
 * signature in the Authorization header" in the OSS API reference), written without the library that signs.
 */
import { createHash, createHmac } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Hook, serveBlob } from './blob-server.js'

export interface OssBucket {
  readonly name: string
  readonly keyId: string
  readonly secret: string
  /** By their keys; uploads are put here. */
  readonly objects: Map<string, Buffer>
}

/** Query parameters that are part of what signature version 1 signs. */
const SUBRESOURCES: ReadonlySet<string> = new Set(['uploads', 'uploadId', 'partNumber'])

/** OSS refuses requests whose clock is further off than this. */
const MAX_SKEW_MS = 900_000

const hmac = (algorithm: string, key: string | Buffer, text: string) =>
  createHmac(algorithm, key).update(text)

/** Percent-encoding of the V4 canonical URI: all but unreserved characters and `/`. */
function canonical(text: string): string {
  return [...Buffer.from(text)]
    .map(byte => {
      const c = String.fromCharCode(byte)
      return /[A-Za-z0-9\-._~/]/.test(c) ? c : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
    })
    .join('')
}

function etagOf(body: Buffer): string {
  return `"${createHash('md5').update(body).digest('hex').toUpperCase()}"`
}

export class OssStore {
  readonly #bucket: OssBucket
  /** What it accepts. */
  versions: readonly ('v1' | 'v4')[] = ['v1', 'v4']
  /** Its clock, in milliseconds since 1970. */
  now: () => number = Date.now
  /** Form of the signature of each request for an object that there is. */
  readonly used: ('v1' | 'v4' | 'none')[] = []
  /** Multipart uploads that are neither complete nor aborted: parts by their number. */
  readonly uploads = new Map<string, Map<number, Buffer>>()
  /** Parts that are refused before one is taken. */
  failingParts = 0
  #serial = 0

  constructor(bucket: OssBucket) {
    this.#bucket = bucket
  }

  /** For a BlobServer: answers everything. */
  readonly hook: Hook = (request, response) => {
    const { authorization = '', host = '' } = request.headers
    const key = decodeURIComponent(new URL(request.url ?? '', 'http://x').pathname.slice(1))
    const object = this.#bucket.objects.get(key)
    const refuse = (status: number, code: string) => this.#refuse(request, response, status, code)
    if (!host.startsWith(`${this.#bucket.name}.`)) return refuse(404, 'NoSuchBucket')
    const reads = request.method === 'GET' || request.method === 'HEAD'
    if (reads && object === undefined) return refuse(404, 'NoSuchKey')
    const version = authorization.startsWith('OSS4-') ? 'v4' : 'v1'
    this.used.push(authorization === '' ? 'none' : version)
    if (authorization === '') return refuse(403, 'AccessDenied')
    if (!this.versions.includes(version)) return refuse(400, 'InvalidArgument')
    const text = String(request.headers['x-oss-date'])
    const date = Date.parse(
      version === 'v1' ? text : text.replace(/^(....)(..)(..T..)(..)(..Z)$/, '$1-$2-$3:$4:$5'),
    )
    if (!(Math.abs(date - this.now()) < MAX_SKEW_MS)) return refuse(403, 'RequestTimeTooSkewed')
    const expected = version === 'v1' ? this.#versionOne(request, key) : this.#versionFour(request, key, host)
    if (authorization !== expected) return refuse(403, 'SignatureDoesNotMatch')
    if (object !== undefined && reads) serveBlob(object, request, response)
    // A client that gives up in the middle has stored nothing.
    else this.#write(request, response, key).catch(() => response.destroy())
    return true
  }

  /** PutObject, and the requests of a multipart upload. */
  async #write(request: IncomingMessage, response: ServerResponse, key: string): Promise<void> {
    const pieces: Buffer[] = []
    for await (const piece of request) if (Buffer.isBuffer(piece)) pieces.push(piece)
    const body = Buffer.concat(pieces)
    const query = new URL(request.url ?? '', 'http://x').searchParams
    const id = query.get('uploadId') ?? ''
    const parts = this.uploads.get(id)
    const answer = (text = ''): void => void response.writeHead(200, { etag: etagOf(body) }).end(text)
    const refuse = (status: number, code: string): true => this.#refuse(request, response, status, code)
    if (request.method === 'POST' && query.has('uploads')) {
      const name = `upload-${++this.#serial}`
      this.uploads.set(name, new Map())
      answer(`<InitiateMultipartUploadResult><UploadId>${name}</UploadId></InitiateMultipartUploadResult>`)
    } else if (request.method === 'PUT' && id === '') {
      this.#bucket.objects.set(key, body)
      answer()
    } else if (parts === undefined) refuse(404, 'NoSuchUpload')
    else if (request.method === 'PUT') {
      if (this.failingParts > 0) {
        this.failingParts--
        refuse(503, 'ServiceBusy')
        return
      }
      parts.set(Number(query.get('partNumber')), body)
      answer()
    } else if (request.method === 'POST') {
      const listed = [...body.toString().matchAll(/<PartNumber>(\d+)<\/PartNumber>\s*<ETag>([^<]*)</g)]
      const right = listed.every(([, part, tag]) => etagOf(parts.get(Number(part)) ?? Buffer.of()) === tag)
      if (!right || listed.length !== parts.size) {
        refuse(400, 'InvalidPart')
        return
      }
      this.#bucket.objects.set(
        key,
        Buffer.concat(listed.map(([, part]) => parts.get(Number(part)) ?? Buffer.of())),
      )
      this.uploads.delete(id)
      answer('<CompleteMultipartUploadResult/>')
    } else {
      this.uploads.delete(id)
      response.writeHead(204).end()
    }
  }

  #refuse(request: IncomingMessage, response: ServerResponse, status: number, code: string): true {
    response.writeHead(status, {
      date: new Date(this.now()).toUTCString(),
      'content-type': 'application/xml',
    })
    const body = `<?xml version="1.0"?><Error><Code>${code}</Code></Error>`
    response.end(request.method === 'HEAD' ? undefined : body)
    return true
  }

  /** Signature version 1: what the Authorization header must be. */
  #versionOne(request: IncomingMessage, key: string): string {
    const { name, keyId, secret } = this.#bucket
    const ossHeaders = Object.entries(request.headers)
      .filter(([header]) => header.startsWith('x-oss-'))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([header, value]) => `${header}:${String(value).trim()}\n`)
      .join('')
    const subresources = [...new URL(request.url ?? '', 'http://x').searchParams]
      .filter(([parameter]) => SUBRESOURCES.has(parameter))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([parameter, value]) => (value === '' ? parameter : `${parameter}=${value}`))
    const resource = [`/${name}/${key}`, ...(subresources.length === 0 ? [] : [subresources.join('&')])].join(
      '?',
    )
    const text = [
      request.method,
      request.headers['content-md5'] ?? '',
      request.headers['content-type'] ?? '',
      request.headers['x-oss-date'] ?? request.headers.date,
      `${ossHeaders}${resource}`,
    ].join('\n')
    return `OSS ${keyId}:${hmac('sha1', secret, text).digest('base64')}`
  }

  /** Signature version 4: what the Authorization header must be. */
  #versionFour(request: IncomingMessage, key: string, host: string): string {
    const { name, keyId, secret } = this.#bucket
    const region = /^[^.]+\.oss-([a-z0-9-]+?)(-internal)?\./.exec(host)?.[1] ?? 'none'
    const date = String(request.headers['x-oss-date'])
    const day = date.slice(0, 8)
    const signed = Object.keys(request.headers)
      .filter(header => header === 'content-type' || header === 'content-md5' || header.startsWith('x-oss-'))
      .sort()
    const canonicalRequest = [
      request.method,
      canonical(`/${name}/${key}`),
      [...new URL(request.url ?? '', 'http://x').searchParams]
        .map(([parameter, value]) => canonical(parameter) + (value === '' ? '' : `=${canonical(value)}`))
        .sort()
        .join('&'),
      ...signed.map(header => `${header}:${String(request.headers[header]).trim()}`),
      '',
      '',
      request.headers['x-oss-content-sha256'],
    ].join('\n')
    const scope = `${day}/${region}/oss/aliyun_v4_request`
    const digest = createHash('sha256').update(canonicalRequest).digest('hex')
    let signing = hmac('sha256', `aliyun_v4${secret}`, day).digest()
    for (const part of [region, 'oss', 'aliyun_v4_request']) signing = hmac('sha256', signing, part).digest()
    const text = `OSS4-HMAC-SHA256\n${date}\n${scope}\n${digest}`
    const signature = hmac('sha256', signing, text).digest('hex')
    return `OSS4-HMAC-SHA256 Credential=${keyId}/${scope},Signature=${signature}`
  }
}
