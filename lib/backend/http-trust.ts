import { createHash, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls'
import { explain, NydusError } from '../base/errors.js'

/** Where distributions keep the machine's own CA bundle; the first that exists counts. */
const SYSTEM_BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
]

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g

export interface TrustOptions {
  readonly skip_verify: boolean
  readonly ca_cert_files: readonly string[]
}

const contexts = new Map<string, WeakRef<SecureContext>>()

/**
 * Which servers a backend believes over TLS: Node's roots, the machine's bundle, `ca_cert_files`, and the file
 * in NYDUS_EXTRA_CA_CERTS (the launcher puts NODE_EXTRA_CA_CERTS there, which would slow down every start).
 *
 * The files of the configuration are read at once, so that a wrong path fails the mount and not a later read.
 * The context is made at the first TLS connection and shared by all backends that believe the same: parsing
 * 150 certificates takes 30 ms of the yard's time.
 */
export class Trust {
  readonly skipVerify: boolean
  readonly #extra: string[]
  readonly #env: NodeJS.ProcessEnv
  #context: SecureContext | undefined

  /** Throws BACKEND_CA_INVALID. */
  constructor(options: TrustOptions, env: NodeJS.ProcessEnv) {
    this.skipVerify = options.skip_verify
    this.#env = env
    const files = [...options.ca_cert_files]
    const fromEnv = env['NYDUS_EXTRA_CA_CERTS']
    if (fromEnv !== undefined && fromEnv !== '') files.push(fromEnv)
    this.#extra = files.flatMap(certificatesOf)
  }

  get context(): SecureContext {
    this.#context ??= shared(distinct([...rootCertificates, ...this.#system(), ...this.#extra]))
    return this.#context
  }

  #system(): string[] {
    for (const path of [this.#env['SSL_CERT_FILE'] ?? '', ...SYSTEM_BUNDLES]) {
      if (path === '') continue
      try {
        return readFileSync(path, 'utf8').match(CERTIFICATE) ?? []
      } catch {
        // The next distribution's place.
      }
    }
    return []
  }
}

/** Distributions and Node ship the same roots, wrapped at different widths. */
function distinct(certificates: readonly string[]): string[] {
  return [...new Map(certificates.map(pem => [pem.replaceAll(/\s/g, ''), pem])).values()]
}

function shared(ca: string[]): SecureContext {
  const key = createHash('sha256').update(ca.join()).digest('hex')
  const known = contexts.get(key)?.deref()
  if (known !== undefined) return known
  const context = createSecureContext({ ca })
  contexts.set(key, new WeakRef(context))
  return context
}

function certificatesOf(path: string): string[] {
  const refuse = (why: string, cause?: unknown) =>
    new NydusError(
      'BACKEND_CA_INVALID',
      'EINVAL',
      `CA file ${path} (ca_cert_files or NYDUS_EXTRA_CA_CERTS) ${why}; it must hold PEM certificates`,
      { cause },
    )
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw refuse(`cannot be read: ${explain(error)}`, error)
  }
  const found: string[] = text.match(CERTIFICATE) ?? []
  if (found.length === 0) throw refuse('holds no certificate')
  for (const [i, pem] of found.entries()) {
    try {
      void new X509Certificate(pem)
    } catch (error) {
      throw refuse(`is damaged: certificate ${i + 1} of ${found.length}: ${explain(error)}`, error)
    }
  }
  return found
}
