/**
 * versitygw, a real S3 server over a folder. It is not in Debian; built outside of the project by
 * `GOBIN=/opt/peers/bin go install github.com/versity/versitygw/cmd/versitygw@v1.8.0`.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import aws4 from 'aws4'
import type { Certs } from './certs.js'
import { freePort } from './ports.js'
import { findProgram, ServerProcess } from './servers.js'

export const S3_KEYS = { accessKeyId: 'nydus-key', secretAccessKey: 'nydus/secret+key' }
export const S3_REGION = 'eu-test-1'

const program = findProgram('versitygw')

/** Value of tap's `skip` for tests that need the server: why they cannot run, or false. */
export const s3Missing: string | false =
  program === undefined
    ? 'versitygw is not there: GOBIN=/opt/peers/bin go install github.com/versity/versitygw/cmd/versitygw@v1.8.0'
    : false

export interface S3Server {
  readonly server: ServerProcess
  /** A PUT as any S3 client would send it; `path` is percent-encoded. Resolves with the status. */
  readonly put: (path: string, body: Buffer) => Promise<number>
}

/** Starts it over TLS, with its files in `dir`. */
export async function startS3(dir: string, certs: Certs): Promise<S3Server> {
  const port = await freePort()
  const [data, sidecar] = [join(dir, 'data'), join(dir, 'sidecar')]
  for (const folder of [data, sidecar]) mkdirSync(folder, { recursive: true })
  const server = new ServerProcess(port, [
    program ?? 'versitygw',
    ...['--port', `127.0.0.1:${port}`, '--access', S3_KEYS.accessKeyId, '--secret', S3_KEYS.secretAccessKey],
    ...['--region', S3_REGION, '--cert', certs.cert, '--key', certs.key, '--keep-alive'],
    ...['posix', '--sidecar', sidecar, data],
  ])
  await server.start()
  const ca = readFileSync(certs.ca)
  const put = (path: string, body: Buffer) =>
    new Promise<number>((resolve, reject) => {
      const { headers = {} } = aws4.sign(
        {
          ...{ service: 's3', region: S3_REGION, method: 'PUT', host: server.host, path },
          headers: { 'x-amz-content-sha256': createHash('sha256').update(body).digest('hex') },
        },
        S3_KEYS,
      )
      const put = request({ host: '127.0.0.1', port, path, method: 'PUT', ca, headers }, response => {
        response.resume().on('end', () => resolve(response.statusCode ?? 0))
      })
      put.on('error', reject).end(body)
    })
  return { server, put }
}
