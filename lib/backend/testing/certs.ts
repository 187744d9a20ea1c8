import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface Certs {
  /** PEM files. */
  readonly ca: string
  readonly cert: string
  readonly key: string
  /** A server whose certificate the CA did not sign. */
  readonly selfSigned: { readonly cert: string; readonly key: string }
}

/** A private CA and a certificate of it for localhost and 127.0.0.1, made by openssl in `dir`. */
export async function makeCerts(dir: string): Promise<Certs> {
  const file = (name: string) => join(dir, name)
  const openssl = (...args: string[]) => run('openssl', args, { cwd: dir })
  await writeFile(
    file('server.ext'),
    'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n',
  )
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  await openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-days',
    '2',
    '-subj',
    '/CN=Test CA',
  )
  await openssl('req', ...key, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=localhost')
  await openssl(
    ...['x509', '-req', '-in', 'server.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'],
    ...['-days', '2', '-extfile', 'server.ext', '-out', 'server.pem'],
  )
  await openssl(
    ...['req', '-x509', ...key, '-keyout', 'self.key', '-out', 'self.pem', '-days', '2'],
    ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
  )
  return {
    ca: file('ca.pem'),
    cert: file('server.pem'),
    key: file('server.key'),
    selfSigned: { cert: file('self.pem'), key: file('self.key') },
  }
}
