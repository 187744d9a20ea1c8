/**
 * Uploads to object stores that speak the requests of S3, as OSS does, too (Amazon S3 API reference: PutObject,
 * CreateMultipartUpload, UploadPart, CompleteMultipartUpload): small blobs in one request, others in parts, each tried again when
 * it fails, so that one broken connection costs one part.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { request, type Agent } from 'undici'
import { uploadFailed, type Upload } from './upload.js'

/** Bytes of a part, at least; stores take no more than MAX_PARTS of them. */
const PART = 16 << 20
const MAX_PARTS = 10_000
/** Attempts at a request, and milliseconds of pause behind the first; more behind later ones. */
const ATTEMPTS = 4
const PAUSE_MS = 300
const NOTHING = new Uint8Array(0)

/** Query parameters by their names; '' for those without a value. */
export type Query = Readonly<Record<string, string>>

/** A bucket, as far as stores differ. */
export interface Store {
  /** For messages: kind, bucket and host. */
  readonly where: string
  readonly agent: Agent
  /** Of the object of a blob, without a query. */
  url(id: string): URL
  /** Headers that authorise a request for the object of `id`. */
  sign(method: string, id: string, query: Query, body: Uint8Array): Readonly<Record<string, string>>
}

interface Answer {
  readonly status: number
  readonly etag: string
  readonly text: string
}

class Session {
  readonly #store: Store
  readonly #id: string

  constructor(store: Store, id: string) {
    this.#store = store
    this.#id = id
  }

  /** One request, and again when the server or the way to it is at fault. Throws when it is refused. */
  async ask(method: 'PUT' | 'POST' | 'DELETE', query: Query, body: Uint8Array): Promise<Answer> {
    for (let attempt = 1; ; attempt++) {
      const answer = await this.#send(method, query, body).catch((error: unknown) => {
        if (attempt === ATTEMPTS) throw error
        return undefined
      })
      if (answer !== undefined && answer.status < 300) return answer
      const passes =
        answer === undefined || answer.status >= 500 || answer.status === 408 || answer.status === 429
      if (answer !== undefined && (!passes || attempt === ATTEMPTS))
        throw new Error(`${method} was answered with status ${answer.status}${reasonOf(answer.text)}`)
      await new Promise(resolve => setTimeout(resolve, PAUSE_MS * attempt))
    }
  }

  async #send(method: 'PUT' | 'POST' | 'DELETE', query: Query, body: Uint8Array): Promise<Answer> {
    const url = this.#store.url(this.#id)
    url.search = new URLSearchParams(query).toString()
    const answer = await request(url, {
      method,
      headers: { ...this.#store.sign(method, this.#id, query, body) },
      body,
      dispatcher: this.#store.agent,
    })
    const { etag } = answer.headers
    return {
      status: answer.statusCode,
      etag: typeof etag === 'string' ? etag : '',
      text: await answer.body.text(),
    }
  }
}

/** What an answer in XML says is wrong, in one line. */
function reasonOf(text: string): string {
  const said = ['Code', 'Message'].flatMap(tag => new RegExp(`<${tag}>([^<]*)<`).exec(text)?.[1] ?? [])
  const reason = said.length > 0 ? said.join(': ') : text.replaceAll(/\s+/g, ' ').slice(0, 300).trim()
  return reason === '' ? '' : ` (${reason})`
}

async function piece(file: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  for (let done = 0; done < length;) {
    const { bytesRead } = await file.read(bytes, done, length - done, offset + done)
    if (bytesRead === 0) throw new Error('the blob became shorter while it was uploaded')
    done += bytesRead
  }
  return bytes
}

async function inParts(
  session: Session,
  file: FileHandle,
  size: number,
  sent: (bytes: number) => void,
): Promise<void> {
  const begun = await session.ask('POST', { uploads: '' }, NOTHING)
  const uploadId = /<UploadId>([^<]+)</.exec(begun.text)?.[1]
  if (uploadId === undefined) throw new Error(`the store began no upload${reasonOf(begun.text)}`)
  try {
    const length = Math.max(PART, Math.ceil(size / MAX_PARTS))
    const parts: string[] = []
    for (let offset = 0; offset < size; offset += length) {
      const bytes = await piece(file, offset, Math.min(length, size - offset))
      const partNumber = String(parts.length + 1)
      const { etag } = await session.ask('PUT', { partNumber, uploadId }, bytes)
      parts.push(`<Part><PartNumber>${partNumber}</PartNumber><ETag>${etag}</ETag></Part>`)
      sent(bytes.length)
    }
    const list = Buffer.from(`<CompleteMultipartUpload>${parts.join('')}</CompleteMultipartUpload>`)
    const done = await session.ask('POST', { uploadId }, list)
    // S3 begins its answer before it knows the end: a failure may come with status 200.
    if (done.text.includes('<Error>'))
      throw new Error(`the store did not join the parts${reasonOf(done.text)}`)
  } catch (error) {
    // Parts that nobody will complete would be paid for.
    await session.ask('DELETE', { uploadId }, NOTHING).catch(() => undefined)
    throw error
  }
}

export function toStore(store: Store): Upload {
  return async (id, path, sent) => {
    const session = new Session(store, id)
    const file = await open(path)
    try {
      const { size } = await file.stat()
      if (size > PART) await inParts(session, file, size, sent)
      else {
        await session.ask('PUT', {}, await piece(file, 0, size))
        sent(size)
      }
    } catch (error) {
      throw uploadFailed(id, store.where, error)
    } finally {
      await file.close()
      await store.agent.close()
    }
  }
}
