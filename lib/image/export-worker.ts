/** A thread of `export`: reads, decodes and checks its share of the chunks, and writes each where it belongs. */
import { writeSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { openBackend } from '../backend/open.js'
import { explain, NydusError } from '../base/errors.js'
import { silentLog } from '../base/log.js'
import { RafsImage } from '../rafs/image.js'
import { copyChunks, type ExportSaid, type ExportTask } from './export.js'

/** Bytes between two reports of progress. */
const REPORT = 1 << 20

const { bootstrap, backend: config, fd, starts, share } = workerData as ExportTask
const say = (said: ExportSaid): void => parentPort?.postMessage(said)

function put(bytes: Uint8Array, position: number): void {
  try {
    for (let done = 0; done < bytes.length;)
      done += writeSync(fd, bytes, done, bytes.length - done, position + done)
  } catch (error) {
    throw new NydusError('IMAGE_OUTPUT', 'EIO', `cannot write the disk: ${explain(error)}`, { cause: error })
  }
}

async function work(): Promise<void> {
  let stored = 0
  const image = await RafsImage.open({ path: bootstrap, xattrs: false, validate: false })
  const backend = await openBackend(config, { log: silentLog })
  try {
    await copyChunks(image, backend, starts, share, async (bytes, position) => {
      put(bytes, position)
      stored += bytes.length
      if (stored < REPORT) return
      say({ stored })
      stored = 0
    })
  } finally {
    await backend.close()
    await image.close()
  }
  say({ stored })
}

work().catch((error: unknown) => {
  const [code, errno] =
    error instanceof NydusError ? ([error.code, error.errno] as const) : (['EXPORT_THREAD', 'EIO'] as const)
  say({ code, errno, message: explain(error) })
})
