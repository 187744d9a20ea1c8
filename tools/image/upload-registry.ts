/** Uploads blobs to an OCI registry (distribution specification: HEAD, POST, PUT in one piece). */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { request, type Agent, type Dispatcher } from 'undici'
import type { RegistryOptions } from '../../lib/backend/backend.js'
import { RegistryAuth } from '../../lib/backend/registry-auth.js'
import { systemClock } from '../../lib/base/clock.js'
import { uploadAgent } from './upload-agent.js'
import { sha256Of, uploadFailed, type Upload } from './upload.js'

type Method = 'HEAD' | 'POST' | 'PUT'
type Answer = Dispatcher.ResponseData

/** Bytes that are read and sent at once. */
const PIECE = 256 << 10

class Registry {
  readonly #options: RegistryOptions
  readonly #auth: RegistryAuth
  readonly #agent: Agent
  readonly #scope: string
  readonly #origin: string

  constructor(options: RegistryOptions) {
    this.#options = options
    this.#auth = new RegistryAuth(systemClock, Math.random, {
      auth: options.auth,
      registryToken: options.registry_token,
    })
    this.#agent = uploadAgent(options)
    this.#scope = `repository:${options.repo}:pull,push`
    this.#origin = `${options.scheme === 'http' ? 'http' : 'https'}://${options.host}`
  }

  async push(id: string, path: string, sent: (bytes: number) => void): Promise<void> {
    const sum = await sha256Of(path)
    if (sum !== id)
      throw new Error(
        `a registry names blobs by the sha256 of their bytes, ${sum}; build without --blob-id and --features blob-toc`,
      )
    const digest = `sha256:${id}`
    const base = `${this.#origin}/v2/${this.#options.repo}/blobs`
    const known = await this.#ask('HEAD', new URL(`${base}/${digest}`))
    if (known.statusCode === 200) return
    const begun = await this.#ask('POST', new URL(`${base}/uploads/`))
    const location = begun.headers['location']
    if (begun.statusCode !== 202 || typeof location !== 'string')
      throw await refused('start of the upload', begun)
    const target = new URL(location, this.#origin)
    target.searchParams.set('digest', digest)
    const stored = await this.#ask('PUT', target, { path, sent })
    if (stored.statusCode !== 201) throw await refused('upload', stored)
    await stored.body.dump()
  }

  close(): Promise<void> {
    return this.#agent.close()
  }

  /** Asks once more with credentials when the registry wants them. */
  async #ask(
    method: Method,
    url: URL,
    blob?: { path: string; sent: (bytes: number) => void },
  ): Promise<Answer> {
    const send = async (asked: {
      method: string
      url: URL
      headers: Readonly<Record<string, string>>
      body?: string
    }) => {
      const answer = await request(asked.url, {
        method: asked.method,
        headers: asked.headers,
        dispatcher: this.#agent,
        ...(asked.body === undefined ? {} : { body: asked.body }),
      })
      return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() }
    }
    const way = { via: 'direct', send, signal: new AbortController().signal }
    for (let again = false; ; again = true) {
      const sent = await this.#auth.authorization(this.#origin, this.#scope, way)
      const answer = await request(url, {
        method,
        dispatcher: this.#agent,
        headers: {
          ...(sent === undefined ? {} : { authorization: sent }),
          ...(blob === undefined
            ? {}
            : {
                'content-type': 'application/octet-stream',
                'content-length': String((await stat(blob.path)).size),
              }),
        },
        ...(blob === undefined ? {} : { body: Readable.from(pieces(blob.path, blob.sent)) }),
      })
      if (answer.statusCode !== 401 || again) return answer
      const challenge = answer.headers['www-authenticate']
      await answer.body.dump()
      if (!(await this.#auth.challenged(this.#origin, this.#scope, challenge, sent, way))) return answer
    }
  }
}

async function* pieces(path: string, sent: (bytes: number) => void): AsyncGenerator<Buffer> {
  for await (const part of createReadStream(path, { highWaterMark: PIECE })) {
    yield part as Buffer
    sent((part as Buffer).length)
  }
}

async function refused(what: string, answer: Answer): Promise<Error> {
  const text = (await answer.body.text().catch(() => '')).slice(0, 300).trim()
  return new Error(`${what} was answered with status ${answer.statusCode}${text === '' ? '' : `: ${text}`}`)
}

/** Throws BACKEND_CA_INVALID. */
export function toRegistry(options: RegistryOptions): Upload {
  const registry = new Registry(options)
  return async (id, path, sent) => {
    try {
      await registry.push(id, path, sent)
    } catch (error) {
      throw uploadFailed(id, `${options.host}/${options.repo}`, error)
    } finally {
      await registry.close()
    }
  }
}
