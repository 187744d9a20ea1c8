/** Uploads blobs to an OCI registry (distribution specification: HEAD, POST, PUT in one piece). */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Agent, request, type Dispatcher } from 'undici'
import type { RegistryOptions } from '../../lib/backend/backend.js'
import { RegistryAuth } from '../../lib/backend/registry-auth.js'
import { systemClock } from '../../lib/base/clock.js'
import { explain, NydusError } from '../../lib/base/errors.js'
import type { Upload } from './upload.js'

type Method = 'HEAD' | 'POST' | 'PUT'
type Answer = Dispatcher.ResponseData

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
    // An upload may take hours; a server that says nothing is given up after undici's default of minutes.
    this.#agent = new Agent({ connect: { rejectUnauthorized: !options.skip_verify } })
    this.#scope = `repository:${options.repo}:pull,push`
    this.#origin = `${options.scheme === 'http' ? 'http' : 'https'}://${options.host}`
  }

  async push(id: string, path: string): Promise<void> {
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
    const stored = await this.#ask('PUT', target, path)
    if (stored.statusCode !== 201) throw await refused('upload', stored)
    await stored.body.dump()
  }

  close(): Promise<void> {
    return this.#agent.close()
  }

  /** Asks once more with credentials when the registry wants them. */
  async #ask(method: Method, url: URL, path?: string): Promise<Answer> {
    const { signal } = new AbortController()
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
    for (let again = false; ; again = true) {
      const sent = await this.#auth.authorization(this.#origin, this.#scope, send, signal)
      const answer = await request(url, {
        method,
        dispatcher: this.#agent,
        headers: {
          ...(sent === undefined ? {} : { authorization: sent }),
          ...(path === undefined
            ? {}
            : {
                'content-type': 'application/octet-stream',
                'content-length': String((await stat(path)).size),
              }),
        },
        ...(path === undefined ? {} : { body: createReadStream(path) }),
      })
      if (answer.statusCode !== 401 || again) return answer
      const challenge = answer.headers['www-authenticate']
      await answer.body.dump()
      if (!(await this.#auth.challenged(this.#origin, this.#scope, challenge, sent, send, signal)))
        return answer
    }
  }
}

async function refused(what: string, answer: Answer): Promise<Error> {
  const text = (await answer.body.text().catch(() => '')).slice(0, 300).trim()
  return new Error(`${what} was answered with status ${answer.statusCode}${text === '' ? '' : `: ${text}`}`)
}

export function toRegistry(options: RegistryOptions): Upload {
  return async (id, path) => {
    const registry = new Registry(options)
    try {
      await registry.push(id, path)
    } catch (error) {
      throw new NydusError(
        'BUILD_UPLOAD',
        'EIO',
        `blob ${id} could not be uploaded to ${options.host}/${options.repo}: ${explain(error)}`,
        { cause: error },
      )
    } finally {
      await registry.close()
    }
  }
}
